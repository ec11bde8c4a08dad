package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

// TestDrain: when Drain has returned, the link can be taken away without the
// peer missing anything, whoever has closed first.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, peerFirst := range []bool{false, true} {
		w := newWires(t)
		heard := make(chan int, 1)
		c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
			if peerFirst {
				c.(*tcpConn).CloseWrite()
			}
			b, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("the peer read: %v", err)
			}
			heard <- len(b)
		}))
		if peerFirst {
			if _, err := io.ReadAll(c); err != nil {
				t.Fatal(err)
			}
		}
		const size = 1 << 20
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if err := w.a.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.a.LinkDown()
		if n := <-heard; n != size {
			t.Errorf("the peer closed first %v: it got %d octets, want %d", peerFirst, n, size)
		}
	}
}

// TestDrainEnds: a connection that is open, or a peer that answers no more, keeps
// Drain until its context ends.
func TestDrainEnds(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	w.dial(t, "tcp", w.serve(t, "tcp", ":0", echo))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.a.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
