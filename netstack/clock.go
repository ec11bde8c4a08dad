package netstack

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// reason is why the clock stands still.
type reason int

const (
	// stalled: the outer connection makes no progress.
	stalled reason = iota
	// linkDown: there is no session.
	linkDown
	reasons
)

// maxFrozen bounds one freeze for each reason: after it time goes on, and
// connections end as they would on any dead link.
var maxFrozen = [reasons]time.Duration{stalled: 60 * time.Second, linkDown: downLimit}

// tick is what each look at a frozen clock adds to it. gVisor takes segments that
// were sent at the same time as the one just acknowledged, and after it, for
// overtaken by it, hence for lost (rackControl.detectLoss).
const tick = time.Nanosecond

const (
	// hesitation, and one and a half round trips, is how much longer a timer runs
	// if nothing at all has come since it was set: so long it may take until a
	// tunnel that stands still is known to. Without Link.RTT none hesitates.
	hesitation = 100 * time.Millisecond
	// relief is what is left of it when the tunnel turns out to be alive: what
	// came with that sign of life is still on its way to the connections.
	relief = 10 * time.Millisecond
	// maxPutOff bounds how much later than it was set for a timer runs out.
	maxPutOff = 3 * time.Second
	// maxRTT bounds Link.RTT, of which a slow server may be part.
	maxRTT = time.Second
)

// stallClock is the clock of the stack. It stands still while the tunnel makes
// no progress: the inner TCP connections then see neither the pause in their
// round-trip times nor have their retransmission timers run out, which gVisor
// never undoes (a sender would restart from a window of one segment after each
// stall of the outer connection, although nothing was lost).
//
// There is one clock and two reasons for it to stand still; it does as long as
// either holds.
//
// That the tunnel stands still is known some time after it began to, and that it
// goes on a round trip after it did. A timer that runs out in silence hesitates.
// At the end of a stall the clock skips a round trip, lest segments sent while it
// stood seem to have been acknowledged at once; and for as long as there was
// silence before it, as far as that may have been the stall, and for that round
// trip, no timer runs out.
//
// The clock starts no goroutine; frozen timers are looked at when they fire.
type stallClock struct {
	base  time.Time
	alive atomic.Int64 // time.Duration on the clock of the last sign of life; 0: none

	mu     sync.Mutex
	rtt    time.Duration      // to the server and back
	silent time.Duration      // how long nothing had come when it was frozen
	calm   time.Duration      // on the clock: until then no timer runs out
	lost   time.Duration      // time spent frozen until since, less what was skipped
	since  time.Time          // from when on until counts; zero if time runs
	until  [reasons]time.Time // end of the freeze for each reason; zero: no such reason
	armed  timerList
	parked map[*stallTimer]struct{}
}

func newStallClock() *stallClock {
	return &stallClock{base: time.Now(), parked: map[*stallTimer]struct{}{}}
}

// Now implements tcpip.Clock: the time of day, which never stands still.
func (c *stallClock) Now() time.Time { return time.Now() }

// NowMonotonic implements tcpip.Clock.
func (c *stallClock) NowMonotonic() tcpip.MonotonicTime {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.since.IsZero() {
		c.lost -= tick
	}
	return tcpip.MonotonicTime{}.Add(c.read(time.Now()))
}

// elapsed returns the time on the clock since it was made.
func (c *stallClock) elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read(time.Now())
}

// read returns the time on the clock. c.mu is held.
func (c *stallClock) read(now time.Time) time.Duration {
	return now.Sub(c.base) - c.lost - c.frozen(now)
}

// frozen is how much of the time from since to now the clock did not see.
func (c *stallClock) frozen(now time.Time) time.Duration {
	if c.since.IsZero() {
		return 0
	}
	return max(now.Sub(c.since)-max(now.Sub(c.end()), 0), 0)
}

// end is when the freeze ends by itself.
func (c *stallClock) end() (end time.Time) {
	for _, t := range c.until {
		if t.After(end) {
			end = t
		}
	}
	return end
}

// Stalled tells the stack that the tunnel has stopped moving, or goes on. While
// it stands still, for a minute at most, so does the time of the connections in
// it: nothing was lost, and nothing must be sent again. Calls may repeat. That it
// goes on, or still does, relieves timers that hesitate.
func (s *Stack) Stalled(still bool) {
	if still {
		s.clock.freeze(stalled)
		return
	}
	s.clock.thaw(stalled)
	s.clock.relieve()
}

// Awaits tells whether Fill gave something that wants an acknowledgement, and
// nothing at all has come since.
func (s *Stack) Awaits() bool { return s.link.out.awaits.Load() }

// freeze stops the time; while it stands for this reason, more calls change
// nothing.
func (c *stallClock) freeze(why reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.until[why].IsZero() {
		return
	}
	now := time.Now()
	c.settle(now)
	if c.since.IsZero() {
		c.silent = min(c.read(now)-time.Duration(c.alive.Load()), hesitation+2*c.rtt) // the rest was idle
	}
	c.since, c.until[why] = now, now.Add(maxFrozen[why])
}

// setRTT says how long the way to the server and back is.
func (c *stallClock) setRTT(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rtt = min(max(d, 0), maxRTT)
}

