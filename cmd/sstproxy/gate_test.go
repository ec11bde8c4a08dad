package main

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
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

// switched is a tunnel whose state changes.
type switched struct {
	mu      sync.Mutex
	state   tunnel.State
	changed chan struct{}
}

func (s *switched) State() (tunnel.State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.changed
}

func (s *switched) set(state tunnel.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.state, s.changed = state, make(chan struct{})
}

// A dial that the end of the tunnel ends is made again as soon as that is back. Who
// has waited for too long since is told that it is down and why; any other failure
// is told at once.
func TestGateWaits(t *testing.T) {
	const slow, patience = 10 * time.Second, 30 * time.Second
	cut := tunnel.State{Status: tunnel.StatusConnecting, Cause: errors.New("cut")}
	for name, tt := range map[string]struct {
		fails error         // the first dial
		back  time.Duration // how long the tunnel is down; 0: for ever
		quit  time.Duration // when the client goes; 0: never
		after time.Duration // how long it all takes
		dials int
		ok    func(error) bool
	}{
		"comes back": {fails: netstack.ErrDown, back: 5 * time.Second, after: slow + 5*time.Second, dials: 2,
			ok: func(err error) bool { return err == nil }},
		"stays down": {fails: netstack.ErrDown, after: slow + patience, dials: 1, ok: func(err error) bool {
			down, ok := errors.AsType[*proxy.DownError](err)
			return ok && down.Cause == explain(cut.Cause).what
		}},
		"another failure": {fails: syscall.ECONNREFUSED, back: time.Second, after: slow, dials: 1,
			ok: func(err error) bool { return err == syscall.ECONNREFUSED }},
		"given up": {fails: netstack.ErrDown, quit: slow + time.Second, after: slow + time.Second, dials: 1,
			ok: func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &switched{state: tunnel.State{Status: tunnel.StatusUp}, changed: make(chan struct{})}
				dials := 0
				g := &gate{keeper: k, wait: patience, dial: func(context.Context, string, string) (net.Conn, error) {
					if dials++; dials > 1 {
						return nil, nil
					}
					time.Sleep(slow)
					k.set(cut)
					if tt.back > 0 {
						time.AfterFunc(tt.back, func() { k.set(tunnel.State{Status: tunnel.StatusUp}) })
					}
					return nil, tt.fails
				}}
				ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(tt.quit, time.Hour))
				defer cancel()
				start := time.Now()
				_, err := g.dialContext(ctx, "tcp", "10.66.0.1:80")
				if d := time.Since(start); d != tt.after || dials != tt.dials || !tt.ok(err) {
					t.Errorf("%v after %v and %d dials, want %v and %d", err, d, dials, tt.after, tt.dials)
				}
			})
		})
	}
}
