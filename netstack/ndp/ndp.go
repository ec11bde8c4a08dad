// Package ndp is the wire format of neighbour discovery (RFC 4861) as a host on a
// point-to-point link needs it, where there are no link-layer addresses: what it
// hears are router advertisements and neighbour solicitations, what it says are
// router solicitations and neighbour advertisements.
//
// It does no I/O and keeps no state. Packets are IPv6 packets, headers included.
package ndp

import (
	"encoding/binary"
	"net/netip"

	"sstproxy/netstack/offload"
)

// The link-local prefix and the multicast groups of all nodes and all routers
// (RFC 4291 §2.5.6, §2.7.1).
var (
	LinkLocal  = netip.MustParsePrefix("fe80::/64")
	AllNodes   = netip.MustParseAddr("ff02::1")
	AllRouters = netip.MustParseAddr("ff02::2")
)

// Types of ICMPv6 messages (RFC 4861 §4).
const (
	TypeRouterSolicitation    = 133
	TypeRouterAdvertisement   = 134
	TypeNeighborSolicitation  = 135
	TypeNeighborAdvertisement = 136
)

const (
	icmp      = 58 // upper layer of IPv6
	headerLen = 40 // of IPv6
	hopLimit  = 255
	maxMTU    = 65535
)

// RouterAdvertisement is what we use of RFC 4861 §4.2.
type RouterAdvertisement struct {
	Router   bool           // the router lifetime is not zero
	MTU      int            // in octets, at most 65535; 0: no such option
	Prefixes []netip.Prefix // /64 with the A flag, to make addresses of
}

// ParseRouterAdvertisement validates as RFC 4861 §6.1.2 says.
func ParseRouterAdvertisement(packet []byte) (ra RouterAdvertisement, ok bool) {
	src, _, body, ok := Parse(packet, TypeRouterAdvertisement)
	if !ok || len(body) < 16 || !src.IsLinkLocalUnicast() {
		return ra, false
	}
	ra.Router = binary.BigEndian.Uint16(body[6:]) != 0
	ok = eachOption(body[16:], func(kind uint8, o []byte) {
		switch {
		case kind == 3 && len(o) == 32:
			if p, ok := autonomousPrefix(o); ok {
				ra.Prefixes = append(ra.Prefixes, p)
			}
		case kind == 5 && len(o) == 8:
			ra.MTU = int(min(binary.BigEndian.Uint32(o[4:]), maxMTU))
		}
	})
	return ra, ok
}

// autonomousPrefix reads a Prefix Information option by RFC 4862 §5.5.3: the A
// flag, not link-local, preferred not above valid, and 64 bits, because the
// identifier has the other 64.
func autonomousPrefix(o []byte) (netip.Prefix, bool) {
	const autonomous = 0x40
	valid, preferred := binary.BigEndian.Uint32(o[4:]), binary.BigEndian.Uint32(o[8:])
	a := netip.AddrFrom16([16]byte(o[16:]))
	if o[3]&autonomous == 0 || o[2] != 64 || valid == 0 || preferred > valid ||
		a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a.Is4In6() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, 64).Masked(), true
}

// ParseNeighborSolicitation validates as RFC 4861 §7.1.1 says, except that a
// missing source link-layer address is no fault: this link has none.
func ParseNeighborSolicitation(packet []byte) (target, from netip.Addr, ok bool) {
	from, to, body, ok := Parse(packet, TypeNeighborSolicitation)
	if !ok || len(body) < 24 {
		return target, from, false
	}
	target = netip.AddrFrom16([16]byte(body[8:]))
	if target.IsMulticast() || from.IsMulticast() || from.IsUnspecified() && !to.IsMulticast() {
		return target, from, false
	}
	return target, from, eachOption(body[24:], func(uint8, []byte) {})
}

// Parse checks what all messages of RFC 4861 have in common: hop limit 255 (no
// router forwarded it), code 0, checksum. body is the ICMPv6 message, a part of
// packet.
func Parse(packet []byte, kind uint8) (src, dst netip.Addr, body []byte, ok bool) {
	_, proto, whole := offload.UpperLayer(packet)
	if proto != icmp || packet[0]>>4 != 6 || packet[7] != hopLimit || whole < headerLen+8 {
		return src, dst, nil, false
	}
	body = packet[headerLen:whole]
	if body[0] != kind || body[1] != 0 || offload.Sum(body, offload.PseudoHeader(packet, icmp, len(body))) != 0xFFFF {
		return src, dst, nil, false
	}
	return netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:])), body, true
}

// eachOption walks options and fails where one has no length.
func eachOption(b []byte, f func(kind uint8, option []byte)) bool {
	for len(b) > 0 {
		if len(b) < 2 || b[1] == 0 || int(b[1])*8 > len(b) {
			return false
		}
		n := int(b[1]) * 8
		f(b[0], b[:n])
		b = b[n:]
	}
	return true
}

// WithID puts an interface identifier behind a /64.
func WithID(p netip.Prefix, id [8]byte) netip.Addr {
	a := p.Addr().As16()
	copy(a[8:], id[:])
	return netip.AddrFrom16(a)
}

// RouterSolicitation is RFC 4861 §4.1 without options, from the link-local address
// of an interface.
func RouterSolicitation(id [8]byte) []byte {
	body := make([]byte, 8)
	body[0] = TypeRouterSolicitation
	return Packet(WithID(LinkLocal, id), AllRouters, body)
}

// NeighborAdvertisement is RFC 4861 §4.4: solicited, unless the sender has no
// address yet, and override. There is no link-layer address to tell.
func NeighborAdvertisement(target, to netip.Addr) []byte {
	const solicited, override = 0x40, 0x20
	body := make([]byte, 24)
	body[0] = TypeNeighborAdvertisement
	body[4] = solicited | override
	if to.IsUnspecified() {
		body[4], to = override, AllNodes
	}
	copy(body[8:], target.AsSlice())
	return Packet(target, to, body)
}

// Packet makes an IPv6 packet of an ICMPv6 message, and sets its checksum.
func Packet(src, dst netip.Addr, body []byte) []byte {
	packet := make([]byte, headerLen, headerLen+len(body))
	packet[0], packet[6], packet[7] = 6<<4, icmp, hopLimit
	binary.BigEndian.PutUint16(packet[4:], uint16(len(body)))
	from, to := src.As16(), dst.As16()
	copy(packet[8:], from[:])
	copy(packet[24:], to[:])
	packet = append(packet, body...)
	Seal(packet)
	return packet
}

// Seal sets the checksum of an ICMPv6 message behind an IPv6 header.
func Seal(packet []byte) {
	body := packet[headerLen:]
	binary.BigEndian.PutUint16(body[2:], 0)
	check := offload.Checksum(icmp, body, offload.PseudoHeader(packet, icmp, len(body)))
	binary.BigEndian.PutUint16(body[2:], check)
}
