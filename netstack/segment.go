package netstack

import (
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sstproxy/netstack/offload"
)

// cutter cuts the packet that gVisor hands down for a TCP sender into packets
// of one MSS each (host GSO). It may be left in the middle when a batch is full.
// For every other packet it makes one of the same octets.
type cutter struct {
	pkt  *stack.PacketBuffer // nil: nothing to cut
	view *buffer.View        // holds the next octet
	off  int                 // in view
	left int                 // octets of pkt not yet written
	// wants: a TCP segment that is sent again unless it is acknowledged.
	wants bool

	// Only for TCP with GSO options.
	tcp  bool
	cut  offload.Cut
	head [header.IPv6MinimumSize + header.TCPHeaderMaximumSize]byte
}

// begin takes over a reference to pkt. mtu bounds what is cut from it: the MSS of
// a connection does not follow the link's MTU.
func (c *cutter) begin(pkt *stack.PacketBuffer, mtu int) {
	views, off := pkt.AsViewList()
	c.pkt, c.view, c.off, c.left = pkt, views.Front(), off, pkt.Size()
	c.wants = wantsAck(pkt)
	gso := &pkt.GSOOptions
	c.tcp = gso.Type == stack.GSOTCPv4 || gso.Type == stack.GSOTCPv6
	if !c.tcp {
		return
	}
	hdrLen := c.left - pkt.Data().Size()
	c.cut = offload.NewCut(int(gso.L3HdrLen), hdrLen, offload.TCP, int(gso.MSS), mtu)
	c.copy(c.head[:hdrLen])
}

// wantsAck tells whether a packet is a TCP segment that occupies sequence space.
func wantsAck(pkt *stack.PacketBuffer) bool {
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber {
		return false
	}
	h := header.TCP(pkt.TransportHeader().Slice())
	return pkt.Data().Size() > 0 || len(h) >= header.TCPMinimumSize && h.Flags().Intersects(header.TCPFlagSyn|header.TCPFlagFin)
}

// end gives the reference back.
func (c *cutter) end() {
	c.pkt.DecRef()
	c.pkt, c.view = nil, nil
}

// size is the length of the packet that next will write.
func (c *cutter) size() int {
	if !c.tcp {
		return c.left
	}
	return c.cut.HeaderLen + min(c.cut.Size, c.left)
}

// next writes the next packet into b, which has size octets, and tells whether
// it was the last one.
func (c *cutter) next(b []byte) (last bool) {
	if !c.tcp {
		c.copy(b)
		return true
	}
	n := copy(b, c.head[:c.cut.HeaderLen])
	c.copy(b[n:])
	c.cut.Next(b, c.left == 0)
	return c.left == 0
}

// copy fills b with the next octets of the packet.
func (c *cutter) copy(b []byte) {
	for len(b) > 0 {
		n := copy(b, c.view.AsSlice()[c.off:])
		b, c.off, c.left = b[n:], c.off+n, c.left-n
		if c.off == c.view.Size() {
			c.view, c.off = c.view.Next(), 0
		}
	}
}
