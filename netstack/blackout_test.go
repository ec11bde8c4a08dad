package netstack

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// TestWindowLost: a tunnel that dies in silence takes with it all that is in
// flight, and what is sent again until that is noticed. Whoever sent it must not
// need a timeout for every second segment when it is back.
func TestWindowLost(t *testing.T) {
	w := newWires(t)
	const size, dead = 8 << 20, 2
	got := make(chan int64, 1)
	addr := w.serve(t, "tcp", ":80", func(c net.Conn) {
		n, _ := io.Copy(io.Discard, c)
		got <- n
	})
	timeouts := w.a.net.Stats().TCP.Timeouts
	var passed atomic.Int64
	w.out.setFilter(func(packet []byte) bool {
		return passed.Add(int64(len(packet))) < size/4 || timeouts.Value() > dead
	})
	c, err := w.a.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if n := <-got; n != size {
		t.Errorf("%d octets arrived of %d", n, size)
	}
	if n := timeouts.Value(); n > dead+5 {
		t.Errorf("%d timeouts, %d of them before the way was open again", n, dead+1)
	}
}
