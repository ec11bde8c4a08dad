package netstack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sstproxy/netstack/ndp"
)

const (
	// defaultMTU is PPP's (RFC 1661 §6.1).
	defaultMTU = 1500
	// minMTU: "Every internet module must be able to forward a datagram of 68
	// octets without further fragmentation." RFC 791 §3.2
	minMTU = 68
	maxMTU = 65535
)

// Link is what the negotiation with the peer came to.
type Link struct {
	// Addrs are our addresses. Only the address counts for routing:
	// everything goes into the link, whatever the prefix length.
	Addrs []netip.Prefix
	// InterfaceID is what IPV6CP agreed on (RFC 5072 §4.1). From it come the
	// address fe80::id and, when a router advertises prefixes, prefix::id.
	// Zero: no IPv6 but that of Addrs.
	InterfaceID [8]byte
	// MTU is the largest IP packet, the peer's MRU; 0 means 1500. Below 1280
	// there is no IPv6 (RFC 8200 §5).
	MTU int
	// DNS are the servers LookupNetIP asks, the preferred one first.
	DNS []netip.Addr
	// RTT is about how long the server takes to answer. If it is not 0, whoever
	// sets it calls Stalled as well, and timers that run out in silence wait for
	// that a little.
	RTT time.Duration
}

// linkState is what a dial or a lookup wants to know. It is replaced, never
// changed, so that they read it without a lock.
type linkState struct {
	up         bool
	down       chan struct{} // closed when the link goes down or loses an address
	link       Link
	has4, has6 bool // there is a routable address of the family
	router     bool // a router advertised itself as the way out
	mtu6       int  // of the router's MTU option; 0 = the link's
}

// SetLink brings the link up, or changes it. What stays the same survives: on
// a reconnect with the same address all connections go on, and send again at
// once what was in flight. Connections from an address that is no longer ours
// are aborted, with an error that wraps ErrAborted and names both addresses;
// dials and lookups that run meanwhile fail then. It copies l. If it fails, the
// link is as up or down as before.
func (s *Stack) SetLink(l Link) error {
	l, err := l.normalized()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return fmt.Errorf("netstack: set link: %w", net.ErrClosed)
	}
	old := s.state.Load()
	next := &linkState{up: true, down: old.down, link: l}
	if l.InterfaceID != old.link.InterfaceID || !l.ipv6() {
		s.learned = nil
	} else {
		next.router, next.mtu6 = old.router, old.mtu6
	}
	if err := s.become(next); err != nil {
		s.restore(old)
		return err
	}
	s.clock.setRTT(l.RTT)
	if !slices.Equal(l.DNS, old.link.DNS) {
		s.nextDNS.Store(0)
	}
	// What waited through a long silence was sent long ago, by the timestamps
	// in it, and will be sent again at once: the answers to it would tell of
	// round trips that never were.
	s.link.out.setUp(!old.up && s.silence > staleAfter)
	s.signalLink()
	return nil
}

// become makes next the state, with all that belongs to it but the queue. It
// wants mu held.
func (s *Stack) become(next *linkState) error {
	if err := s.assign(next.link.wanted(s.learned)); err != nil {
		return err
	}
	if err := s.net.SetNICMTU(nicID, uint32(next.link.MTU)); err != nil {
		return fmt.Errorf("netstack: mtu: %w", errnoOf(err))
	}
	if old := s.state.Load(); !old.up || old.ended() {
		next.down = make(chan struct{})
	}
	s.publish(next)
	return nil
}

// restore keeps the link usable, if it was, when it could not be changed.
func (s *Stack) restore(old *linkState) {
	again := *old
	if again.up && again.ended() {
		again.down = make(chan struct{})
	}
	s.publish(&again)
	if again.up {
		s.link.out.setUp(false)
	}
}

// ended tells whether dials and lookups that began in this state have to fail.
func (st *linkState) ended() bool {
	select {
	case <-st.down:
		return true
	default:
		return false
	}
}

func (s *Stack) signalLink() {
	select {
	case s.linkChanged <- struct{}{}:
	default:
	}
}

// Addrs returns the addresses of the interface that others can reach, those
// learned from a router included, IPv4 first; none before the first SetLink.
func (s *Stack) Addrs() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []netip.Addr
	for _, p := range s.addrs {
		if !p.Addr().IsLinkLocalUnicast() {
			addrs = append(addrs, p.Addr())
		}
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return addrs
}

// LinkDown tells the stack that nothing is sent or received until the next
// SetLink. Dials and lookups, running and new, fail with ErrDown. Connections
// stay, for 15 minutes at most: their time stands still, and what they send
// waits in the queue while there is room. After that they end with an error
// that wraps ErrAborted.
func (s *Stack) LinkDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.goDown()
}

// goDown wants mu held.
func (s *Stack) goDown() {
	old := s.state.Load()
	if !old.up {
		return
	}
	next := *old
	next.up = false
	s.state.Store(&next)
	if !old.ended() {
		close(old.down)
	}
	s.clock.freeze(linkDown)
	s.clock.thaw(stalled) // what stood still is no more
	s.resuming = true
	s.silence = s.clock.elapsed() - time.Duration(s.heard.Load())
	s.link.out.setDown()
	s.link.out.answered() // nothing will be
	s.signalLink()
	s.log.Debug("link down")
}

