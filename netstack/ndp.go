package netstack

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// RFC 4861 §10: host constants.
const (
	maxSolicitations     = 3
	solicitationInterval = 4 * time.Second
)

// maxPrefixes bounds what a peer can make us assign. A link has one or two.
const maxPrefixes = 8

var (
	linkLocal  = netip.MustParsePrefix("fe80::/64")
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
)

// discovery is the host's part of RFC 4861 and RFC 4862 on a point-to-point
// link. gVisor's own would make addresses from an Ethernet address only, not
// from the identifier IPV6CP agreed on, and ignores solicitations without the
// link-layer option that this link cannot have. It belongs to slowLoop.
//
// Duplicate address detection is left out: "no need for DAD" holds for
// identifiers from IPV6CP (RFC 5072 §5), and the peer hands out both.
// Advertised lifetimes other than zero are not counted down: a link that
// renumbers while it is up would need it, sessions that end do not.
type discovery struct {
	s     *Stack
	timer *time.Timer
	tries int
}

func newDiscovery(s *Stack) *discovery {
	d := &discovery{s: s, timer: time.NewTimer(solicitationInterval)}
	d.timer.Stop()
	return d
}

func (d *discovery) stop() { d.timer.Stop() }

// restart begins to solicit if the link is up and wants it.
func (d *discovery) restart() {
	d.timer.Stop()
	d.tries = 0
	st := d.s.state.Load()
	if st.up && st.link.ipv6() && st.link.InterfaceID != [8]byte{} {
		d.solicit()
	}
}

// solicit sends a Router Solicitation and arms the timer for the next.
func (d *discovery) solicit() {
	st := d.s.state.Load()
	if !st.up || d.tries == maxSolicitations {
		return
	}
	d.tries++
	d.s.link.send(routerSolicitation(st.link.InterfaceID))
	d.timer.Reset(solicitationInterval)
}

// handle takes an IPv6 packet and tells whether it was neighbour discovery that
// the stack must not see.
func (d *discovery) handle(packet []byte) bool {
	if len(packet) <= header.IPv6MinimumSize || packet[6] != uint8(header.ICMPv6ProtocolNumber) {
		return false
	}
	switch header.ICMPv6Type(packet[header.IPv6MinimumSize]) {
	case header.ICMPv6RouterAdvert:
		if ra, ok := parseRouterAdvertisement(packet); ok {
			d.advertised(ra)
		}
		return true
	case header.ICMPv6NeighborSolicit:
		if target, from, ok := parseNeighborSolicitation(packet); ok && d.s.owns(target) {
			d.s.link.send(neighborAdvertisement(target, from))
		}
		return true
	}
	return false
}

// advertised makes addresses of the advertised prefixes.
func (d *discovery) advertised(ra routerAdvertisement) {
	s := d.s
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Load()
	if !st.up || !st.link.ipv6() || st.link.InterfaceID == [8]byte{} {
		return
	}
	d.timer.Stop()
	next := *st
	next.router = ra.router
	if ra.mtu >= header.IPv6MinimumMTU && ra.mtu < st.link.MTU {
		next.mtu6 = ra.mtu
	}
	for _, p := range ra.prefixes {
		a := netip.PrefixFrom(withID(p, st.link.InterfaceID), 64)
		if !slices.Contains(s.learned, a) && len(s.learned) < maxPrefixes {
			s.learned = append(s.learned, a)
		}
	}
	if err := s.assign(st.link.wanted(s.learned)); err != nil {
		s.log.Warn("router advertisement", "err", err)
		return
	}
	s.publish(&next)
}

func (s *Stack) owns(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.addrs, func(p netip.Prefix) bool { return p.Addr() == a })
}

// routerAdvertisement is what we use of RFC 4861 §4.2.
type routerAdvertisement struct {
	router   bool           // the router lifetime is not zero
	mtu      int            // 0: no such option
	prefixes []netip.Prefix // /64 with the A flag
}

