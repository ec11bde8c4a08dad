package proxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// association is what one UDP ASSOCIATE (RFC 1928, sections 4 and 7) holds open:
// a relay socket before the client and one socket for each family behind the
// tunnel. As those are not connected, every destination and every stranger sees
// the same port of ours (RFC 4787, sections 4.1 and 5).
type association struct {
	srv     *Server
	control *clientConn // its end is the association's
	relay   *net.UDPConn
	outer   [2]net.PacketConn // for IPv4 and for IPv6; the latter nil if there is none
	names   names

	peer   netip.Addr                     // the only one whose datagrams are taken; unspecified: any on this machine
	port   uint16                         // of the client, if it announced one; else 0
	user   func(from netip.AddrPort) bool // whether what has an address here is the client's user's; nil: any will do
	client atomic.Pointer[netip.AddrPort] // where the first datagram came from, once there was one

	start time.Time
	last  atomic.Int64 // time of the last movement, since start
	wg    sync.WaitGroup
}

// socksAssociate serves the command UDP ASSOCIATE: "A UDP association terminates
// when the TCP connection that the UDP ASSOCIATE request arrived on terminates."
// RFC 1928, section 7
func (s *Server) socksAssociate(ctx context.Context, c *clientConn, br *bufio.Reader, req socksRequest) {
	if s.cfg.ListenPacket == nil {
		s.refuseSOCKS(c, replyCommandNotSupported, req, errors.ErrUnsupported)
		return
	}
	a, err := watched(ctx, c, br, func(ctx context.Context) (*association, error) { return s.associate(ctx, c, req) })
	if err != nil {
		s.refuseSOCKS(c, classify(err).reply, req, err)
		return
	}
	s.addAssociation(a)
	defer s.removeAssociation(a)
	defer c.Close()
	if _, err := c.Write(req.reply(replySucceeded, a.relay.LocalAddr())); err != nil {
		a.close()
		return
	}
	a.serve(ctx, br)
}

// associate opens the sockets of an association, which the caller closes.
func (s *Server) associate(ctx context.Context, c *clientConn, req socksRequest) (*association, error) {
	a := &association{srv: s, control: c, start: time.Now()}
	local := a.meet(req)
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	var err error
	if a.outer[0], err = s.cfg.ListenPacket(ctx, "udp4", ""); err != nil {
		return nil, &dialError{"udp4", err}
	}
	if a.outer[1], err = s.cfg.ListenPacket(ctx, "udp6", ""); err != nil {
		a.outer[1] = nil
		s.cfg.Logger.Debug("no IPv6 for a UDP association", "peer", c.RemoteAddr(), "err", err)
	}
	if a.relay, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))); err != nil {
		a.close()
		return nil, &dialError{local.String(), err}
	}
	return a, nil
}

// meet finds out who the client is, and returns the address that it reaches the
// proxy by. A port that the client announced is taken for its own only together
// with its own address: many announce something else.
func (a *association) meet(req socksRequest) (local netip.Addr) {
	near, ok := a.control.LocalAddr().(*net.TCPAddr)
	far, ok2 := a.control.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 || near.IP.IsUnspecified() { // a socket file
		a.peer, local = netip.IPv6Unspecified(), netip.AddrFrom4([4]byte{127, 0, 0, 1})
	} else {
		a.peer, local = addrPortOf(far).Addr(), near.AddrPort().Addr().Unmap()
	}
	if a.peer.IsUnspecified() || a.srv.gate.creds.required() { // not everybody here may use the proxy
		if uid, ok := clientUser(a.control.Conn); ok {
			a.user = func(from netip.AddrPort) bool { return sentBy(uid, from) }
		}
	}
	if announced, err := netip.ParseAddr(req.host); err == nil && a.isPeer(announced.Unmap()) {
		a.port = uint16(req.port)
	}
	return local
}

// isPeer reports whether an address is the client's.
func (a *association) isPeer(addr netip.Addr) bool {
	return addr == a.peer || a.peer.IsUnspecified() && addr.IsLoopback()
}