// hear says that something came, and returns when.
func (c *stallClock) hear() time.Duration {
	now := c.elapsed()
	c.alive.Store(int64(now))
	return now
}

// relieve says that something comes: timers need not hesitate any more.
func (c *stallClock) relieve() {
	c.hear()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for t := c.armed.first; t != nil; t = t.next {
		if soon := max(c.read(now)+relief, c.calm); t.due > t.expiry && t.due > soon {
			t.due = soon
			t.start(now)
		}
	}
}

// settle adds what was lost until now.
func (c *stallClock) settle(now time.Time) {
	c.lost += c.frozen(now)
	if !c.since.IsZero() {
		c.since = now
	}
}

// thaw takes a reason away. Without any, time goes on.
func (c *stallClock) thaw(why reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until[why].IsZero() {
		return
	}
	now := time.Now()
	missed := min(now.Sub(c.since), c.rtt)
	if now.After(c.end()) {
		missed = 0 // it goes on already
	}
	c.settle(now)
	c.until[why] = time.Time{}
	if c.end().IsZero() {
		c.since = time.Time{}
		c.calm = 0
		if why == stalled {
			c.lost -= missed
			c.calm = c.read(now) + c.silent + missed
		}
	}
	for t := range c.parked {
		t.start(now)
	}
	if c.since.IsZero() {
		clear(c.parked)
	}
}

// skip moves the time on by d, standing or not, and calls what is due then,
// the earliest first, before it returns.
func (c *stallClock) skip(d time.Duration) {
	for _, t := range c.jump(d) {
		t.f()
	}
}

// jump is skip without the calls; the timers it returns are disarmed.
func (c *stallClock) jump(d time.Duration) (due []*stallTimer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost -= d
	now := time.Now()
	for t := c.armed.first; t != nil; t = t.next {
		if t.expiry <= c.read(now) {
			due = append(due, t)
		} else if _, ok := c.parked[t]; ok {
			t.start(now)
		} else {
			t.real.Reset(t.due - c.read(now))
		}
	}
	for _, t := range due {
		t.real.Stop()
		t.disarm()
	}
	slices.SortStableFunc(due, func(a, b *stallTimer) int { return cmp.Compare(a.due, b.due) })
	return due
}

// AfterFunc implements tcpip.Clock.
func (c *stallClock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &stallTimer{clock: c, f: f}
	t.arm(d)
	t.real = time.AfterFunc(d, t.fire)
	return t
}

// stallTimer is a timer on a stallClock. Its fields belong to the clock's lock.
type stallTimer struct {
	clock      *stallClock
	f          func()
	real       *time.Timer
	set        time.Duration // on the clock: since when it runs
	expiry     time.Duration // and until when
	due        time.Duration // expiry, or later if it is put off
	armed      bool
	prev, next *stallTimer // on the clock's list while armed
}

// timerList holds the armed timers.
type timerList struct{ first *stallTimer }

func (t *stallTimer) arm(d time.Duration) {
	t.set = t.clock.read(time.Now())
	t.expiry = t.set + d
	t.due = t.expiry
	if t.armed {
		return
	}
	l := &t.clock.armed
	t.armed, t.next = true, l.first
	if l.first != nil {
		l.first.prev = t
	}
	l.first = t
}

func (t *stallTimer) disarm() {
	delete(t.clock.parked, t)
	if !t.armed {
		return
	}
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		t.clock.armed.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.armed, t.prev, t.next = false, nil, nil
}

// start sets the real timer to when the clock will show the time due, if
// nobody thaws it earlier.
func (t *stallTimer) start(now time.Time) {
	stands := time.Duration(0)
	if end := t.clock.end(); !end.IsZero() {
		stands = max(end.Sub(now), 0)
	}
	t.real.Reset(stands + t.due - t.clock.read(now))
}

// later is until when a timer that runs out at now, on the clock, is put off.
func (t *stallTimer) later(now time.Duration) time.Duration {
	c, until := t.clock, t.clock.calm
	alive := time.Duration(c.alive.Load())
	if t.due == t.expiry && c.rtt > 0 && alive != 0 && alive <= t.set {
		until = max(until, now+hesitation+c.rtt*3/2)
	}
	return max(t.due, min(until, t.expiry+maxPutOff))
}

// fire runs f if the time has come on the clock too.
func (t *stallTimer) fire() {
	c := t.clock
	c.mu.Lock()
	now := time.Now()
	if at := c.read(now); t.armed && t.due <= at {
		t.due = t.later(at)
	}
	switch {
	case !t.armed:
	case t.due <= c.read(now):
		t.disarm()
		c.mu.Unlock()
		t.f()
		return
	default:
		// Early. If the clock stands and nobody thaws it, time goes on by
		// itself some day, or does so already.
		if !c.since.IsZero() {
			c.parked[t] = struct{}{}
		}
		t.start(now)
	}
	c.mu.Unlock()
}

// Stop implements tcpip.Timer.
func (t *stallTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	was := t.armed
	t.disarm()
	t.real.Stop()
	return was
}

// Reset implements tcpip.Timer.
func (t *stallTimer) Reset(d time.Duration) {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.parked, t)
	t.arm(d)
	t.real.Reset(d)
}
