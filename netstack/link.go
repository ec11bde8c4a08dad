package netstack

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link is the stack's link endpoint: a point-to-point interface without a link
// layer header. Frames get theirs in Fill, in the buffer they are sent from.
//
// Checksums are end to end, and TLS protects the packets only as far as the VPN
// server, so all are verified: those of plain TCP segments here, before they
// are merged (a merged packet has no valid one), all others by the stack. It
// asks the link's capabilities for each packet, so the link says of each
// whether that was done.
type link struct {
	out        *egress
	received   atomic.Uint64 // packets given to Deliver
	verified   atomic.Bool   // the packet being injected needs no check
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

// gsoMaxSize is the largest TCP packet that the stack hands down uncut.
const gsoMaxSize = 65000

// SupportedGSO says that packets longer than the MTU are cut below the stack,
// see cutter.
func (l *link) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// GSOMaxSize is the longest of them in octets.
func (l *link) GSOMaxSize() uint32 { return gsoMaxSize }

// WritePackets queues packets for Fill. It blocks while there is no room for
// TCP data; see egress. IncRef suffices, a clone is not needed: every
// transmission has a packet buffer of its own (gVisor's
// sender.sendSegmentFromPacketBuffer clones for that), and nothing changes it
// after WritePackets.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for i, pkt := range pkts.AsSlice() {
		if err := l.out.push(pkt); err != nil {
			return i, err
		}
	}
	return pkts.Len(), nil
}

// inject hands a received packet to the stack. The packet is consumed.
func (l *link) inject(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	defer pkt.DecRef()
	if d := l.dispatcher.Load(); d != nil {
		(*d).DeliverNetworkPacket(proto, pkt)
	}
}

// send queues an IP packet made by this package.
func (l *link) send(packet []byte) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
	defer pkt.DecRef()
	_ = l.out.push(pkt) // fails only when the stack is closed
}

// MTU is the largest IP packet the link carries.
func (l *link) MTU() uint32 { return l.out.mtu.Load() }

// SetMTU changes it.
func (l *link) SetMTU(mtu uint32) { l.out.mtu.Store(mtu) }

// Attach keeps the stack's side; nil when the interface is removed.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

// IsAttached tells whether the interface is part of a stack.
func (l *link) IsAttached() bool { return l.dispatcher.Load() != nil }

// injectVerified injects a packet whose checksums have been verified. The slow
// path may inject at the same time, which does no harm: what it has is
// neither TCP nor UDP (see transport6), and of the rest, ICMP, the stack always
// verifies the checksum, as classify has that of the IPv4 header.
func (l *link) injectVerified(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	l.verified.Store(true)
	l.inject(proto, pkt)
	l.verified.Store(false)
}

// Capabilities tells whether the packet being injected was verified; see link.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	if l.verified.Load() {
		return stack.CapabilityRXChecksumOffload
	}
	return stack.CapabilityNone
}

// MaxHeaderLength is zero: no link layer header is pushed onto packets.
func (l *link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress is empty, as on every point-to-point link.
func (l *link) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress does nothing.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// ARPHardwareType is none.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader does nothing.
func (l *link) AddHeader(*stack.PacketBuffer) {}

// ParseHeader does nothing.
func (l *link) ParseHeader(*stack.PacketBuffer) bool { return true }

// Wait returns at once: the link owns no goroutine.
func (l *link) Wait() {}

// Close wakes every sender that waits for room.
func (l *link) Close() { l.out.close() }

// SetOnCloseAction does nothing.
func (l *link) SetOnCloseAction(func()) {}
