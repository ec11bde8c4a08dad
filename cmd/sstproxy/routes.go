package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sstproxy/proxy"
	"sstproxy/proxy/route"
)

// router is what the proxies reach the network by: it asks the rules, and goes
// through the tunnel or past it. Without rules all goes through the tunnel as it
// was asked for. Its methods may be called concurrently.
type router struct {
	names           naming
	tunnel, outside network

	// listenTunnel opens a UDP socket in the tunnel, reverseTunnel and
	// reverseOutside find the name of an address.
	listenTunnel                  func(ctx context.Context, network, address string) (net.PacketConn, error)
	reverseTunnel, reverseOutside func(ctx context.Context, addr netip.Addr) (string, error)

	mu    sync.Mutex
	found map[netip.Addr]string // the name that led to an address, for listenPacket
}

// network is a way to reach things by.
type network struct {
	dial   proxy.DialFunc
	lookup lookupFunc
}

// lookupFunc finds the addresses of a name, the preferred one first; network is
// ip, ip4 or ip6.
type lookupFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// newRouter joins the rules, the gate of the tunnel and this machine's own
// network, as any program uses it.
func newRouter(names naming, g *gate) *router {
	return &router{
		names: names, listenTunnel: g.listenPacket, reverseTunnel: g.lookupAddr, reverseOutside: reverseOutside,
		tunnel:  network{dial: g.dialContext, lookup: g.lookup},
		outside: network{dial: (&net.Dialer{}).DialContext, lookup: whole(net.DefaultResolver.LookupNetIP)},
	}
}

// whole asks for names with a dot as they are. This machine's search list would
// make others of those that do not exist, which a rule may keep in the tunnel.
func whole(lookup lookupFunc) lookupFunc {
	return func(ctx context.Context, network, host string) ([]netip.Addr, error) {
		if strings.Contains(host, ".") && !strings.HasSuffix(host, ".") {
			host += "."
		}
		return lookup(ctx, network, host)
	}
}

// dialContext is a [proxy.DialFunc]. Its error is a *proxy.DownError if the
// tunnel did not come up in time, and proxy.ErrBlocked if a rule says so.
func (r *router) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, err
	}
	return r.dialHost(ctx, network, host, uint16(port))
}

func (r *router) dialHost(ctx context.Context, network, host string, port uint16) (net.Conn, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		at := netip.AddrPortFrom(addr, port)
		return r.dialAddr(ctx, network, at, r.names.rules.MatchAddr(at))
	}
	if r.names.asked(host, port) {
		return r.tunnel.dial(ctx, network, net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	name, addrs, err := r.find(ctx, "ip", host, func(name string) bool {
		return r.names.rules.Match(name, port) == route.Block && r.names.rules.Settled(name, port)
	})
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, addr := range addrs {
		at := netip.AddrPortFrom(addr, port)
		conn, err := r.dialAddr(ctx, network, at, r.names.rules.MatchFound(name, at))
		if err == nil {
			return conn, nil
		}
		if failed = append(failed, err); ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failed...)
}

// dialAddr goes where a rule says.
func (r *router) dialAddr(ctx context.Context, network string, at netip.AddrPort, d route.Decision) (net.Conn, error) {
	switch {
	case d == route.Tunnel:
		return r.tunnel.dial(ctx, network, at.String())
	case d == route.Direct && reachable(at.Addr()):
		ctx, cancel := context.WithTimeout(ctx, directTimeout)
		defer cancel()
		return r.outside.dial(ctx, network, at.String())
	}
	return nil, blocked(at.String())
}

// directTimeout bounds the attempt to one address past the tunnel, as the stack
// does for those through it.
const directTimeout = 15 * time.Second

func blocked(what string) error { return fmt.Errorf("%s: %w", what, proxy.ErrBlocked) }

// lookup finds the addresses of a host, by the name servers that its rule sends
// it to.
func (r *router) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	name, addrs, err := r.find(ctx, network, host, func(string) bool { return false })
	if err == nil && !r.names.rules.Trivial() {
		r.remember(name, addrs)
	}
	return addrs, err
}

