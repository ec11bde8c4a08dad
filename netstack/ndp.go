package netstack

import (
	"net/netip"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"sstproxy/netstack/ndp"
)

// RFC 4861 §10: host constants.
const (
	maxSolicitations     = 3
	solicitationInterval = 4 * time.Second
)

// maxPrefixes bounds what a peer can make us assign. A link has one or two.
const maxPrefixes = 8

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
	d.s.link.send(ndp.RouterSolicitation(st.link.InterfaceID))
	d.timer.Reset(solicitationInterval)
}

// handle takes an IPv6 packet and tells whether it was neighbour discovery that
// the stack must not see.
func (d *discovery) handle(packet []byte) bool {
	if len(packet) <= header.IPv6MinimumSize || packet[6] != uint8(header.ICMPv6ProtocolNumber) {
		return false
	}
	switch packet[header.IPv6MinimumSize] {
	case ndp.TypeRouterAdvertisement:
		if ra, ok := ndp.ParseRouterAdvertisement(packet); ok {
			d.advertised(ra)
		}
		return true
	case ndp.TypeNeighborSolicitation:
		if target, from, ok := ndp.ParseNeighborSolicitation(packet); ok && d.s.owns(target) {
			d.s.link.send(ndp.NeighborAdvertisement(target, from))
		}
		return true
	}
	return false
}

// advertised makes addresses of the advertised prefixes.
func (d *discovery) advertised(ra ndp.RouterAdvertisement) {
	s := d.s
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Load()
	if !st.up || !st.link.ipv6() || st.link.InterfaceID == [8]byte{} {
		return
	}
	d.timer.Stop()
	next := *st
	next.router = ra.Router
	if ra.MTU >= header.IPv6MinimumMTU && ra.MTU < st.link.MTU {
		next.mtu6 = ra.MTU
	}
	for _, p := range ra.Prefixes {
		a := netip.PrefixFrom(ndp.WithID(p, st.link.InterfaceID), 64)
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
