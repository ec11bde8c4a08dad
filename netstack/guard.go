package netstack

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"sstproxy/netstack/ndp"
)

// guard knows which addresses are ours, and so which packets fit. The server and
// whoever is behind it may send anything; what does not fit is dropped before
// the stack sees it, and counted by reason. It is replaced, never changed.
type guard struct {
	own4      []uint32
	own6      [][16]byte
	solicited [][16]byte // solicited-node multicast addresses of own6 (RFC 4291 2.7.1)
}

// turnedAway counts packets that do not fit, and segments with a wrong checksum.
type turnedAway struct {
	notOurs, spoofed, martian, damaged atomic.Uint64
}

func newGuard(addrs []netip.Prefix) *guard {
	g := &guard{}
	for _, p := range addrs {
		if p.Addr().Is4() {
			a := p.Addr().As4()
			g.own4 = append(g.own4, binary.BigEndian.Uint32(a[:]))
			continue
		}
		a := p.Addr().As16()
		g.own6 = append(g.own6, a)
		s := [16]byte{0: 0xFF, 1: 0x02, 11: 1, 12: 0xFF}
		copy(s[13:], a[13:])
		g.solicited = append(g.solicited, s)
	}
	return g
}

// admits tells whether a packet that classify has understood fits, and counts
// it if it does not.
func (s *Stack) admits(g *guard, b []byte, transport tcpip.TransportProtocolNumber) bool {
	var c *atomic.Uint64
	if b[0]>>4 == 4 {
		c = g.check4(b, &s.away)
	} else {
		c = g.check6(b, transport == header.ICMPv6ProtocolNumber, &s.away)
	}
	if c != nil {
		c.Add(1)
	}
	return c == nil
}

// check4 returns the counter of what is wrong with an IPv4 packet, nil if
// nothing is.
func (g *guard) check4(b []byte, away *turnedAway) *atomic.Uint64 {
	src, dst := binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:])
	fits := false
	for _, own := range g.own4 {
		if src == own {
			return &away.spoofed
		}
		fits = fits || dst == own
	}
	switch first := src >> 24; {
	case !fits:
		return &away.notOurs
	case first == 0 || first == 127 || first >= 224: // RFC 6890 2.2.2
		return &away.martian
	case b[0]&0x0F > 5 && sourceRouted(b[header.IPv4MinimumSize:int(b[0]&0x0F)*4]):
		return &away.martian
	}
	return nil
}

// sourceRouted tells whether options have a route in them, loose or strict:
// "the default is to drop" them (RFC 7126 4.3, 4.4). Options that cannot be
// read are left to the stack.
func sourceRouted(options []byte) bool {
	for len(options) > 0 {
		switch options[0] {
		case 0: // end of the list
			return false
		case 1: // no operation
			options = options[1:]
			continue
		case 131, 137:
			return true
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return false
		}
		options = options[options[1]:]
	}
	return false
}

// check6 is check4 for IPv6. Neighbour discovery has a multicast destination
// (RFC 4861 4.2, 4.3), and its source may be unspecified.
func (g *guard) check6(b []byte, icmp bool, away *turnedAway) *atomic.Uint64 {
	src, dst := [16]byte(b[8:24]), [16]byte(b[24:40])
	fits := false
	for i, own := range g.own6 {
		if src == own {
			return &away.spoofed
		}
		fits = fits || dst == own || icmp && dst == g.solicited[i]
	}
	switch {
	case !fits && (!icmp || len(g.own6) == 0 || dst != ndp.AllNodes.As16()):
		return &away.notOurs
	case src[0] == 0xFF || isLow(src) && (src != [16]byte{} || !icmp):
		return &away.martian
	}
	return nil
}

// isLow tells whether an address is in ::/96 or ::ffff:0:0/96: unspecified,
// loopback or IPv4 in disguise.
func isLow(a [16]byte) bool {
	return binary.BigEndian.Uint64(a[:]) == 0 &&
		(binary.BigEndian.Uint32(a[8:]) == 0 || binary.BigEndian.Uint32(a[8:]) == 0xFFFF)
}

// The least MTU a router may report. Below that of IPv4, 552 octets as in
// other systems, every packet would be mostly header: it is no router who says
// so. For IPv6: "a node MUST NOT reduce its estimate of the Path MTU below the
// IPv6 minimum link MTU" (RFC 8201 4).
const leastPathMTU4 = 552

// shrinks tells whether a packet is an ICMP message with a path MTU that no
// path has, or could be: in fragments or behind extension headers. gVisor would
// go down to segments of one octet.
func shrinks(p slowPacket) bool {
	view := p.pkt.Data().AsRange().ToView()
	defer view.Release()
	b := view.AsSlice()
	if p.proto == header.IPv4ProtocolNumber {
		return b[9] == uint8(header.ICMPv4ProtocolNumber) &&
			(binary.BigEndian.Uint16(b[6:])&0x3FFF != 0 || shrinks4(b[int(b[0]&0x0F)*4:]))
	}
	transport, _ := transport6(b)
	return transport == header.ICMPv6ProtocolNumber &&
		(b[6] != uint8(header.ICMPv6ProtocolNumber) || shrinks6(b[header.IPv6MinimumSize:]))
}

func shrinks4(m []byte) bool {
	return len(m) >= 8 && header.ICMPv4Type(m[0]) == header.ICMPv4DstUnreachable &&
		header.ICMPv4Code(m[1]) == header.ICMPv4FragmentationNeeded && binary.BigEndian.Uint16(m[6:]) < leastPathMTU4
}

func shrinks6(m []byte) bool {
	return len(m) >= 8 && header.ICMPv6Type(m[0]) == header.ICMPv6PacketTooBig &&
		binary.BigEndian.Uint32(m[4:]) < header.IPv6MinimumMTU
}
