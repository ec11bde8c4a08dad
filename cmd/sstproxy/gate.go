package main

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"sstproxy/proxy"
	"sstproxy/tunnel"
)

// gate is the only way from the proxies to the network, and that is through the
// tunnel: while it is down, who wants to pass waits, for a time, and is then
// told why. Its method may be called concurrently.
type gate struct {
	keeper interface {
		State() (tunnel.State, <-chan struct{})
	}
	dial proxy.DialFunc // through the stack
	wait time.Duration
}

// dialContext is a [proxy.DialFunc]. Its error is a *proxy.DownError if the
// tunnel did not come up in time.
func (g *gate) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	patience, cancel := context.WithTimeout(ctx, g.wait)
	defer cancel()
	for {
		state, changed := g.keeper.State()
		if state.IsUp() {
			conn, err := g.dial(ctx, network, address)
			if !errors.Is(err, syscall.ENETDOWN) {
				return conn, err
			}
		}
		select {
		case <-changed:
			continue
		case <-patience.Done():
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, downError(state)
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
