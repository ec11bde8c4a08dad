package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// TestSetLinger: who gives a connection up must not look like one who is done.
func TestSetLinger(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	ended := make(chan error, 1)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
		_, err := io.ReadAll(c)
		ended <- err
	}))
	if _, err := c.Write([]byte("a part")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*tcpConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := <-ended; !errors.Is(err, ErrReset) {
		t.Errorf("the peer read %v, want a reset", err)
	}
	if err := c.(*tcpConn).SetLinger(0); !errors.Is(err, net.ErrClosed) {
		t.Errorf("SetLinger after Close = %v, want closed", err)
	}
}

// TestAcceptAfterReset: a connection that ended before it was accepted has its
// addresses all the same.
func TestAcceptAfterReset(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	l, err := w.b.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c := w.dial(t, "tcp", net.JoinHostPort(addrB.String(), port)).(*tcpConn)
	waitFor(t, "the connection", func() bool { return l.(*listener).ep.Readiness(1) != 0 })
	c.abandon()
	waitFor(t, "the reset", func() bool { return w.b.net.Stats().TCP.ResetsReceived.Value() > 0 })
	got, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if a, ok := got.RemoteAddr().(*net.TCPAddr); !ok || a.String() != c.LocalAddr().String() {
		t.Errorf("RemoteAddr = %v, want %v", got.RemoteAddr(), c.LocalAddr())
	}
	if a, ok := got.LocalAddr().(*net.TCPAddr); !ok || a.String() != c.RemoteAddr().String() {
		t.Errorf("LocalAddr = %v, want %v", got.LocalAddr(), c.RemoteAddr())
	}
}

// TestOrphan: a peer that keeps its window shut must not keep what a closed
// connection still has to send for ever.
func TestOrphan(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	hold := make(chan struct{})
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(net.Conn) { <-hold })).(*tcpConn)
	t.Cleanup(func() { close(hold) })
	payload, n := make([]byte, 64<<20), 0
	for n == 0 { // a machine that is busy may not come to write before the deadline
		c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, _ = c.Write(payload)
	}
	c.closeWithin(300 * time.Millisecond)
	waitFor(t, "the endpoint's end", func() bool { return len(w.a.net.RegisteredEndpoints()) == 0 })
}

// TestConcurrentUse closes a connection under everything else one can do.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	addr := w.serve(t, "tcp", ":0", echo)
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		conn, err := w.a.DialContext(ctx, "tcp", addr)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		c := conn.(*tcpConn)
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(io.Discard, c) })
		wg.Go(func() { c.Write(make([]byte, 1<<20)) })
		wg.Go(func() { c.SetDeadline(time.Now().Add(time.Minute)) })
		wg.Go(func() { c.CloseWrite() })
		wg.Go(func() { c.SetLinger(0) })
		wg.Go(func() { c.Close() })
		wg.Go(func() { c.Close() })
		within(t, 10*time.Second, "the end of all calls", wg.Wait)
	}
}
