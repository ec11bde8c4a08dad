package netstack

import "sync/atomic"

// growth bounds what auto-tuning may add to the receive buffers of all
// connections together. One or a few get all the window a long path needs; many
// at once share it, for what they have buffered in vain falls out of the
// processor's caches: 64 downloads on a short path are a third faster so.
type growth struct {
	begin int64        // size of a buffer that has not grown
	left  atomic.Int64 // octets that may still be added
}

// tune lets the receive buffer grow after a read of n octets; without it the
// window never would.
func (c *tcpConn) tune(n int) {
	if c.stack.growth.left.Load() <= 0 {
		return
	}
	c.ep.ModerateRecvBuf(n)
	c.stack.growth.book(&c.buffer, c.ep.SocketOptions().GetReceiveBufferSize())
	if c.isClosed() {
		c.stack.growth.giveBack(&c.buffer)
	}
}

// book takes note of the size of a buffer.
func (g *growth) book(buffer *atomic.Int64, size int64) {
	if old := buffer.Swap(size); old != size {
		g.left.Add(old - size)
	}
}

// giveBack is for a connection that is closed. It may be repeated.
func (g *growth) giveBack(buffer *atomic.Int64) { g.book(buffer, g.begin) }
