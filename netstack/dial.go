package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// fallbackDelay is how long IPv4 is tried before IPv6 joins: the
	// "Connection Attempt Delay" of RFC 8305 §5, as long as package net's.
	fallbackDelay = 300 * time.Millisecond
	// minAttempt is the least time one of several addresses gets.
	minAttempt = 2 * time.Second
	// connectTimeout is a SYN and three retries of it, at 1, 3 and 7 s, and the
	// wait for the last. gVisor itself goes on for two minutes, and
	// tcpip.TCPSynRetriesOption, which says otherwise, is stored there but
	// never looked at.
	connectTimeout = 15 * time.Second
)

// DialContext connects through the tunnel. network is tcp, tcp4, tcp6, udp,
// udp4 or udp6; address is host:port with a numeric port. A host name is
// resolved as by LookupNetIP. With several addresses of a name IPv4 goes
// first, and IPv6 joins after 300 ms: SSTP servers often negotiate IPv6
// without carrying it.
//
// When ctx ends or the link goes down, the attempt is aborted at once; a
// connection, once made, is not bound to ctx. Without a deadline the attempt
// to one address ends after 15 s with ErrTimeout.
//
// The error is a *net.OpError around the cause: those of this package, a
// *net.DNSError, or ctx.Err(). TCP connections have CloseRead and CloseWrite.
func (s *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := s.dial(ctx, network, address)
	if err != nil {
		return nil, opError("dial", network, nil, textAddr{network, address}, err)
	}
	return c, nil
}

func (s *Stack) dial(ctx context.Context, network, address string) (net.Conn, error) {
	transport, f, err := parseNetwork(network)
	if err != nil {
		return nil, err
	}
	host, port, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	addrs, err := s.lookup(ctx, f, host)
	if err != nil {
		return nil, err
	}
	if transport == "udp" {
		return s.dialUDP(netip.AddrPortFrom(addrs[0], port))
	}
	return s.dialAny(ctx, addrs, port)
}

// usable tells why nothing can be dialled right now, nil if it can.
func (s *Stack) usable(ctx context.Context) error {
	switch {
	case s.isClosed():
		return net.ErrClosed
	case !s.state.Load().up:
		return ErrDown
	}
	return ctx.Err()
}

// dialAny dials addresses of which IPv4 comes first, as lookup sorts them.
func (s *Stack) dialAny(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	n := 0
	for n < len(addrs) && addrs[n].Is4() {
		n++
	}
	if n == 0 || n == len(addrs) {
		return s.dialSerial(ctx, addrs, port)
	}
	return s.race(ctx, addrs[:n], addrs[n:], port)
}

// attempt is the outcome of one side of a race.
type attempt struct {
	conn     net.Conn
	err      error
	fallback bool
}

