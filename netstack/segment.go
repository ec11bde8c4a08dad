package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// cutter cuts the packet that gVisor hands down for a TCP sender into packets
// of one MSS each (host GSO). It may be left in the middle when a batch is full.
// For every other packet it makes one of the same octets.
type cutter struct {
	pkt  *stack.PacketBuffer // nil: nothing to cut
	view *buffer.View        // holds the next octet
	off  int                 // in view
	left int                 // octets of pkt not yet written

	// Only for TCP with GSO options.
	tcp    bool
	mss    int
	sent   int // octets of payload already cut
	ipLen  int
	hdrLen int
	head   [header.IPv6MinimumSize + header.TCPHeaderMaximumSize]byte
}

// begin takes over a reference to pkt. mtu bounds what is cut from it: the MSS of
// a connection does not follow the link's MTU.
func (c *cutter) begin(pkt *stack.PacketBuffer, mtu int) {
	views, off := pkt.AsViewList()
	c.pkt, c.view, c.off, c.left = pkt, views.Front(), off, pkt.Size()
	gso := &pkt.GSOOptions
	c.tcp = gso.Type == stack.GSOTCPv4 || gso.Type == stack.GSOTCPv6
	if !c.tcp {
		return
	}
	c.hdrLen = c.left - pkt.Data().Size()
	c.mss, c.sent = max(min(int(gso.MSS), mtu-c.hdrLen), 1), 0
	c.ipLen = int(gso.L3HdrLen)
	c.copy(c.head[:c.hdrLen])
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
	return c.hdrLen + min(c.mss, c.left)
}

// next writes the next packet into b, which has size octets, and tells whether
// it was the last one.
func (c *cutter) next(b []byte) (last bool) {
	if !c.tcp {
		c.copy(b)
		return true
	}
	copy(b, c.head[:c.hdrLen])
	c.copy(b[c.hdrLen:])
	c.patch(b, c.left == 0)
	c.sent += len(b) - c.hdrLen
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

// patch writes what differs from packet to packet: lengths, the IPv4
// identification and checksum, the sequence number, FIN and PSH (on the last
// one only) and the TCP checksum.
func (c *cutter) patch(b []byte, last bool) {
	var pseudo uint16
	if b[0]>>4 == 4 {
		ip := header.IPv4(b)
		ip.SetTotalLength(uint16(len(b)))
		ip.SetID(ip.ID() + uint16(c.sent/c.mss))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		pseudo = checksum.Checksum(b[12:20], uint16(header.TCPProtocolNumber))
	} else {
		header.IPv6(b).SetPayloadLength(uint16(len(b) - header.IPv6MinimumSize))
		pseudo = checksum.Checksum(b[8:40], uint16(header.TCPProtocolNumber))
	}
	tcp := b[c.ipLen:]
	seq := binary.BigEndian.Uint32(tcp[header.TCPSeqNumOffset:]) + uint32(c.sent)
	binary.BigEndian.PutUint32(tcp[header.TCPSeqNumOffset:], seq)
	if !last {
		tcp[header.TCPFlagsOffset] &^= uint8(header.TCPFlagFin | header.TCPFlagPsh)
	}
	binary.BigEndian.PutUint16(tcp[header.TCPChecksumOffset:], 0)
	sum := checksum.Combine(pseudo, uint16(len(tcp)))
	binary.BigEndian.PutUint16(tcp[header.TCPChecksumOffset:], ^checksum.Checksum(tcp, sum))
}