// isClient reports whether a datagram is the client's. The first one decides
// which port that is.
func (a *association) isClient(from netip.AddrPort) bool {
	if known := a.client.Load(); known != nil {
		return *known == from
	}
	if !a.isPeer(from.Addr().Unmap().WithZone("")) || a.port != 0 && a.port != from.Port() {
		return false
	}
	if a.user != nil && !a.user(netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())) {
		return false
	}
	a.client.Store(&from)
	return true
}

// serve moves datagrams until the control connection ends, or none moved for too
// long, or the tunnel's side is closed.
func (a *association) serve(ctx context.Context, br *bufio.Reader) {
	ctx, cancel := context.WithCancel(ctx)
	defer a.srv.cfg.Logger.Debug("udp association ended", "peer", a.control.RemoteAddr(), "bound", a.relay.LocalAddr())
	defer a.wg.Wait()
	defer a.close()
	defer cancel()
	a.wg.Go(func() { a.up(ctx) }) // these end when their sockets are closed
	for _, outer := range a.outer {
		if outer != nil {
			a.wg.Go(func() { a.down(outer) })
		}
	}
	a.hold(br)
}

// hold returns when the control connection has ended or nothing has moved for
// too long. What the client sends there means nothing.
func (a *association) hold(br *bufio.Reader) {
	for {
		left := a.srv.cfg.UDPIdleTimeout - a.silence()
		if left <= 0 {
			return
		}
		a.control.SetReadDeadline(time.Now().Add(left))
		if err := discard(br); !isTimeout(err) {
			return
		}
	}
}

// discard reads until it can't.
func discard(br *bufio.Reader) error {
	for {
		if _, err := br.Peek(1); err != nil {
			return err
		}
		_, _ = br.Discard(br.Buffered())
	}
}

func (a *association) silence() time.Duration {
	return time.Since(a.start) - time.Duration(a.last.Load())
}

func (a *association) touch() { a.last.Store(int64(time.Since(a.start))) }

// close closes the sockets that are open.
func (a *association) close() {
	if a.relay != nil {
		a.relay.Close()
	}
	for _, c := range a.outer {
		if c != nil {
			c.Close()
		}
	}
}

// maxReadErrors is how many reads of a datagram socket may fail one after the
// other: ICMP errors appear as such.
const maxReadErrors = 64

// up moves the client's datagrams. ctx bounds the lookups of names.
func (a *association) up(ctx context.Context) {
	wait, err := packetWaiter(a.relay)
	if err != nil {
		a.control.Close()
		return
	}
	for failed := 0; failed < maxReadErrors && wait() == nil; {
		b := a.srv.buffer()
		n, from, err := a.relay.ReadFromUDPAddrPort(b[:])
		if err == nil {
			failed = 0
			a.forward(ctx, b[:n], from)
		} else {
			failed++
		}
		a.srv.buffers.Put(b)
	}
	a.control.Close()
}

// forward sends one datagram of the client on, or drops it.
func (a *association) forward(ctx context.Context, b []byte, from netip.AddrPort) {
	if !a.isClient(from) {
		a.srv.udp.foreign.Add(1)
		return
	}
	a.touch()
	d, err := parseDatagram(b)
	switch {
	case err != nil:
		a.srv.udp.malformed.Add(1)
		a.srv.cfg.Logger.Debug("udp datagram dropped", "peer", from, "err", err)
	case d.addr.IsValid():
		a.send(d.payload, netip.AddrPortFrom(d.addr, d.port))
	default:
		a.sendToName(ctx, d)
	}
}

// send sends to an address in canonical form, or drops the datagram.
func (a *association) send(payload []byte, to netip.AddrPort) {
	err := checkAddr(to.Addr())
	if err == nil {
		err = a.write(payload, to)
	}
	if err != nil {
		a.drop(to.String(), err)
		return
	}
	a.srv.udp.sent.Add(1)
}

func (a *association) write(payload []byte, to netip.AddrPort) error {
	outer := a.outer[0]
	if to.Addr().Is6() {
		outer = a.outer[1]
	}
	if outer == nil {
		return errors.ErrUnsupported
	}
	_, err := outer.WriteTo(payload, net.UDPAddrFromAddrPort(to))
	return err
}

