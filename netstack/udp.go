package netstack

import (
	"bytes"
	"net"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/waiter"
)

// udpConn is a UDP socket, connected or not: a net.Conn and a net.PacketConn.
// An ICMP error for a connected one appears as the error of the next call, for
// example ErrRefused. Its errors are temporary; the socket stays usable.
type udpConn struct {
	socket
	stack  *Stack
	local  net.Addr
	remote net.Addr // nil if not connected
	dual   bool     // an IPv6 endpoint that takes IPv4 as mapped addresses
	dst    tcpip.SliceWriter
	src    bytes.Reader
}

// newUDPConn makes a socket of an endpoint, which it owns from then on. dual: it
// takes both families.
func newUDPConn(s *Stack, ep tcpip.Endpoint, queue *waiter.Queue, proto tcpip.NetworkProtocolNumber, dual bool) *udpConn {
	c := &udpConn{stack: s, dual: dual}
	unspecified := netip.IPv6Unspecified()
	if proto == header.IPv4ProtocolNumber {
		unspecified = netip.IPv4Unspecified()
	}
	c.init(ep, queue, "udp", (*readNotifier)(&c.socket))
	if a, err := ep.GetLocalAddress(); err == nil {
		local := addrPortOf(a)
		if !local.Addr().IsValid() { // bound to no address
			local = netip.AddrPortFrom(unspecified, local.Port())
		}
		c.local = net.UDPAddrFromAddrPort(local)
	}
	if a, err := ep.GetRemoteAddress(); err == nil {
		c.remote = net.UDPAddrFromAddrPort(addrPortOf(a))
	}
	return c
}

// Read reads one datagram; what does not fit into b is lost.
func (c *udpConn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFromUDPAddrPort(b)
	return n, err
}

// OnReadable is that of TCP connections: it tells whether a datagram is there,
// and has f called once when there may be one.
func (c *udpConn) OnReadable(f func()) (now bool) { return c.whenReadable(f) }

// ReadFrom reads one datagram and its sender, a *net.UDPAddr.
func (c *udpConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// ReadFromUDPAddrPort is ReadFrom without the allocation.
func (c *udpConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	n, from, err := c.read(b)
	return n, from, opError("read", c.network, c.local, c.remote, err)
}

func (c *udpConn) read(b []byte) (int, netip.AddrPort, error) {
	if err := c.check(&c.readDeadline); err != nil {
		return 0, netip.AddrPort{}, err
	}
	defer func() { c.dst = nil }()
	for {
		c.dst = b
		res, terr := c.ep.Read(&c.dst, tcpip.ReadOptions{NeedRemoteAddr: true})
		switch terr.(type) {
		case nil:
			return res.Count, addrPortOf(res.RemoteAddr), nil
		case *tcpip.ErrWouldBlock:
			if err := c.wait(c.readable, &c.readDeadline); err != nil {
				return 0, netip.AddrPort{}, err
			}
		case *tcpip.ErrClosedForReceive:
			return 0, netip.AddrPort{}, c.ended()
		default:
			return 0, netip.AddrPort{}, c.explain(terr)
		}
	}
}

// ended is why there is nothing to read any more: a datagram socket has no end
// of file, so it or the stack was closed, or its address was withdrawn.
func (c *udpConn) ended() error {
	local, ok := c.local.(*net.UDPAddr)
	if c.isClosed() || c.stack.isClosed() || !ok {
		return net.ErrClosed
	}
	return c.stack.endings.of(local.AddrPort().Addr().Unmap())
}

// Write sends one datagram to the connected address.
func (c *udpConn) Write(b []byte) (int, error) {
	if c.remote == nil {
		return 0, opError("write", c.network, c.local, nil, syscall.EDESTADDRREQ)
	}
	return c.writeTo(b, nil, c.remote)
}

// WriteTo sends one datagram to addr, which must be a *net.UDPAddr or have the
// method AddrPort of one.
func (c *udpConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	to, ok := addr.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return 0, opError("write", c.network, c.local, addr, syscall.EINVAL)
	}
	return c.WriteToUDPAddrPort(b, to.AddrPort())
}

// WriteToUDPAddrPort is WriteTo without the interface.
func (c *udpConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	err := checkDestination(to)
	if err == nil && to.Addr().Is4() != c.is4() && !c.dual {
		err = syscall.EAFNOSUPPORT
	}
	if err != nil {
		return 0, opError("write", c.network, c.local, net.UDPAddrFromAddrPort(to), err)
	}
	full := fullAddressOf(to)
	if c.dual && to.Addr().Is4() {
		full.Addr = tcpip.AddrFrom16(to.Addr().As16())
	}
	return c.writeTo(b, &full, nil)
}

func (c *udpConn) is4() bool {
	a, ok := c.local.(*net.UDPAddr)
	return ok && a.AddrPort().Addr().Unmap().Is4()
}

func (c *udpConn) writeTo(b []byte, to *tcpip.FullAddress, addr net.Addr) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	n, err := c.write(b, to)
	if err != nil && to != nil {
		addr = net.UDPAddrFromAddrPort(addrPortOf(*to))
	}
	return n, opError("write", c.network, c.local, addr, err)
}

func (c *udpConn) write(b []byte, to *tcpip.FullAddress) (int, error) {
	if err := c.check(&c.writeDeadline); err != nil {
		return 0, err
	}
	if !c.stack.state.Load().up {
		return 0, ErrDown
	}
	defer c.src.Reset(nil)
	for {
		c.src.Reset(b)
		n, terr := c.ep.Write(&c.src, tcpip.WriteOptions{To: to})
		switch terr.(type) {
		case nil:
			return int(n), nil
		case *tcpip.ErrWouldBlock:
			// The send buffer: datagrams that wait in the queue count.
			if err := c.wait(c.writable, &c.writeDeadline); err != nil {
				return 0, err
			}
		default:
			return 0, c.explain(terr)
		}
	}
}

// Close closes the socket.
func (c *udpConn) Close() error {
	return opError("close", c.network, c.local, c.remote, c.close())
}

// LocalAddr is a *net.UDPAddr.
func (c *udpConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is a *net.UDPAddr, or nil for a socket of ListenPacket.
func (c *udpConn) RemoteAddr() net.Addr { return c.remote }