// parseRouterAdvertisement validates as RFC 4861 §6.1.2 says.
func parseRouterAdvertisement(packet []byte) (ra routerAdvertisement, ok bool) {
	src, _, body, ok := parseDiscovery(packet)
	if !ok || len(body) < 16 || !src.IsLinkLocalUnicast() {
		return ra, false
	}
	ra.router = binary.BigEndian.Uint16(body[6:]) != 0
	ok = eachOption(body[16:], func(kind uint8, o []byte) {
		switch {
		case kind == 3 && len(o) == 32:
			if p, ok := autonomousPrefix(o); ok {
				ra.prefixes = append(ra.prefixes, p)
			}
		case kind == 5 && len(o) == 8:
			ra.mtu = int(min(binary.BigEndian.Uint32(o[4:]), maxMTU))
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

// parseNeighborSolicitation validates as RFC 4861 §7.1.1 says, except that a
// missing source link-layer address is no fault: this link has none.
func parseNeighborSolicitation(packet []byte) (target, from netip.Addr, ok bool) {
	from, to, body, ok := parseDiscovery(packet)
	if !ok || len(body) < 24 {
		return target, from, false
	}
	target = netip.AddrFrom16([16]byte(body[8:]))
	if target.IsMulticast() || from.IsMulticast() || from.IsUnspecified() && !to.IsMulticast() {
		return target, from, false
	}
	return target, from, eachOption(body[24:], func(uint8, []byte) {})
}

// parseDiscovery checks what all messages of RFC 4861 have in common: hop limit
// 255 (no router forwarded it), code 0, checksum. body is the ICMPv6 message.
func parseDiscovery(packet []byte) (src, dst netip.Addr, body []byte, ok bool) {
	ip := header.IPv6(packet)
	if !ip.IsValid(len(packet)) || ip.HopLimit() != 255 || ip.NextHeader() != uint8(header.ICMPv6ProtocolNumber) {
		return src, dst, nil, false
	}
	body = ip.Payload()
	if len(body) < 8 || body[1] != 0 {
		return src, dst, nil, false
	}
	sum := icmpChecksum(ip.SourceAddress(), ip.DestinationAddress(), body)
	return addrOf(ip.SourceAddress()), addrOf(ip.DestinationAddress()), body,
		sum == header.ICMPv6(body).Checksum()
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

// withID puts an interface identifier behind a /64.
func withID(p netip.Prefix, id [8]byte) netip.Addr {
	a := p.Addr().As16()
	copy(a[8:], id[:])
	return netip.AddrFrom16(a)
}

// routerSolicitation is RFC 4861 §4.1 without options.
func routerSolicitation(id [8]byte) []byte {
	body := make([]byte, 8)
	body[0] = uint8(header.ICMPv6RouterSolicit)
	return discoveryPacket(withID(linkLocal, id), allRouters, body)
}

// neighborAdvertisement is RFC 4861 §4.4: solicited, unless the sender has no
// address yet, and override. There is no link-layer address to tell.
func neighborAdvertisement(target, to netip.Addr) []byte {
	const solicited, override = 0x40, 0x20
	body := make([]byte, 24)
	body[0] = uint8(header.ICMPv6NeighborAdvert)
	body[4] = solicited | override
	if to.IsUnspecified() {
		body[4], to = override, allNodes
	}
	copy(body[8:], target.AsSlice())
	return discoveryPacket(target, to, body)
}

func discoveryPacket(src, dst netip.Addr, body []byte) []byte {
	packet := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(body))
	header.IPv6(packet).Encode(&header.IPv6Fields{
		PayloadLength:     uint16(len(body)),
		TransportProtocol: header.ICMPv6ProtocolNumber,
		HopLimit:          255,
		SrcAddr:           addressOf(src),
		DstAddr:           addressOf(dst),
	})
	header.ICMPv6(body).SetChecksum(icmpChecksum(addressOf(src), addressOf(dst), body))
	return append(packet, body...)
}

func icmpChecksum(src, dst tcpip.Address, body []byte) uint16 {
	return header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: body, Src: src, Dst: dst})
}