// drop counts a datagram that could not be delivered.
func (a *association) drop(dst string, err error) {
	a.srv.udp.undelivered.Add(1)
	a.srv.cfg.Logger.Debug("udp datagram dropped", "peer", a.control.RemoteAddr(), "dst", dst, "err", err)
}

// down moves datagrams from the tunnel's side to the client.
func (a *association) down(outer net.PacketConn) {
	wait := outerWaiter(outer)
	for failed := 0; failed < maxReadErrors; {
		wait()
		b := a.srv.buffer()
		n, from, err := outer.ReadFrom(b[maxDatagramHeader:])
		switch {
		case err == nil:
			failed = 0
			a.deliver(b[:maxDatagramHeader+n], from)
		case errors.Is(err, net.ErrClosed):
			failed = maxReadErrors
		default:
			failed++
		}
		a.srv.buffers.Put(b)
	}
	a.control.Close()
}

// deliver gives the client one datagram, which stands in b behind the room for
// the longest header.
func (a *association) deliver(b []byte, from net.Addr) {
	client := a.client.Load()
	sender, ok := from.(interface{ AddrPort() netip.AddrPort })
	if client == nil || !ok {
		a.srv.udp.undelivered.Add(1)
		return
	}
	a.touch()
	ap := sender.AddrPort()
	var header [maxDatagramHeader]byte
	h := appendDatagramHeader(header[:0], netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()))
	b = b[maxDatagramHeader-len(h):]
	copy(b, h)
	if _, err := a.relay.WriteToUDPAddrPort(b, *client); err != nil {
		a.drop(client.String(), err) // too large with its header, for one
		return
	}
	a.srv.udp.received.Add(1)
}

// outerWaiter returns a function that waits until a socket may have something to
// read, so that nobody holds a buffer meanwhile. Of a socket that can't tell it
// returns one that does not wait.
func outerWaiter(c net.PacketConn) (wait func()) {
	switch c := c.(type) {
	case interface{ OnReadable(f func()) (now bool) }:
		woken := make(chan struct{}, 1)
		wake := func() { woken <- struct{}{} }
		return func() {
			if !c.OnReadable(wake) {
				<-woken
			}
		}
	case *net.UDPConn:
		if wait, err := packetWaiter(c); err == nil {
			return func() { _ = wait() } // the read tells what is wrong
		}
	}
	return func() {}
}

// addAssociation registers an association, and ends the one in which nothing
// moved for longest if there are too many.
func (s *Server) addAssociation(a *association) {
	s.mu.Lock()
	var oldest *association
	if len(s.assocs) >= s.cfg.MaxAssociations {
		for o := range s.assocs {
			if oldest == nil || o.silence() > oldest.silence() {
				oldest = o
			}
		}
		delete(s.assocs, oldest)
	}
	s.assocs[a] = struct{}{}
	s.mu.Unlock()
	if oldest != nil {
		s.cfg.Logger.Debug("udp association dropped for a new one", "peer", oldest.control.RemoteAddr())
		oldest.control.Close()
	}
}

func (s *Server) removeAssociation(a *association) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.assocs, a)
}

// datagramCounters count what UDP associations did.
type datagramCounters struct {
	sent, received, foreign, malformed, undelivered atomic.Uint64
}

// UDPStats counts what the UDP associations did since the server was made.
type UDPStats struct {
	Associations   int    // open now
	Sent, Received uint64 // datagrams of clients, and to clients
	Foreign        uint64 // dropped: not from the association's client
	Malformed      uint64 // dropped: fragments and what is no SOCKS datagram
	Undelivered    uint64 // dropped: could not, or must not, be sent
}

// UDPStats may be called at any time.
func (s *Server) UDPStats() UDPStats {
	s.mu.Lock()
	n := len(s.assocs)
	s.mu.Unlock()
	return UDPStats{
		Associations: n,
		Sent:         s.udp.sent.Load(),
		Received:     s.udp.received.Load(),
		Foreign:      s.udp.foreign.Load(),
		Malformed:    s.udp.malformed.Load(),
		Undelivered:  s.udp.undelivered.Load(),
	}
}
