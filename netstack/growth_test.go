package netstack

import (
	"io"
	"net"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// TestGrowth: buffers grow only as long as there is something left, and a
// closed connection gives its share back.
func TestGrowth(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	begin, hold, _ := MemoryNormal.limits()
	most := receiveBuffer(hold)
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

// TestReceiveBufferGrows: whoever reads whole windows at once gets larger ones.
func TestReceiveBufferGrows(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	address := w.serve(t, "tcp", ":0", func(c net.Conn) { io.Copy(c, endless{}) })
	c := w.dial(t, "tcp", address).(*tcpConn)
	size := c.ep.SocketOptions().GetReceiveBufferSize
	begin, b := size(), make([]byte, 4<<20)
	for range 10 { // the first tell how long a round trip is
		waitFor(t, "a full window", func() bool { return int64(held(t, c)) > begin*4/10 })
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	if n := size(); n <= begin {
		t.Errorf("buffer of %d octets, as in the beginning", n)
	}
}

// TestGrowthWhenClosed: a Close in the middle of reads gives all back, and so does
// a connection that its peer resets.
func TestGrowthWhenClosed(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	all := w.a.growth.left.Load()
	address := w.serve(t, "tcp", ":0", func(c net.Conn) {
		io.CopyN(c, endless{}, 2<<20)
		c.(*tcpConn).SetLinger(0)
	})
	var wg sync.WaitGroup
	for i := range 10 {
		c := w.dial(t, "tcp", address)
		wg.Go(func() {
			defer c.Close()
			if i%2 == 0 {
				io.Copy(io.Discard, c) // until the reset
				return
			}
			wg.Go(func() { io.Copy(io.Discard, c) }) // ends with Close
			io.CopyN(io.Discard, c, int64(i)<<16)
		})
	}
	wg.Wait()
	if left := w.a.growth.left.Load(); left != all {
		t.Errorf("%d left after all were closed, want %d", left, all)
	}
}

// TestHeld: whoever does not read has the peer stop when three quarters of what a
// connection may hold are there. The rest is for what segments cost besides.
func TestHeld(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	_, most, _ := MemorySmall.limits()
	address := w.serve(t, "tcp", ":0", func(c net.Conn) { io.Copy(c, endless{}) })
	c := w.dial(t, "tcp", address).(*tcpConn)
	c.ep.SocketOptions().SetReceiveBufferSize(int64(receiveBuffer(most)), true)
	waitFor(t, "a full window", func() bool { return held(t, c) > most*7/10 })
	probed := w.back.frames.Load() + 2 // a closed window is asked about now and then
	waitFor(t, "the peer to ask for more", func() bool { return w.back.frames.Load() >= probed })
	if n := held(t, c); n > most*3/4 {
		t.Errorf("%d octets wait, want at most three quarters of %d", n, most)
	}
}

// held is how many octets wait to be read from a connection.
func held(t *testing.T, c *tcpConn) int {
	t.Helper()
	n, terr := c.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if terr != nil {
		t.Fatal(terr)
	}
	return n
}

// endless is a reader of zeros.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
