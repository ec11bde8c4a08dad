package netstack

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	// downLimit is how long connections wait for the link to come back. After
	// it they end, so that nobody hangs for ever behind a tunnel that is gone.
	downLimit = 15 * time.Minute
	// maxSkip bounds what the clock skips when the link comes back.
	maxSkip = time.Minute
	// maxWindow is more segments than a congestion window ever has.
	maxWindow = 1 << 30
	// firstRTO: "the sender SHOULD set RTO <- 1 second" until it has measured
	// the round-trip time (RFC 6298 2.1).
	firstRTO = time.Second
	// staleAfter is how long a datagram may wait for the link to come back.
	// After it whoever sent it has asked again or given up.
	staleAfter = 3 * time.Second
)

// resume lets the connections go on after the link was down. It belongs to
// slowLoop, because it takes endpoints' locks.
//
// Meanwhile the clock stood still, so a connection that had something in flight
// would send it again when its retransmission timer has run out, which may be
// long: when a tunnel dies in silence, the timers back off until it is noticed.
// So the clock skips what they still have to wait. A timer that has been backed
// off waits for as long as there has been silence, no longer, because the waits
// before it make up the same time; therefore the clock never skips more than
// that and two first timeouts, whatever the timers of connections say that had
// trouble of their own.
//
// A connection that has nothing in flight sends a keepalive probe: its peer may
// have something in flight that we have acknowledged in vain.
func (s *Stack) resume() {
	s.mu.Lock()
	pending, silence := s.resuming && s.state.Load().up, s.silence
	if pending {
		s.resuming = false
	}
	s.mu.Unlock()
	if !pending {
		return
	}
	conns := s.connections()
	skip := min(longestTimeout(conns), silence+firstRTO, maxSkip)
	lost := map[*tcp.Endpoint]bool{} // those that had a timeout
	for _, ep := range conns {
		lost[ep] = timedOut(ep)
		probeSoon(ep)
		grant(ep, skip+firstRTO)
	}
	s.clock.skip(skip)
	// The first timer may have been that of a tail loss probe (RFC 8985 7.2),
	// which does little for a whole window that was lost.
	waiting := slices.DeleteFunc(slices.Clone(conns), timedOut)
	s.clock.skip(min(longestTimeout(waiting), firstRTO))
	s.goOn()
	for _, ep := range conns {
		restart(ep, lost[ep] || timedOut(ep))
	}
	s.log.Debug("connections go on", "count", len(conns), "silence", silence, "skipped", skip)
}

// goOn lets time go on unless the link went down again.
func (s *Stack) goOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Load().up {
		s.clock.thaw(linkDown)
	}
}

// connections returns the TCP endpoints that have a peer.
func (s *Stack) connections() (conns []*tcp.Endpoint) {
	for _, te := range s.net.RegisteredEndpoints() {
		ep, ok := te.(*tcp.Endpoint)
		if !ok {
			continue
		}
		switch ep.EndpointState() {
		case tcp.StateEstablished, tcp.StateCloseWait, tcp.StateFinWait1, tcp.StateFinWait2,
			tcp.StateClosing, tcp.StateLastAck:
			conns = append(conns, ep)
		}
	}
	return conns
}

// longestTimeout is what the next timers of connections to run out were set to,
// at most: that of retransmission, or the probe timeout before it, which
// "PTO = 2 * SRTT" and the worst case of a delayed acknowledgement make up
// (RFC 8985 7.2).
func longestTimeout(conns []*tcp.Endpoint) (longest time.Duration) {
	const delayedAck = 200 * time.Millisecond
	for _, ep := range conns {
		info := infoOf(ep)
		longest = max(longest, info.RTO, 2*info.RTT+delayedAck)
	}
	return longest
}

func infoOf(ep *tcp.Endpoint) (info tcpip.TCPInfoOption) {
	_ = ep.GetSockOpt(&info) // cannot fail
	return info
}

// probeSoon makes the keepalive timer of an idle connection run out at once; if
// something is in flight, gVisor keeps it stopped.
func probeSoon(ep *tcp.Endpoint) {
	soon := tcpip.KeepaliveIdleOption(1)
	_ = ep.SetSockOpt(&soon) // cannot fail
}

// grant adds what the clock will skip to the time a closed connection has to
// send its rest; see orphanTimeout.
func grant(ep *tcp.Endpoint, skip time.Duration) {
	var timeout tcpip.TCPUserTimeoutOption
	_ = ep.GetSockOpt(&timeout) // neither can fail
	if timeout != 0 {
		timeout += tcpip.TCPUserTimeoutOption(skip)
		_ = ep.SetSockOpt(&timeout)
	}
}

// timedOut tells whether a connection sends again what a timer has given up.
func timedOut(ep *tcp.Endpoint) bool { return infoOf(ep).CcState == tcpip.RTORecovery }

