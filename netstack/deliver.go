package netstack

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sstproxy/netstack/offload"
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
// source or destination does not fit, are dropped; see Stats.
//
// It should be called by one goroutine, or the order within a flow is lost. It
// never waits for Fill, for a connection's reader or for a lock that
// is held during such a wait: TCP segments are queued for gVisor's workers,
// UDP datagrams go to their sockets, and everything else goes to the slow
// path's goroutine. After Close it does nothing.
func (s *Stack) Deliver(batch [][]byte) {
	if len(batch) == 0 {
		return
	}
	s.link.received.Add(uint64(len(batch)))
	s.heard.Store(int64(s.clock.hear()))
	s.link.out.answered()
	s.deliverMu.Lock()
	defer s.deliverMu.Unlock()
	g := s.guard.Load()
	for _, b := range batch {
		proto, transport, ok := classify(b)
		switch {
		case !ok || !s.admits(g, b, transport):
		case transport == header.TCPProtocolNumber:
			s.deliverTCP(proto, b)
		case transport == header.UDPProtocolNumber:
			s.link.inject(proto, newPacket(buffer.MakeWithData(b)))
		default:
			s.deliverSlow(slowPacket{proto, newPacket(buffer.MakeWithData(b))})
		}
	}
	s.merge.Flush()
}

// deliverTCP merges what it can: the stack's cost is per packet, not per octet.
func (s *Stack) deliverTCP(proto tcpip.NetworkProtocolNumber, b []byte) {
	switch s.merge.Add(b) {
	case offload.Damaged:
		s.away.damaged.Add(1)
	case offload.Foreign:
		s.merge.Flush() // it may belong to an open run's connection
		s.link.inject(proto, newPacket(buffer.MakeWithData(b)))
	}
}

// deliverMerged takes what comes out of merging; its checksums are verified.
func (s *Stack) deliverMerged(p *offload.Packet) {
	if s.late(p) {
		return
	}
	proto := header.IPv4ProtocolNumber
	if p.IPLen == header.IPv6MinimumSize {
		proto = header.IPv6ProtocolNumber
	}
	s.link.injectVerified(proto, newPacket(bufferOf(p)))
}

// bufferOf copies a packet. Headers and payload have a View each: gVisor copies
// the chunk that a header is in when it looks at the header while there is another
// reference to it, as there is on the way to TCP. Both have the exact size: gVisor
// clears the whole of each chunk it hands out.
func bufferOf(p *offload.Packet) buffer.Buffer {
	if len(p.Payload) == 0 {
		return buffer.MakeWithData(p.Header)
	}
	head := buffer.NewViewWithData(p.Header)
	data := buffer.NewView(p.Size - len(p.Header))
	for _, payload := range p.Payload {
		data.Write(payload)
	}
	packet := buffer.MakeWithView(data)
	_ = packet.Prepend(head) // could fail only if data had room before it
	return packet
}

// newPacket makes a packet of a buffer, which it takes over. Its views should be
// as large as what is in them, no larger: gVisor clears and accounts whole
// chunks, and a read buffer kept by one small packet would be memory held for
// nothing.
func newPacket(b buffer.Buffer) *stack.PacketBuffer {
	return stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: b})
}

// classify tells a packet's family and transport protocol. Of an IPv4 packet
// it verifies the header's checksum, which the stack may leave to the link.
func classify(b []byte) (proto tcpip.NetworkProtocolNumber, transport tcpip.TransportProtocolNumber, ok bool) {
	if len(b) == 0 {
		return 0, 0, false
	}
	switch b[0] >> 4 {
	case 4:
		n := int(b[0]&0x0F) * 4
		if n < header.IPv4MinimumSize || len(b) < n || offload.Sum(b[:n], 0) != 0xFFFF {
			return 0, 0, false
		}
		return header.IPv4ProtocolNumber, header.IPv4(b).TransportProtocol(), true
	case 6:
		if len(b) < header.IPv6MinimumSize {
			return 0, 0, false
		}
		transport, ok = transport6(b)
		return header.IPv6ProtocolNumber, transport, ok
	}
	return 0, 0, false
}

// transport6 finds the transport protocol behind the extension headers
// (RFC 8200 4), at most eight of them. A packet that hides it is dropped, the
// stack might find TCP or UDP there after all: "When a host fragments an IPv6
// datagram, it MUST include the entire IPv6 Header Chain in the First Fragment."
// RFC 7112 5
func transport6(b []byte) (transport tcpip.TransportProtocolNumber, ok bool) {
	next, rest := b[6], b[header.IPv6MinimumSize:]
	for range 8 {
		switch header.IPv6ExtensionHeaderIdentifier(next) {
		case header.IPv6HopByHopOptionsExtHdrIdentifier, header.IPv6RoutingExtHdrIdentifier, header.IPv6DestinationOptionsExtHdrIdentifier:
			if len(rest) < 8 || len(rest) < 8+8*int(rest[1]) {
				return 0, false
			}
			next, rest = rest[0], rest[8+8*int(rest[1]):]
		case header.IPv6FragmentExtHdrIdentifier:
			if len(rest) < 8 {
				return 0, false
			}
			if binary.BigEndian.Uint16(rest[2:])>>3 != 0 {
				return tcpip.TransportProtocolNumber(rest[0]), true // what follows is no header
			}
			next, rest = rest[0], rest[8:]
		case header.IPv6ExperimentExtHdrIdentifier:
			return 0, false
		default:
			return tcpip.TransportProtocolNumber(next), true
		}
	}
	return 0, false
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
	patience := time.NewTimer(downLimit)
	patience.Stop()
	defer patience.Stop()
	for {
		select {
		case p := <-s.slow:
			s.handleSlow(nd, p)
		case <-s.linkChanged:
			patience.Stop()
			if !s.state.Load().up {
				patience.Reset(downLimit)
			}
			nd.restart()
			s.resume()
		case <-patience.C:
			s.giveUp()
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
	if shrinks(p) {
		s.away.martian.Add(1)
		p.pkt.DecRef()
		return
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
