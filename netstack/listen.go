package netstack

import (
	"net"
	"net/netip"
	"strconv"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// backlog is how many connections wait for Accept.
const backlog = 1024

// Listen listens inside the tunnel. network is tcp, tcp4 or tcp6; address is an
// IP address of the link or nothing, and a port, 0 for any: ":80". tcp without
// an address takes both families. It works while the link is down, if no
// address is given.
func (s *Stack) Listen(network, address string) (net.Listener, error) {
	l, err := s.listen(network, address)
	if err != nil {
		return nil, opError("listen", network, nil, textAddr{network, address}, err)
	}
	return l, nil
}

func (s *Stack) listen(network, address string) (*listener, error) {
	proto, at, dual, err := parseLocal("tcp", network, address)
	if err != nil {
		return nil, err
	}
	queue := new(waiter.Queue)
	ep, terr := s.net.NewEndpoint(tcp.ProtocolNumber, proto, queue)
	if terr != nil {
		return nil, errnoOf(terr)
	}
	if terr := bind(ep, at, dual); terr != nil {
		ep.Close()
		return nil, errnoOf(terr)
	}
	if terr := ep.Listen(backlog); terr != nil {
		ep.Close()
		return nil, errnoOf(terr)
	}
	l := &listener{stack: s}
	l.init(ep, queue, "tcp", (*readNotifier)(&l.socket))
	if a, terr := ep.GetLocalAddress(); terr == nil {
		l.addr = net.TCPAddrFromAddrPort(addrPortOf(a))
	}
	s.listeners.Add(1)
	return l, nil
}

// ListenPacket opens a UDP socket inside the tunnel; network is udp, udp4 or
// udp6, address as for Listen. Without an address the socket outlives a change
// of the link's. A datagram that does not fit into one packet is sent in
// fragments; one of more than 65507 octets fails with EMSGSIZE. The result also
// has ReadFromUDPAddrPort and WriteToUDPAddrPort of *net.UDPConn, and the
// OnReadable of TCP connections.
func (s *Stack) ListenPacket(network, address string) (net.PacketConn, error) {
	c, err := s.listenPacket(network, address)
	if err != nil {
		return nil, opError("listen", network, nil, textAddr{network, address}, err)
	}
	return c, nil
}

func (s *Stack) listenPacket(network, address string) (*udpConn, error) {
	proto, at, dual, err := parseLocal("udp", network, address)
	if err != nil {
		return nil, err
	}
	queue := new(waiter.Queue)
	ep, terr := s.net.NewEndpoint(udp.ProtocolNumber, proto, queue)
	if terr != nil {
		return nil, errnoOf(terr)
	}
	if terr := bind(ep, at, dual); terr != nil {
		ep.Close()
		return nil, errnoOf(terr)
	}
	return newUDPConn(s, ep, queue, proto, dual), nil
}

func bind(ep tcpip.Endpoint, at netip.AddrPort, dual bool) tcpip.Error {
	ep.SocketOptions().SetV6Only(!dual)
	return ep.Bind(fullAddressOf(at))
}

// parseLocal parses what a socket is bound to. dual: both families.
func parseLocal(want, network, address string) (proto tcpip.NetworkProtocolNumber, at netip.AddrPort, dual bool, err error) {
	transport, family, err := parseNetwork(network)
	if err == nil && transport != want {
		err = net.UnknownNetworkError(network)
	}
	if err != nil {
		return 0, at, false, err
	}
	host, port, err := splitAddress(address)
	if err != nil {
		return 0, at, false, err
	}
	if host == "" {
		a := netip.IPv6Unspecified()
		if family == only4 {
			a = netip.IPv4Unspecified()
		}
		return protocolOf(a), netip.AddrPortFrom(a, port), family == anyFamily, nil
	}
	a, err := netip.ParseAddr(host)
	if err != nil || !family.has(a.Unmap()) {
		return 0, at, false, &net.AddrError{Err: "not an IP address of the network's family", Addr: address}
	}
	a = a.Unmap().WithZone("")
	return protocolOf(a), netip.AddrPortFrom(a, port), a == netip.IPv6Unspecified() && family == anyFamily, nil
}

// family restricts addresses.
type family uint8

const (
	anyFamily family = iota
	only4
	only6
)

// has tells whether an unmapped address belongs to the family.
func (f family) has(a netip.Addr) bool {
	return f == anyFamily || a.Is4() == (f == only4)
}

// parseNetwork splits "tcp4" and its like.
func parseNetwork(network string) (transport string, f family, err error) {
	switch network {
	case "tcp", "udp":
		return network, anyFamily, nil
	case "tcp4", "udp4":
		return network[:3], only4, nil
	case "tcp6", "udp6":
		return network[:3], only6, nil
	}
	return "", 0, net.UnknownNetworkError(network)
}

// splitAddress splits host and numeric port. Service names are not looked up:
// their table is the host's.
func splitAddress(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, &net.AddrError{Err: "port is not a number from 0 to 65535", Addr: address}
	}
	return host, uint16(n), nil
}

// textAddr is an address that was given but came to nothing.
type textAddr struct{ network, address string }

func (a textAddr) Network() string { return a.network }
func (a textAddr) String() string  { return a.address }

// listener is a listening TCP socket.
type listener struct {
	socket
	addr  net.Addr
	stack *Stack
}

// Accept waits for a connection. After Close it fails with net.ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.accept()
	if err != nil {
		return nil, opError("accept", l.network, nil, l.addr, err)
	}
	return c, nil
}

func (l *listener) accept() (*tcpConn, error) {
	l.readMu.Lock()
	defer l.readMu.Unlock()
	if err := l.check(&l.readDeadline); err != nil {
		return nil, err
	}
	var peer tcpip.FullAddress
	for {
		ep, queue, terr := l.ep.Accept(&peer)
		switch terr.(type) {
		case nil:
			c := newTCPConn(ep, queue, l.stack)
			c.connected(addrPortOf(peer))
			return c, nil
		case *tcpip.ErrWouldBlock:
			if err := l.wait(l.readable, &l.readDeadline); err != nil {
				return nil, err
			}
		case *tcpip.ErrInvalidEndpointState:
			// No longer listening: the stack was closed, or the address
			// the listener was bound to withdrawn.
			return nil, net.ErrClosed
		default:
			return nil, l.explain(terr)
		}
	}
}

// Close ends the listener; connections not accepted yet are reset.
func (l *listener) Close() error {
	err := l.close()
	if err == nil {
		l.stack.listeners.Add(-1)
	}
	return opError("close", l.network, nil, l.addr, err)
}

// Addr is a *net.TCPAddr with the port really bound.
func (l *listener) Addr() net.Addr { return l.addr }

// isUnroutable tells whether an address means something on this host only, or
// nothing at all: it must not be sent into the tunnel.
func isUnroutable(a netip.Addr) bool {
	return a.IsUnspecified() || a.IsLoopback() || a.Is4() && a.As4()[0] == 127
}

// checkDestination refuses addresses that no packet may be sent to.
func checkDestination(to netip.AddrPort) error {
	switch {
	case !to.Addr().IsValid() || isUnroutable(to.Addr()):
		return ErrNetUnreachable
	case to.Addr().Is4() && to.Addr() == addrOf(header.IPv4Broadcast):
		return ErrNetUnreachable
	}
	return nil
}