// restart undoes probeSoon and, where a timer has run out, what that did to the
// congestion window: what was lost was not lost to congestion, and gVisor
// lowers the threshold of slow start with each timeout in a row, to two
// segments in the end. As on any new path slow start begins anew, with the
// initial window.
func restart(ep *tcp.Endpoint, lost bool) {
	idle := tcpip.KeepaliveIdleOption(keepaliveIdle)
	_ = ep.SetSockOpt(&idle) // cannot fail
	if !lost {
		return
	}
	withoutRACK(ep)
	control := tcpip.CongestionControlOption(congestionControl)
	_ = ep.SetSockOpt(&control) // made anew, it begins anew
	boundWindow(ep)
	// No delay is what it has anyway; to say so sends what the window allows.
	ep.SocketOptions().SetDelayOption(false)
}

// withoutRACK leaves loss detection to RFC 6675. After a timeout gVisor's RACK
// takes all that was in flight for lost as soon as one segment is acknowledged,
// enters fast recovery, counts it as still in the network there
// (sender.SetPipe), and so sends two segments per timeout until the whole
// window has been sent again. gVisor has no way to tell a connection, so this
// reaches into it; where there is no such field, nothing happens.
func withoutRACK(ep *tcp.Endpoint) {
	ep.LockUser() // guards it
	defer ep.UnlockUser()
	if f := recoveryOf(ep); f.IsValid() && f.Type() == reflect.TypeFor[tcpip.TCPRecovery]() {
		*(*tcpip.TCPRecovery)(f.Addr().UnsafePointer()) = 0
	}
}

func recoveryOf(ep *tcp.Endpoint) reflect.Value {
	return reflect.ValueOf(ep).Elem().FieldByName("tcpRecovery")
}

// boundWindow deals with a connection that has entered fast recovery before its
// congestion control began anew: it would leave it with the threshold of slow
// start as its window, which has no bound now. The next acknowledgement makes
// that negative (cubicState.getCwnd), and nothing is ever sent again.
func boundWindow(ep *tcp.Endpoint) {
	ep.LockUser()
	defer ep.UnlockUser()
	s := senderOf(ep)
	if s == nil {
		return
	}
	if s.FastRecovery.Active {
		s.Ssthresh = min(s.Ssthresh, tcp.InitialCwnd)
	}
	if s.SndCwnd < 1 || s.SndCwnd > maxWindow { // left meanwhile
		s.SndCwnd = tcp.InitialCwnd
	}
}

// senderOf reaches into a connection like withoutRACK; nil if it sends nothing,
// or there is no such field.
func senderOf(ep *tcp.Endpoint) *tcp.TCPSenderState {
	at := senderFields()
	if at.snd == nil {
		return nil
	}
	snd := reflect.ValueOf(ep).Elem().FieldByIndex(at.snd)
	if snd.IsNil() {
		return nil
	}
	return (*tcp.TCPSenderState)(snd.Elem().FieldByIndex(at.state).Addr().UnsafePointer())
}

// senderFields finds the fields of senderOf once: by name takes long.
var senderFields = sync.OnceValue(func() (at struct{ snd, state []int }) {
	snd, ok := reflect.TypeFor[tcp.Endpoint]().FieldByName("snd")
	if !ok || snd.Type.Kind() != reflect.Pointer || snd.Type.Elem().Kind() != reflect.Struct {
		return at
	}
	state, ok := snd.Type.Elem().FieldByName("TCPSenderState")
	if ok && state.Type == reflect.TypeFor[tcp.TCPSenderState]() {
		at.snd, at.state = snd.Index, state.Index
	}
	return at
})

// giveUp ends the connections of a link that did not come back.
func (s *Stack) giveUp() {
	if s.state.Load().up {
		return
	}
	cause := fmt.Errorf("tunnel has been down for %v: %w", downLimit, ErrAborted)
	conns := s.connections()
	for _, ep := range conns {
		if local, err := ep.GetLocalAddress(); err == nil {
			s.endings.add(addrOf(local.Addr), cause)
		}
		ep.Abort()
	}
	s.log.Info("connections aborted", "count", len(conns), "err", cause)
}

// endings remembers why connections were ended on our side, by the address they
// had: all that gVisor tells them is that they were.
type endings struct {
	mu   sync.Mutex
	list []ending // oldest first
}

type ending struct {
	addr  netip.Addr
	cause error // wraps ErrAborted
}

// maxEndings is how many are remembered; connections ask at once.
const maxEndings = 16

func (e *endings) add(addr netip.Addr, cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = slices.DeleteFunc(e.list, func(old ending) bool { return old.addr == addr })
	if len(e.list) == maxEndings {
		e.list = slices.Delete(e.list, 0, 1)
	}
	e.list = append(e.list, ending{addr, cause})
}

// of returns why connections from addr were ended: ErrAborted if nothing else
// is known.
func (e *endings) of(addr netip.Addr) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, old := range e.list {
		if old.addr == addr {
			return old.cause
		}
	}
	return ErrAborted
}

func (e *endings) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = nil
}
