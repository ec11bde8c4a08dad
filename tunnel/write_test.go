package tunnel

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"

	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// countedConn counts the writes to the connection below.
type countedConn struct {
	net.Conn
	writes int
}

func (c *countedConn) Write(b []byte) (int, error) { c.writes++; return c.Conn.Write(b) }

// written has a session's writer begin when control packets wait in its queue and
// frames for Fill. It returns what the server gets, and in how many writes to TCP.
func written(t *testing.T, control, frames [][]byte) (got []sstp.Packet, writes int) {
	t.Helper()
	certificate, err := tunneltest.SelfSigned(tunneltest.GoodLeaf())
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer far.Close()
	octets := make(chan []byte, 1)
	go func() { // ends with the connection
		// Without tickets: nobody reads them.
		b, _ := io.ReadAll(tls.Server(far, &tls.Config{Certificates: []tls.Certificate{*certificate}, SessionTicketsDisabled: true}))
		octets <- b
	}()
	below := &countedConn{Conn: near}
	raw := newBatchConn(below)
	conn, err := handshakeTLS(t.Context(), raw, TLSConfig{Insecure: true}, nil, "vpn.example.test")
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{raw: raw, conn: conn, stop: make(chan struct{}), writeErr: make(chan error, 1)}
	s.out.init()
	for _, p := range control {
		if err := s.out.add(p); err != nil {
			t.Fatal(err)
		}
	}
	s.open.Store(true)
	s.packets.Store(&Packets{Fill: func(b []byte) (n int) {
		for len(frames) > 0 && n+len(frames[0]) <= len(b) {
			n += copy(b[n:], frames[0])
			frames = frames[1:]
		}
		return n
	}})
	below.writes = 0
	close(s.stop) // heeded when nothing waits
	s.write()
	writes = below.writes
	conn.Close()
	for b := <-octets; len(b) > 0; {
		p, n, err := sstp.ParsePacket(b)
		if err != nil || n == 0 {
			t.Fatalf("%d octets are no whole packet: %v", len(b), err)
		}
		got, b = append(got, p), b[n:]
	}
	return got, writes
}

// ipFrames are n frames of Fill's with IP packets of size octets.
func ipFrames(n, size int) (frames [][]byte) {
	for range n {
		frame := append(make([]byte, Headroom), bytes.Repeat([]byte{0x45}, size)...)
		PutHeader(frame)
		frames = append(frames, frame)
	}
	return frames
}

// TestControlGoesFirst: a control packet does not wait for the data that was there
// before it. The server takes a late answer for none.
func TestControlGoesFirst(t *testing.T) {
	control := [][]byte{
		sstp.Message{Type: sstp.EchoResponse}.Append(nil),
		sstp.Message{Type: sstp.EchoRequest}.Append(nil),
	}
	got, writes := written(t, control, ipFrames(3, 100))
	if len(got) != 5 || writes != 1 {
		t.Fatalf("%d packets in %d writes, want 5 in one", len(got), writes)
	}
	for i, p := range got {
		if want := i < len(control); p.Control != want {
			t.Errorf("packet %d: control %v, want %v", i, p.Control, want)
		}
	}
}

// TestFramesShareAWrite: frames that wait together cost one system call, though
// they are several TLS records.
func TestFramesShareAWrite(t *testing.T) {
	if got, writes := written(t, nil, ipFrames(40, 1400)); len(got) != 40 || writes != 1 {
		t.Errorf("%d packets in %d writes, want 40 in one", len(got), writes)
	}
}
