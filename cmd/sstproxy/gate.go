package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"sstproxy/netstack"
	"sstproxy/proxy"
	"sstproxy/tunnel"
)

// gate is the only way into the tunnel: while it is down, who wants to pass
// waits, for a time, and is then told why. Its methods may be called
// concurrently. The error of each is a *proxy.DownError if the tunnel did not
// come up in time.
type gate struct {
	keeper interface {
		State() (tunnel.State, <-chan struct{})
	}
	dial  proxy.DialFunc // through the stack
	stack *netstack.Stack
	wait  time.Duration
}

// dialContext is a [proxy.DialFunc].
func (g *gate) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return pass(ctx, g, func() (net.Conn, error) { return g.dial(ctx, network, address) })
}

// listenPacket opens a UDP socket in the tunnel. An empty address is any port of
// the inner address, whatever that is at the time of a datagram.
func (g *gate) listenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	return pass(ctx, g, func() (net.PacketConn, error) { return g.stack.ListenPacket(network, cmp.Or(address, ":0")) })
}

// lookup looks a name up in the tunnel.
func (g *gate) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return pass(ctx, g, func() ([]netip.Addr, error) { return g.stack.LookupNetIP(ctx, network, host) })
}

// lookupAddr looks the name of an address up in the tunnel.
func (g *gate) lookupAddr(ctx context.Context, addr netip.Addr) (string, error) {
	return pass(ctx, g, func() (string, error) { return g.stack.LookupAddr(ctx, addr) })
}

// listen listens in the tunnel. An empty address is any port of the inner
// address, so that the listener can tell it, and ends with it.
func (g *gate) listen(ctx context.Context, network, address string) (net.Listener, error) {
	return pass(ctx, g, func() (net.Listener, error) {
		if address != "" {
			return g.stack.Listen(network, address)
		}
		for _, addr := range g.stack.Addrs() {
			if addr.Is6() == (network == "tcp6") {
				return g.stack.Listen(network, net.JoinHostPort(addr.String(), "0"))
			}
		}
		return nil, fmt.Errorf("no inner address for %s: %w", network, syscall.EAFNOSUPPORT)
	})
}

// againAfter is how long to wait before what a stack has ended is done again,
// though the tunnel is up: an address less, for example, ends all dials.
const againAfter = 50 * time.Millisecond

// pass does what needs the tunnel once that is up, and again if it went down
// meanwhile.
func pass[T any](ctx context.Context, g *gate, do func() (T, error)) (result T, err error) {
	var patience <-chan time.Time
	for {
		state, changed := g.keeper.State()
		var again <-chan time.Time
		if state.IsUp() {
			result, err = do()
			if !errors.Is(err, syscall.ENETDOWN) {
				return result, err
			}
			again = time.After(againAfter)
		}
		if patience == nil {
			patience = time.After(g.wait)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return result, ctx.Err()
		case <-patience:
			if state.IsUp() {
				return result, err
			}
			return result, downError(state)
		}
	}
}

// downError says to clients of the proxy what is known of the tunnel.
func downError(s tunnel.State) *proxy.DownError {
	e := &proxy.DownError{Since: s.Changed, Next: s.NextTry}
	if s.Status == tunnel.StatusConnecting {
		e.Next = s.Since
	}
	if s.Cause != nil {
		e.Cause = explain(s.Cause).what
	}
	return e
}
