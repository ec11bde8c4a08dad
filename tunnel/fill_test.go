package tunnel

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"sstproxy/tunnel/tunneltest"
)

// heldConn keeps what is written to it until it is sent by hand.
type heldConn struct {
	net.Conn
	held bytes.Buffer
	hold bool
}

func (c *heldConn) Write(b []byte) (int, error) {
	if c.hold {
		return c.held.Write(b)
	}
	return c.Conn.Write(b)
}

// fills speaks TLS with a session that does nothing but fill, and returns what
// it reads. The server's octets are held from then on. To be called in a bubble.
func fills(t *testing.T) (server *tls.Conn, below *heldConn, got chan string) {
	t.Helper()
	certificate, err := tunneltest.SelfSigned(tunneltest.GoodLeaf())
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	raw := newBatchConn(near)
	below = &heldConn{Conn: far}
	server = tls.Server(below, &tls.Config{Certificates: []tls.Certificate{*certificate}})
	s := &Session{raw: raw, conn: tls.Client(raw, &tls.Config{InsecureSkipVerify: true})}
	got = make(chan string, 3)
	go func() { // ends with the connection
		for b := make([]byte, readBuffer); ; {
			n, err := s.fill(b)
			got <- string(b[:n])
			if err != nil {
				return
			}
		}
	}()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	below.hold = true
	return server, below, got
}

// wantNow fails the test if what was read is not want, or waits for more.
func wantNow(t *testing.T, got chan string, want string) {
	t.Helper()
	synctest.Wait()
	select {
	case data := <-got:
		if data != want {
			t.Errorf("got %d octets %.20q, want %d %.20q", len(data), data, len(want), want)
		}
	default:
		t.Errorf("%.20q waits for more", want)
	}
}

// TestFillDoesNotWait: what was read is not kept back by a part of a record
// behind it, wherever TLS has its border between the two. Zeros look like the
// header of an empty record at each place.
func TestFillDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, below, got := fills(t)
		server.Write([]byte("data"))
		below.held.Write(append([]byte{23, 3, 3, 0x40, 0}, make([]byte, 8000)...))
		below.Conn.Write(below.held.Bytes())
		wantNow(t, got, "data")
	})
}

// TestFillGoesOn: the rest of a record is read when it is there.
func TestFillGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, below, got := fills(t)
		long := strings.Repeat("long", 3000)
		server.Write([]byte("data"))
		server.Write([]byte("more"))
		first := below.held.Len()
		server.Write([]byte(long))
		b := below.held.Bytes()
		below.Conn.Write(b[:first+3])
		wantNow(t, got, "datamore")
		below.Conn.Write(b[first+3 : first+2000])
		synctest.Wait()
		below.Conn.Write(b[first+2000:])
		wantNow(t, got, long)
	})
}
