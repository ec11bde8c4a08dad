package tunneltest

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

func TestStallAfter(t *testing.T) {
	s := Stall{Every: 3 * time.Second, For: time.Second}
	for _, tt := range []struct{ at, want time.Duration }{
		{0, 0}, {2999 * time.Millisecond, 2999 * time.Millisecond}, {3 * time.Second, 4 * time.Second},
		{3500 * time.Millisecond, 4 * time.Second}, {4 * time.Second, 4 * time.Second},
		{5 * time.Second, 5 * time.Second}, {6 * time.Second, 7 * time.Second},
	} {
		if got := s.after(tt.at); got != tt.want {
			t.Errorf("after(%v) = %v, want %v", tt.at, got, tt.want)
		}
	}
	if got := (Stall{}).after(time.Hour); got != time.Hour {
		t.Errorf("no stall: after(1h) = %v", got)
	}
}

// dialEcho returns a connection through a relay to an echo service.
func dialEcho(t *testing.T, up, down Path) (net.Conn, *Relay) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	r, err := NewRelay(l.Addr().String(), up, down)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, r
}

// TestRelay: what goes in comes out, in order, and no sooner than the path
// allows. How much later is the machine's business.
func TestRelay(t *testing.T) {
	for name, tt := range map[string]struct {
		up, down Path
		octets   int
		atLeast  time.Duration
	}{
		"bare":  {octets: 1 << 20},
		"delay": {up: Path{Delay: 20 * time.Millisecond}, down: Path{Delay: 30 * time.Millisecond}, octets: 1000, atLeast: 50 * time.Millisecond},
		"rate":  {up: Path{Rate: 8_000_000}, octets: 200_000, atLeast: 190 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := dialEcho(t, tt.up, tt.down)
			sent := make([]byte, tt.octets)
			for i := range sent {
				sent[i] = byte(i * 7)
			}
			start := time.Now()
			go func() { // ends with the last octet
				c.Write(sent)
				c.(*net.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d octets came back, %v, want the %d sent", len(got), err, len(sent))
			}
			if d := time.Since(start); d < tt.atLeast {
				t.Errorf("came back after %v, want at least %v", d, tt.atLeast)
			}
		})
	}
}

// TestRelayStall: what comes during a stall passes at its end.
func TestRelayStall(t *testing.T) {
	stall := Stall{Every: 50 * time.Millisecond, For: 40 * time.Millisecond}
	c, r := dialEcho(t, Path{Stall: stall}, Path{})
	b := make([]byte, 1)
	for time.Since(r.start) < 4*stall.Every {
		sending := time.Since(r.start)
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		if back := time.Since(r.start); back < stall.after(sending) {
			t.Errorf("sent at %v, back at %v, within a stall", sending, back)
		}
	}
}

// TestRelayCut: Cut ends what is open and nothing more; Close ends all.
func TestRelayCut(t *testing.T) {
	c, r := dialEcho(t, Path{}, Path{})
	b := []byte("x")
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	r.Cut()
	if _, err := io.ReadFull(c, b); err == nil {
		t.Error("the connection is still open after Cut")
	}
	again, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(again, b); err != nil {
		t.Errorf("no new connection after Cut: %v", err)
	}
	r.Close()
	if _, err := net.Dial("tcp", r.Addr()); err == nil {
		t.Error("the relay still listens after Close")
	}
}