func (s *Stack) isClosed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// normalized checks l and fills in defaults; the result shares nothing with l.
func (l Link) normalized() (Link, error) {
	if l.MTU == 0 {
		l.MTU = defaultMTU
	}
	if l.MTU < minMTU || l.MTU > maxMTU {
		return l, fmt.Errorf("netstack: mtu %d is not in %d..%d", l.MTU, minMTU, maxMTU)
	}
	addrs := l.Addrs
	l.Addrs = nil
	for _, p := range addrs {
		if !p.IsValid() || p.Addr().IsUnspecified() || p.Addr().IsMulticast() {
			return l, fmt.Errorf("netstack: %v is not an address for an interface", p)
		}
		a := p.Addr().Unmap().WithZone("")
		// A host prefix: with the peer's prefix length one address of the
		// network would be a broadcast address, which this link has not.
		l.Addrs = append(l.Addrs, netip.PrefixFrom(a, a.BitLen()))
	}
	l.DNS = slices.DeleteFunc(slices.Clone(l.DNS), func(a netip.Addr) bool {
		return !a.IsValid() || a.IsUnspecified()
	})
	if len(l.Addrs) == 0 && l.InterfaceID == [8]byte{} {
		return l, errors.New("netstack: link has no address")
	}
	return l, nil
}

// ipv6 tells whether the link may carry IPv6.
func (l Link) ipv6() bool { return l.MTU >= header.IPv6MinimumMTU }

// wanted are the addresses the interface should have.
func (l Link) wanted(learned []netip.Prefix) []netip.Prefix {
	var want []netip.Prefix
	for _, p := range l.Addrs {
		if p.Addr().Is4() || l.ipv6() {
			want = append(want, p)
		}
	}
	if l.ipv6() && l.InterfaceID != [8]byte{} {
		want = append(want, netip.PrefixFrom(ndp.WithID(ndp.LinkLocal, l.InterfaceID), 64))
		want = append(want, learned...)
	}
	return want
}

// assign makes want the interface's addresses. It wants mu held.
func (s *Stack) assign(want []netip.Prefix) error {
	var gone []netip.Addr
	s.addrs = slices.DeleteFunc(s.addrs, func(p netip.Prefix) bool {
		if slices.Contains(want, p) {
			return false
		}
		gone = append(gone, p.Addr())
		return true
	})
	if len(gone) > 0 {
		s.withdraw(gone, want)
	}
	for _, p := range want {
		if slices.Contains(s.addrs, p) {
			continue
		}
		addr := tcpip.ProtocolAddress{
			Protocol:          protocolOf(p.Addr()),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: addressOf(p.Addr()), PrefixLen: p.Bits()},
		}
		if err := s.net.AddProtocolAddress(nicID, addr, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("netstack: address %v: %w", p, errnoOf(err))
		}
		s.addrs = append(s.addrs, p)
		s.log.Debug("address assigned", "addr", p.Addr())
	}
	return nil
}

// withdraw removes addresses and aborts the sockets bound to them. Nobody may
// wait in the queue meanwhile, because Abort needs the lock that is held
// during such a wait; what is queued has an address that is ours no longer.
func (s *Stack) withdraw(gone []netip.Addr, want []netip.Prefix) {
	if old := s.state.Load(); !old.ended() {
		close(old.down)
	}
	s.link.out.purge()
	for _, a := range gone {
		s.endings.add(a, changed(a, want))
		_ = s.net.RemoveAddress(nicID, addressOf(a)) // fails only if it is not there
		s.log.Debug("address removed", "addr", a)
	}
	count := 0
	for _, te := range s.net.RegisteredEndpoints() {
		ep, ok := te.(tcpip.Endpoint)
		if !ok {
			continue
		}
		local, err := ep.GetLocalAddress()
		if err == nil && slices.Contains(gone, addrOf(local.Addr)) {
			ep.Abort()
			count++
		}
	}
	s.log.Info("address changed: connections aborted", "from", gone, "to", want, "count", count)
}

// changed is why connections from an address end when we have others.
func changed(gone netip.Addr, want []netip.Prefix) error {
	for _, p := range want {
		if p.Addr().Is4() == gone.Is4() && p.Addr().IsLinkLocalUnicast() == gone.IsLinkLocalUnicast() {
			return fmt.Errorf("tunnel's address changed from %v to %v: %w", gone, p.Addr(), ErrAborted)
		}
	}
	return fmt.Errorf("tunnel lost its address %v: %w", gone, ErrAborted)
}

// publish derives routes and families from the addresses. It wants mu held.
func (s *Stack) publish(next *linkState) {
	var routes []tcpip.Route
	next.has4, next.has6 = false, false
	for _, p := range s.addrs {
		switch {
		case p.Addr().Is4():
			next.has4 = true
		case p.Addr().IsLinkLocalUnicast():
			routes = append(routes, tcpip.Route{Destination: subnetOf(p), NIC: nicID})
		case slices.Contains(s.learned, p):
			routes = append(routes, tcpip.Route{Destination: subnetOf(p), NIC: nicID, MTU: uint32(next.mtu6)})
			next.has6 = next.has6 || next.router
		default:
			next.has6 = true
		}
	}
	if next.has4 {
		routes = append(routes, tcpip.Route{Destination: header.IPv4EmptySubnet, NIC: nicID})
	}
	if next.has6 {
		// Without a router or an address of the user's the default route is
		// left out, so that dials to IPv6 fail at once and not by timeout.
		routes = append(routes, tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nicID, MTU: uint32(next.mtu6)})
	}
	s.net.SetRouteTable(routes)
	s.guard.Store(newGuard(s.addrs))
	s.state.Store(next)
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

func addressOf(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// addrOf is the inverse of addressOf; mapped IPv4 addresses, which dual-stack
// sockets have, become IPv4.
func addrOf(a tcpip.Address) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return addr.Unmap()
}

func subnetOf(p netip.Prefix) tcpip.Subnet {
	return tcpip.AddressWithPrefix{Address: addressOf(p.Addr()), PrefixLen: p.Bits()}.Subnet()
}
