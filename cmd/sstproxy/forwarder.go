package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"github.com/miekg/dns"

	"sstproxy/proxy"
	"sstproxy/proxy/names"
	"sstproxy/proxy/route"
)

// forwarder is an open place where names can be asked for, by UDP and TCP.
type forwarder struct {
	endpoint proxy.Endpoint
	packets  net.PacketConn
	listener net.Listener
}

// address is where it really listens.
func (f *forwarder) address() string { return f.listener.Addr().String() }

func (f *forwarder) close() {
	f.packets.Close()
	f.listener.Close()
}

func closeForwarders(forwarders []*forwarder) {
	for _, f := range forwarders {
		f.close()
	}
}

// endpoints reads --dns-listen, and refuses to be a resolver for strangers by
// accident.
func (o *nameOptions) endpoints(allowOpen bool) (list []proxy.Endpoint, err error) {
	for _, text := range o.dnsListen {
		e, err := proxy.ParseEndpoint(text)
		if err != nil || e.Network != "tcp" || e.Mode != proxy.ModeAuto {
			return nil, fmt.Errorf("--dns-listen %s: want HOST:PORT", text)
		}
		if e.Exposed() && !allowOpen {
			return nil, fmt.Errorf("--dns-listen %s: reachable from other machines, so it needs --allow-open-proxy", text)
		}
		list = append(list, e)
	}
	return list, nil
}

// openForwarders opens all, or none.
func openForwarders(endpoints []proxy.Endpoint) (open []*forwarder, err error) {
	for _, e := range endpoints {
		f, err := openForwarder(e)
		if err != nil {
			closeForwarders(open)
			return nil, &listenError{where: e.String(), err: err}
		}
		open = append(open, f)
	}
	return open, nil
}

// freePortTries bounds the search for a port that is free for UDP and TCP.
const freePortTries = 16

// openForwarder opens both sockets on one port.
func openForwarder(e proxy.Endpoint) (*forwarder, error) {
	_, port, err := net.SplitHostPort(e.Address)
	if err != nil {
		return nil, err
	}
	for range freePortTries {
		var l net.Listener
		if l, err = net.Listen("tcp", e.Address); err != nil {
			return nil, err
		}
		var pc net.PacketConn
		if pc, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			return &forwarder{e, pc, l}, nil
		}
		l.Close()
		if port != "0" || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, err
}

// startForwarders serves them all, until ctx ends; a failure of one is passed to
// fail.
func (c *client) startForwarders(ctx context.Context, wg *sync.WaitGroup, r *router, g *gate, fail context.CancelCauseFunc) {
	if len(c.forwarders) == 0 {
		return
	}
	server := names.New(names.Config{
		Choose: chooser(r, g, c.forwarders), Hosts: c.names.hosts, Search: c.names.search, Logger: c.log,
	})
	for _, f := range c.forwarders {
		wg.Go(func() { // ends with ctx
			if err := server.Serve(ctx, f.packets, f.listener); err != nil {
				fail(&listenError{where: f.endpoint.String(), err: err})
			}
		})
	}
}

// chooser says who is asked for a name: the servers in the tunnel, or those of
// this machine, if a rule sends it past the tunnel. A name that a rule blocks
// does not exist; what is only not let through is refused, so that programs with
// another server can ask that one.
func chooser(r *router, g *gate, own []*forwarder) func(string) names.Choice {
	inside := &names.Upstream{Servers: g.servers(r.names.servers), Dial: g.dialContext}
	outside := &names.Upstream{Servers: systemServers(resolvConf, own), Dial: r.outside.dial, Lookup: r.outside.lookup}
	return func(name string) names.Choice {
		d, ruled := r.names.where(name)
		switch {
		case d == route.Tunnel:
			return names.Choice{Upstream: inside}
		case d == route.Direct:
			return names.Choice{Upstream: outside}
		case ruled:
			return names.Choice{Refusal: dns.RcodeNameError}
		}
		return names.Choice{Refusal: dns.RcodeRefused}
	}
}

// where decides where a name is looked up, also one that stands for an address.
func (n naming) where(name string) (d route.Decision, ruled bool) {
	if addr, ok := names.AddrOf(name); ok {
		return n.rules.LookupAddr(addr)
	}
	return n.rules.Lookup(name)
}

const dnsPort = 53

// servers returns a function that waits for the tunnel and returns its name
// servers, or those that are used instead.
func (g *gate) servers(instead []netip.Addr) func(context.Context) ([]netip.AddrPort, error) {
	return func(ctx context.Context) ([]netip.AddrPort, error) {
		return pass(ctx, g, func() (list []netip.AddrPort, err error) {
			addrs := instead
			if len(addrs) == 0 {
				state, _ := g.keeper.State()
				addrs = state.Info.IPv4.DNS
			}
			for _, a := range addrs {
				list = append(list, netip.AddrPortFrom(a, dnsPort))
			}
			return list, nil
		})
	}
}

// resolvConf is where systems other than Windows name this machine's servers.
const resolvConf = "/etc/resolv.conf"

// systemServers returns a function that returns this machine's name servers, but
// for our own: who is asked in a circle never answers. Without the file there
// are none, and the system's own functions do.
func systemServers(file string, own []*forwarder) func(context.Context) ([]netip.AddrPort, error) {
	return func(context.Context) (list []netip.AddrPort, err error) {
		cfg, err := dns.ClientConfigFromFile(file)
		if err != nil {
			return nil, err
		}
		for _, text := range cfg.Servers {
			at, err := netip.ParseAddrPort(net.JoinHostPort(strings.TrimSpace(text), cfg.Port))
			if err == nil && !isOurs(at, own) {
				list = append(list, at)
			}
		}
		return list, nil
	}
}

// isOurs reports whether a datagram to the address would come to us.
func isOurs(at netip.AddrPort, own []*forwarder) bool {
	for _, f := range own {
		l, ok := f.listener.Addr().(*net.TCPAddr)
		if !ok || int(at.Port()) != l.Port {
			continue
		}
		if addr := l.AddrPort().Addr().Unmap(); addr == at.Addr().Unmap() || addr.IsUnspecified() && isHere(at) {
			return true
		}
	}
	return false
}

// isHere reports whether an address is this machine's: such a one is its own
// sender. Nothing is sent for that.
func isHere(at netip.AddrPort) bool {
	if at.Addr().IsLoopback() {
		return true
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return false
	}
	defer c.Close()
	local, ok := c.LocalAddr().(*net.UDPAddr)
	return ok && local.AddrPort().Addr().Unmap() == at.Addr().Unmap()
}
