package netstack

import (
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// slowBacklog is how many packets wait for the slow path. All of them may be
// lost by nature (ICMP, neighbour discovery), so what does not fit is dropped.
const slowBacklog = 256

// slowPacket is a received packet that is neither TCP nor UDP.
type slowPacket struct {
	proto tcpip.NetworkProtocolNumber
	pkt   *stack.PacketBuffer
}

// Deliver takes IP packets that arrived on the link, oldest first. The slices
// are borrowed until it returns. Packets that are malformed, or whose
// destination is not an address of ours, are dropped.
//
// It must be called by one goroutine at a time, or the order within a flow is
// lost. It never waits for Fill, for a connection's reader or for a lock that
// is held during such a wait: TCP segments are queued for gVisor's workers,
// UDP datagrams go to their sockets, and everything else goes to the slow
// path's goroutine. After Close it does nothing.
func (s *Stack) Deliver(batch [][]byte) {
	s.link.received.Add(uint64(len(batch)))
	for _, b := range batch {
		proto, slow, ok := classify(b)
		if !ok {
			continue
		}
		// The view is as large as the packet, no larger: gVisor clears and
		// accounts whole chunks, and a read buffer kept by one small packet
		// would be memory held for nothing.
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
			Payload: buffer.MakeWithView(buffer.NewViewWithData(b)),
		})
		if slow {
			s.deliverSlow(slowPacket{proto, pkt})
			continue
		}
		s.link.inject(proto, pkt)
	}
}

// classify tells a packet's family and whether it takes the slow path. Packets
// with extension headers or fragments of anything but UDP and TCP take it:
// there may be an ICMP error in them.
func classify(b []byte) (proto tcpip.NetworkProtocolNumber, slow, ok bool) {
	if len(b) == 0 {
		return 0, false, false
	}
	var transport uint8
	switch b[0] >> 4 {
	case 4:
		if len(b) < header.IPv4MinimumSize {
			return 0, false, false
		}
		proto, transport = header.IPv4ProtocolNumber, header.IPv4(b).Protocol()
	case 6:
		if len(b) < header.IPv6MinimumSize {
			return 0, false, false
		}
		proto, transport = header.IPv6ProtocolNumber, header.IPv6(b).NextHeader()
	default:
		return 0, false, false
	}
	fast := transport == uint8(header.TCPProtocolNumber) || transport == uint8(header.UDPProtocolNumber)
	return proto, !fast, true
}

func (s *Stack) deliverSlow(p slowPacket) {
	select {
	case s.slow <- p:
	default:
		p.pkt.DecRef()
	}
}

// slowLoop handles what may wait for an endpoint's lock, and owns neighbour
// discovery. Close ends it.
func (s *Stack) slowLoop() {
	nd := newDiscovery(s)
	defer nd.stop()
	for {
		select {
		case p := <-s.slow:
			s.handleSlow(nd, p)
		case <-s.linkChanged:
			nd.restart()
		case <-nd.timer.C:
			nd.solicit()
		case <-s.done:
			return
		}
	}
}

func (s *Stack) handleSlow(nd *discovery, p slowPacket) {
	if p.proto == header.IPv6ProtocolNumber {
		view := p.pkt.Data().AsRange().ToView()
		taken := nd.handle(view.AsSlice())
		view.Release()
		if taken {
			p.pkt.DecRef()
			return
		}
	}
	s.link.inject(p.proto, p.pkt)
}

// Ready is signalled when Fill may have something: a channel of capacity one.
// The same channel for the life of the stack; it is never closed.
func (s *Stack) Ready() <-chan struct{} { return s.link.out.ready }

// Fill moves packets to be sent into b: as many whole frames as fit, each
// Config.Headroom octets, written by Config.PutHeader, and an IP packet. It
// returns the number of octets, zero when nothing waits, and never blocks. b
// should hold several frames; a packet that does not fit into all of b is
// dropped.
func (s *Stack) Fill(b []byte) int {
	return s.link.out.fill(b, s.cfg.Headroom, s.cfg.PutHeader)
}
