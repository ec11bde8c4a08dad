package netstack

import (
	"context"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// drainLook is how often Drain looks: the end of a connection that is closed
// already tells nobody.
const drainLook = 5 * time.Millisecond

// Drain waits until the other ends have acknowledged all that was written to
// connections, and their end: Close does not. It is for who has closed them all
// and is about to take the link away; a connection still open counts as well.
// When ctx ends first it returns its error.
func (s *Stack) Drain(ctx context.Context) error {
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for s.owes() {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// owes tells whether a connection has something unacknowledged, or may have.
func (s *Stack) owes() bool {
	for _, te := range s.net.RegisteredEndpoints() {
		ep, ok := te.(*tcp.Endpoint)
		if !ok {
			continue
		}
		switch ep.EndpointState() {
		case tcp.StateEstablished, tcp.StateCloseWait, tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
			return true
		}
	}
	return false
}
