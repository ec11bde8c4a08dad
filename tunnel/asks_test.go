package tunnel_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel/tunneltest"
)

// TestAsks: silence makes a session ask the server for a sign of life if somebody
// waits for an answer, and only if there is none the tunnel stands still.
func TestAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The network behind this server takes packets and answers none.
		p := newPair(t, tunneltest.Config{Attach: func(tunneltest.Client) tunneltest.Network {
			return tunneltest.Network{Deliver: func([][]byte) {}}
		}})
		s := p.dial()
		stalls := make(chan bool, 10)
		var awaits atomic.Bool
		n := newNear(ipPacket(4, 100, 1))
		packets := n.packets()
		packets.Stalled = func(still bool) { stalls <- still }
		packets.Awaits = awaits.Load
		cancel, ended := run(t, s, packets)
		asked := func() int { return p.server.Count(tunneltest.EventLCPEchoRequest) }

		time.Sleep(time.Second)
		if n := asked(); n != 0 {
			t.Errorf("asked %d times although nobody waits", n)
		}
		awaits.Store(true)
		n.send(ipPacket(4, 100, 2))
		time.Sleep(time.Second)
		if n := asked(); n != 1 || len(stalls) != 1 || <-stalls {
			t.Errorf("asked %d times, want once, and to be told that it lives", n)
		}
		p.server.Line().Stall(2 * time.Second)
		n.send(ipPacket(4, 100, 3))
		time.Sleep(time.Second)
		if len(stalls) != 1 || !<-stalls {
			t.Error("no stall of a server that says nothing when it is asked")
		}
		time.Sleep(2 * time.Second)
		if len(stalls) != 1 || <-stalls {
			t.Error("the stall has no end")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		p.server.Close()
	})
}
