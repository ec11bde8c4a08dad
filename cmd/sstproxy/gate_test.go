package main

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/netstack"
	"sstproxy/proxy"
	"sstproxy/tunnel"
)

// always is a tunnel in one state.
type always tunnel.State

func (a always) State() (tunnel.State, <-chan struct{}) { return tunnel.State(a), nil }

// A stack that has just lost an address, or goes down before the tunnel says so,
// ends dials; they are made again, and nobody is told that a tunnel is down
// which is not.
func TestGateDialsAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		fails  int
		within time.Duration
	}{
		"an address is gone": {fails: 1, within: time.Second},
		"never up":           {fails: 1000, within: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer near.Close()
				defer far.Close()
				dials := 0
				g := &gate{keeper: always{Status: tunnel.StatusUp, Up: 1}, wait: 30 * time.Second, dial: func(context.Context, string, string) (net.Conn, error) {
					if dials++; dials <= tt.fails {
						return nil, netstack.ErrDown
					}
					return near, nil
				}}
				start := time.Now()
				c, err := g.dialContext(t.Context(), "tcp", "10.66.0.1:80")
				if d := time.Since(start); d > tt.within {
					t.Errorf("after %v, want within %v", d, tt.within)
				}
				if _, lie := errors.AsType[*proxy.DownError](err); lie || (err == nil) != (c == near) || (err == nil) != (tt.fails == 1) {
					t.Errorf("got %v, %v", c, err)
				}
			})
		})
	}
}
