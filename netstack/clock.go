package netstack

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// maxFrozen bounds one freeze: after it time goes on, and connections end as
// they would on any dead link.
const maxFrozen = 60 * time.Second

// tick is what each look at a frozen clock adds to it. gVisor takes segments that
// were sent at the same time as the one just acknowledged, and after it, for
// overtaken by it, hence for lost (rackControl.detectLoss).
const tick = time.Nanosecond

// stallClock is the clock of the stack. It stands still while the tunnel makes
// no progress: the inner TCP connections then see neither the pause in their
// round-trip times nor have their retransmission timers run out, which gVisor
// never undoes (a sender would restart from a window of one segment after each
// stall of the outer connection, although nothing was lost).
//
// The clock starts no goroutine; frozen timers are looked at when they fire.
type stallClock struct {
	base time.Time

	mu     sync.Mutex
	lost   time.Duration // time spent frozen, without the current freeze
	since  time.Time     // start of the current freeze; zero if time runs
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
	return tcpip.MonotonicTime{}.Add(c.read())
}

// read returns the time on the clock. c.mu is held.
func (c *stallClock) read() time.Duration {
	now := time.Now()
	lost := c.lost
	if !c.since.IsZero() {
		lost += min(now.Sub(c.since), maxFrozen)
	}
	return now.Sub(c.base) - lost
}

// Stalled tells the stack that the tunnel has stopped moving, or goes on. While
// it stands still, for a minute at most, so does the time of the connections in
// it: nothing was lost, and nothing must be sent again. Calls may repeat.
func (s *Stack) Stalled(still bool) {
	if still {
		s.clock.freeze()
	} else {
		s.clock.thaw()
	}
}

// freeze stops the time; while it stands, more calls change nothing.
func (c *stallClock) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() {
		c.since = time.Now()
	}
}

// thaw lets the time go on.
func (c *stallClock) thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() {
		return
	}
	c.lost += min(time.Since(c.since), maxFrozen)
	c.since = time.Time{}
	now := c.read()
	for t := range c.parked {
		t.real.Reset(t.due - now)
	}
	clear(c.parked)
}

// AfterFunc implements tcpip.Clock.
func (c *stallClock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &stallTimer{clock: c, f: f, armed: true, due: c.read() + d}
	t.real = time.AfterFunc(d, t.fire)
	return t
}

// stallTimer is a timer on a stallClock. Its fields belong to the clock's lock.
type stallTimer struct {
	clock *stallClock
	f     func()
	real  *time.Timer
	due   time.Duration // on the clock
	armed bool
}

// fire runs f if the time has come on the clock too.
func (t *stallTimer) fire() {
	c := t.clock
	c.mu.Lock()
	left := t.due - c.read()
	switch {
	case !t.armed:
	case left <= 0:
		t.armed = false
		c.mu.Unlock()
		t.f()
		return
	case c.since.IsZero():
		t.real.Reset(left)
	default:
		// Frozen. If nobody thaws it, time goes on by itself some day, or
		// does so already.
		c.parked[t] = struct{}{}
		t.real.Reset(max(maxFrozen-time.Since(c.since), 0) + left)
	}
	c.mu.Unlock()
}

// Stop implements tcpip.Timer.
func (t *stallTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	was := t.armed
	t.armed = false
	t.real.Stop()
	delete(t.clock.parked, t)
	return was
}

// Reset implements tcpip.Timer.
func (t *stallTimer) Reset(d time.Duration) {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.parked, t)
	t.armed, t.due = true, c.read()+d
	t.real.Reset(d)
}