// lookupAddr finds the name of an address where the address itself is reached.
func (r *router) lookupAddr(ctx context.Context, addr netip.Addr) (string, error) {
	switch d, _ := r.names.rules.LookupAddr(addr); {
	case d == route.Tunnel:
		return r.reverseTunnel(ctx, addr)
	case d == route.Direct && reachable(addr):
		return r.reverseOutside(ctx, addr)
	}
	return "", blocked(addr.String())
}

// reverseOutside asks this machine's resolver.
func reverseOutside(ctx context.Context, addr netip.Addr) (string, error) {
	names, err := net.DefaultResolver.LookupAddr(ctx, addr.String())
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(names[0], "."), nil // there is one, without an error
}

// maxFound bounds what is remembered of names.
const maxFound = 4096

// remember keeps the name that led to addresses.
func (r *router) remember(name string, addrs []netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, addr := range addrs {
		if len(r.found) >= maxFound || r.found == nil {
			r.found = map[netip.Addr]string{}
		}
		r.found[addr.Unmap()] = name
	}
}

// match decides on an address of which a name may be known.
func (r *router) match(at netip.AddrPort) route.Decision {
	r.mu.Lock()
	name, ok := r.found[at.Addr()]
	r.mu.Unlock()
	if !ok {
		return r.names.rules.MatchAddr(at)
	}
	return r.names.rules.MatchFound(name, at)
}

// listenPacket opens a UDP socket in the tunnel. What a rule does not send there
// can't be sent: a socket has one address, which is the tunnel's.
func (r *router) listenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	c, err := r.listenTunnel(ctx, network, address)
	if err != nil || r.names.rules.Trivial() {
		return c, err
	}
	return &ruledPacketConn{PacketConn: c, match: r.match}, nil
}

// ruledPacketConn is a socket in the tunnel that keeps to the rules.
type ruledPacketConn struct {
	net.PacketConn
	match func(netip.AddrPort) route.Decision
}

// WriteTo implements net.PacketConn. The error of what must not be sent is
// proxy.ErrBlocked.
func (c *ruledPacketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	at, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("want a UDP address")
	}
	ap := at.AddrPort()
	if c.match(netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())) != route.Tunnel {
		return 0, blocked(at.String())
	}
	return c.PacketConn.WriteTo(b, to)
}

// OnReadable is the socket's, if it has one; else it says that a read may be
// tried.
func (c *ruledPacketConn) OnReadable(f func()) (now bool) {
	if s, ok := c.PacketConn.(interface{ OnReadable(func()) bool }); ok {
		return s.OnReadable(f)
	}
	return true
}

// find looks the candidates for a host up until one exists, and says which.
func (r *router) find(ctx context.Context, network, host string, forbidden func(string) bool) (name string, addrs []netip.Addr, err error) {
	for _, name = range r.names.candidates(host) {
		if forbidden(name) {
			return name, nil, blocked(name)
		}
		addrs, err = r.findOne(ctx, network, name)
		if e, ok := errors.AsType[*net.DNSError](err); !ok || !e.IsNotFound {
			return name, addrs, err
		}
	}
	return name, nil, err
}

func (r *router) findOne(ctx context.Context, network, name string) ([]netip.Addr, error) {
	if addrs := r.names.hosts[canonicalName(name)]; len(addrs) > 0 {
		addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
			return network == "ip4" && !a.Is4() || network == "ip6" && a.Is4()
		})
		if len(addrs) == 0 {
			return nil, &net.DNSError{Err: "no address of this kind", Name: name, IsNotFound: true}
		}
		return addrs, nil
	}
	switch where, _ := r.names.rules.Lookup(name); where {
	case route.Tunnel:
		return r.tunnel.lookup(ctx, network, name)
	case route.Direct:
		return r.findOutside(ctx, network, name)
	}
	return nil, blocked(name)
}

// findOutside asks this machine's resolver. IPv4 comes first, as in the tunnel.
func (r *router) findOutside(ctx context.Context, network, name string) ([]netip.Addr, error) {
	addrs, err := r.outside.lookup(ctx, network, name)
	if err != nil {
		return nil, err
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return addrs, nil
}
