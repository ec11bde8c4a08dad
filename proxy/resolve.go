package proxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
)

// Commands of Tor's SOCKS port (spec.torproject.org/socks-extensions): the reply
// has the answer where the bound address would be, and ends the connection.
const (
	commandResolve    = 0xf0
	commandResolvePTR = 0xf1 // SOCKS5 only
)

// socksResolve serves the command RESOLVE: the address of a name.
func (s *Server) socksResolve(ctx context.Context, c *clientConn, br *bufio.Reader, req socksRequest) {
	if s.cfg.Lookup == nil {
		s.refuseSOCKS(c, replyCommandNotSupported, req, errors.ErrUnsupported)
		return
	}
	network := "ip"
	if req.version == socksVersion4 {
		network = "ip4" // all that its reply has room for
	}
	addr, err := watched(ctx, c, br, func(ctx context.Context) (netip.Addr, error) { return s.lookup(ctx, network, req.host) })
	if err != nil {
		s.refuseSOCKS(c, classify(err).reply, req, err)
		return
	}
	c.last(req.reply(replySucceeded, net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))))
}

// socksResolvePTR serves the command RESOLVE_PTR: the name of an address.
func (s *Server) socksResolvePTR(ctx context.Context, c *clientConn, br *bufio.Reader, req socksRequest) {
	if s.cfg.LookupAddr == nil {
		s.refuseSOCKS(c, replyCommandNotSupported, req, errors.ErrUnsupported)
		return
	}
	addr, err := netip.ParseAddr(req.host)
	if err != nil {
		s.refuseSOCKS(c, replyAddrTypeNotSupported, req, err)
		return
	}
	name, err := watched(ctx, c, br, func(ctx context.Context) (string, error) { return s.lookupAddr(ctx, addr.Unmap()) })
	if err != nil {
		s.refuseSOCKS(c, classify(err).reply, req, err)
		return
	}
	b := append([]byte{socksVersion5, replySucceeded, 0, atypName, byte(len(name))}, name...)
	c.last(append(b, 0, 0))
}

// lookupAddr returns the name of an address, if it may be asked for.
func (s *Server) lookupAddr(ctx context.Context, addr netip.Addr) (string, error) {
	if err := checkAddr(addr); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	name, err := s.cfg.LookupAddr(ctx, addr)
	if err == nil && (name == "" || len(name) > 255) {
		err = errors.New("the name has no place in a reply")
	}
	if err != nil {
		return "", &dialError{addr.String(), err}
	}
	return name, nil
}

// lookup returns the preferred address of a destination's host, if it may be
// asked for.
func (s *Server) lookup(ctx context.Context, network, host string) (netip.Addr, error) {
	addrs, err := s.lookupAll(ctx, network, host)
	if err != nil {
		return netip.Addr{}, err
	}
	return addrs[0], checkAddr(addrs[0])
}

// lookupAll returns the addresses of a destination's host, in canonical form,
// one at least. An address is its own, and may be one of this machine.
func (s *Server) lookupAll(ctx context.Context, network, host string) ([]netip.Addr, error) {
	host, err := canonicalHost(host)
	if err != nil {
		return nil, err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	if isLocalhost(host) {
		return nil, localError(host + " is this machine")
	}
	if s.cfg.Lookup == nil {
		return nil, &dialError{host, errors.ErrUnsupported}
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	found, err := s.cfg.Lookup(ctx, network, host)
	if err == nil && len(found) == 0 {
		err = &net.DNSError{Err: "no address for this name", Name: host, IsNotFound: true}
	}
	if err != nil {
		return nil, &dialError{host, err}
	}
	addrs := make([]netip.Addr, len(found))
	for i, a := range found {
		addrs[i] = a.Unmap().WithZone("")
	}
	return addrs, nil
}
