package netstack

import (
	"io"
	"net"
	"testing"
)

// TestGrowth: buffers grow only as long as there is something left, and a
// closed connection gives its share back.
func TestGrowth(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	begin, most, _ := MemoryNormal.limits()
	w.a.growth.left.Store(1) // the first to grow takes it
	all := w.a.growth.left.Load()
	address := w.serve(t, "tcp", ":0", func(c net.Conn) { io.CopyN(c, endless{}, 8<<20) })
	var conns []*tcpConn
	for range 2 {
		c := w.dial(t, "tcp", address).(*tcpConn)
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Fatal(err)
		}
		if size := c.ep.SocketOptions().GetReceiveBufferSize(); size > int64(most) {
			t.Errorf("buffer of %d octets, want at most %d", size, most)
		}
		conns = append(conns, c)
	}
	if left := w.a.growth.left.Load(); left < 1-int64(most) {
		t.Errorf("%d left, so more than one grew", left)
	}
	if conns[0].buffer.Load() > int64(begin) && conns[1].ep.SocketOptions().GetReceiveBufferSize() > int64(begin) {
		t.Error("the second grew although nothing was left")
	}
	for _, c := range conns {
		c.Close()
		c.Close()
	}
	if left := w.a.growth.left.Load(); left != all {
		t.Errorf("%d left after all were closed, want %d", left, all)
	}
}

// endless is a reader of zeros.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
