package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// fault is one way to lose the tunnel, or to hold it up.
type fault struct {
	name string
	do   func(*soakSite, *rand.Rand) (lasts time.Duration)
	// holds: the session may outlive it. slow: the client needs seconds to
	// notice it.
	holds, slow bool
}

// ofSession makes a fault of what a session can be told.
func ofSession(do func(*tunneltest.Conn)) func(*soakSite, *rand.Rand) time.Duration {
	return func(s *soakSite, _ *rand.Rand) time.Duration {
		for _, c := range s.server.Sessions() {
			do(c)
		}
		return 0
	}
}

// ofLine makes a fault of what can happen to TCP.
func ofLine(do func(*tunneltest.Line)) func(*soakSite, *rand.Rand) time.Duration {
	return func(s *soakSite, _ *rand.Rand) time.Duration { do(s.server.Line()); return 0 }
}

// losses are the faults that can come at any time; brief leaves out the slow
// ones.
func losses(brief bool) []fault {
	list := []fault{
		{name: "RST", do: ofLine((*tunneltest.Line).Reset)},
		{name: "FIN", do: ofLine((*tunneltest.Line).Cut)},
		{name: "half open", slow: true, do: ofLine((*tunneltest.Line).HalfOpen)},
		{name: "garbage", do: ofLine(func(l *tunneltest.Line) { l.Garbage(64) })},
		{name: "Call Disconnect", do: ofSession(func(c *tunneltest.Conn) { c.Disconnect(sstp.StatusNoError) })},
		{name: "Call Abort", do: ofSession(func(c *tunneltest.Conn) {
			c.Abort(sstp.StatusInfo{Status: sstp.StatusRetryCountExceeded})
		})},
		{name: "Terminate-Request", do: ofSession(func(c *tunneltest.Conn) { c.Terminate("maintenance") })},
		{name: "announced end", slow: true, do: announce},
		{name: "stall", holds: true, slow: true, do: func(s *soakSite, r *rand.Rand) time.Duration {
			d := time.Duration(200+r.IntN(4000)) * time.Millisecond
			s.server.Line().Stall(d)
			return d
		}},
	}
	if runtime.GOOS != "windows" && !signal.Ignored(syscall.SIGHUP) {
		list = append(list, fault{name: "SIGHUP", do: func(*soakSite, *rand.Rand) time.Duration {
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				self.Signal(syscall.SIGHUP)
			}
			return 0
		}})
	}
	return slices.DeleteFunc(list, func(f fault) bool { return brief && f.slow })
}

// announce tells the client that the session ends soon, which makes it try for
// another one, and then ends it.
func announce(s *soakSite, _ *rand.Rand) time.Duration {
	s.spares.Store(true)
	defer s.spares.Store(false)
	n := s.server.Count(tunneltest.EventCallConnected)
	for _, c := range s.server.Sessions() {
		c.TimeRemaining(10*time.Second, "")
	}
	deadline := time.Now().Add(3 * time.Second)
	for s.server.Count(tunneltest.EventCallConnected) == n && pauseFor(nil, 20*time.Millisecond) && time.Now().Before(deadline) {
	}
	return ofSession(func(c *tunneltest.Conn) { c.Terminate("the time is over") })(s, nil)
}

// obstacle is what meets the client when it comes back, for about a time d.
type obstacle struct {
	name string
	do   func(l *tunneltest.Line, r *rand.Rand, d time.Duration)
	slow bool // the client gives up an attempt to notice it
}

func welcome(w tunneltest.Welcome) func(*tunneltest.Line, *rand.Rand, time.Duration) {
	return func(l *tunneltest.Line, _ *rand.Rand, d time.Duration) { l.Welcome(w, d) }
}

// hindrances are the obstacles there can be; brief leaves out the slow ones.
func hindrances(brief bool) []obstacle {
	list := []obstacle{
		{name: "refused", do: welcome(tunneltest.WelcomeRefused)},
		{name: "reset", do: welcome(tunneltest.WelcomeReset)},
		{name: "closed", do: welcome(tunneltest.WelcomeClosed)},
		{name: "silent", slow: true, do: welcome(tunneltest.WelcomeSilence)},
		{name: "broken within the handshake", do: within(tunneltest.FaultCut, tunneltest.FaultReset)},
		{name: "silent within the handshake", slow: true, do: within(tunneltest.FaultHalfOpen)},
	}
	return slices.DeleteFunc(list, func(o obstacle) bool { return brief && o.slow })
}

// within has one of these faults strike somewhere in the next handshake.
func within(faults ...tunneltest.Fault) func(*tunneltest.Line, *rand.Rand, time.Duration) {
	return func(l *tunneltest.Line, r *rand.Rand, _ time.Duration) {
		l.Script(tunneltest.Step{Sent: 1 + r.IntN(3000), Do: faults[r.IntN(len(faults))]})
	}
}

// otherNetwork gives the next session an address of another network.
func otherNetwork(s *soakSite, r *rand.Rand) {
	s.server.SetPool(netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", 100+r.IntN(100), r.IntN(250))), demoGateway)
}