// race dials first, and second when first failed or took too long. It returns
// when both have ended, which is at once after one has won: cancelling aborts
// the other.
func (s *Stack) race(ctx context.Context, first, second []netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempt, 2)
	running := 0
	start := func(addrs []netip.Addr, fallback bool) {
		running++
		go func() { // ends with the dial, which ctx bounds; its result is awaited
			conn, err := s.dialSerial(ctx, addrs, port)
			results <- attempt{conn, err, fallback}
		}()
	}
	start(first, false)
	timer := time.NewTimer(fallbackDelay)
	defer timer.Stop()
	pending := true // second has not been started
	var won net.Conn
	var failed error
	for running > 0 {
		select {
		case <-timer.C:
			if pending && won == nil {
				pending = false
				start(second, true)
			}
		case r := <-results:
			running--
			won, failed = settle(won, failed, r)
			if won != nil {
				cancel()
			} else if pending && ctx.Err() == nil {
				pending = false
				start(second, true)
			}
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, failed
}

// settle counts one result in: the first connection wins, and the error of the
// first family is the one to report.
func settle(won net.Conn, failed error, r attempt) (net.Conn, error) {
	switch {
	case r.err != nil:
		if failed == nil || !r.fallback {
			failed = r.err
		}
	case won == nil:
		won = r.conn
	default:
		r.conn.Close()
	}
	return won, failed
}

// dialSerial tries addresses one after the other and returns the first error
// if all fail. With a deadline each gets its share of the time.
func (s *Stack) dialSerial(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	var first error
	for i, a := range addrs {
		c, err := s.dialShare(ctx, netip.AddrPortFrom(a, port), len(addrs)-i)
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil || errors.Is(err, ErrDown) || errors.Is(err, net.ErrClosed) {
			break
		}
	}
	return nil, first
}

// dialShare dials one of n addresses that are left.
func (s *Stack) dialShare(ctx context.Context, to netip.AddrPort, n int) (net.Conn, error) {
	deadline, ok := ctx.Deadline()
	if !ok || n == 1 {
		return s.dialTCP(ctx, to)
	}
	share := max(time.Until(deadline)/time.Duration(n), minAttempt)
	part, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	c, err := s.dialTCP(part, to)
	if err != nil && part.Err() != nil && ctx.Err() == nil {
		err = ErrTimeout // of this address, not of the whole dial
	}
	return c, err
}

// dialTCP makes one connection.
func (s *Stack) dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if err := checkDestination(to); err != nil || to.Addr().IsMulticast() {
		return nil, ErrNetUnreachable
	}
	st := s.state.Load()
	queue := new(waiter.Queue)
	ep, terr := s.net.NewEndpoint(tcp.ProtocolNumber, protocolOf(to.Addr()), queue)
	if terr != nil {
		return nil, errnoOf(terr)
	}
	c := newTCPConn(ep, queue, s)
	terr = ep.Connect(fullAddressOf(to))
	if _, ok := terr.(*tcpip.ErrConnectStarted); !ok && terr != nil {
		c.abandon()
		return nil, s.dialError(terr)
	}
	if err := s.awaitConnect(ctx, st, c); err != nil {
		c.abandon()
		return nil, err
	}
	c.connected(to)
	return c, nil
}

// awaitConnect waits until the handshake has ended one way or the other.
func (s *Stack) awaitConnect(ctx context.Context, st *linkState, c *tcpConn) error {
	timer := time.NewTimer(connectTimeout)
	defer timer.Stop()
	select {
	case <-c.writable:
		if terr := c.ep.LastError(); terr != nil {
			return s.dialError(terr)
		}
		return nil
	case <-timer.C:
		return ErrTimeout
	case <-ctx.Done():
		return ctx.Err()
	case <-st.down:
		return s.downError()
	}
}

// dialError is what went wrong, or the reason behind it when it was us.
func (s *Stack) dialError(terr tcpip.Error) error {
	if err := s.usable(context.Background()); err != nil {
		return err
	}
	return errnoOf(terr)
}

// downError is why what began in an earlier state of the link has ended.
func (s *Stack) downError() error {
	if err := s.usable(context.Background()); err != nil {
		return err
	}
	return ErrDown // it was, and whoever tries again finds it up
}

// abandon ends an endpoint that nobody has seen: without lingering, and with a
// reset if the handshake was completed meanwhile.
func (c *tcpConn) abandon() {
	_ = c.closeBy(c.ep.Abort)
}

// dialUDP makes a connected socket. Nothing is sent.
func (s *Stack) dialUDP(to netip.AddrPort) (net.Conn, error) {
	if err := checkDestination(to); err != nil {
		return nil, err
	}
	queue := new(waiter.Queue)
	ep, terr := s.net.NewEndpoint(udp.ProtocolNumber, protocolOf(to.Addr()), queue)
	if terr != nil {
		return nil, errnoOf(terr)
	}
	if terr := ep.Connect(fullAddressOf(to)); terr != nil {
		ep.Close()
		return nil, s.dialError(terr)
	}
	return newUDPConn(s, ep, queue, protocolOf(to.Addr()), false), nil
}
