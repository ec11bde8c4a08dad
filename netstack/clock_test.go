package netstack

import (
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

func elapsed(c *stallClock) time.Duration { return c.NowMonotonic().Sub(tcpip.MonotonicTime{}) }

func TestClockStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStallClock()
		time.Sleep(time.Second)
		c.freeze(stalled)
		time.Sleep(time.Second)
		c.freeze(stalled) // repeated: nothing changes
		time.Sleep(time.Second)
		frozen := elapsed(c)
		if d := frozen - time.Second; d < 0 || d > time.Microsecond {
			t.Errorf("frozen at %v, want 1s", frozen)
		}
		// What is sent later must not bear the same time, or gVisor's RACK takes
		// it for overtaken by what was sent before.
		if again := elapsed(c); again <= frozen {
			t.Errorf("two looks at the frozen clock show %v and %v, want the second later", frozen, again)
		}
		c.thaw(stalled)
		c.thaw(stalled)
		time.Sleep(time.Second)
		if d := elapsed(c) - 2*time.Second; d < 0 || d > time.Microsecond {
			t.Errorf("went on to 2s%+v, want 2s", d)
		}
	})
}

// TestClockTimers: a timer fires when its time has come on the clock.
func TestClockTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStallClock()
		start := time.Now()
		fired := make(chan time.Duration, 4)
		note := func() { fired <- time.Since(start) }
		c.AfterFunc(time.Second, note)                    // before the freeze
		c.AfterFunc(3*time.Second, note)                  // would come during it
		stopped := c.AfterFunc(3*time.Second, note)       // stopped during it
		reset := c.AfterFunc(2500*time.Millisecond, note) // set anew during it
		time.Sleep(2 * time.Second)
		c.freeze(stalled)
		time.Sleep(5 * time.Second)
		if !stopped.Stop() || stopped.Stop() {
			t.Error("Stop during a freeze: want true, then false")
		}
		reset.Reset(4 * time.Second)
		c.thaw(stalled)
		time.Sleep(time.Minute)
		synctest.Wait()
		var got []time.Duration
		for len(fired) > 0 {
			got = append(got, <-fired)
		}
		want := []time.Duration{time.Second, 8 * time.Second, 11 * time.Second}
		if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
			t.Errorf("fired at %v, want %v", got, want)
		}
		if stopped.Stop() {
			t.Error("Stop after it fired or was stopped: true")
		}
	})
}

// TestClockFreezeEnds: a link that never comes back lets time go on.
func TestClockFreezeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStallClock()
		fired := make(chan time.Time, 1)
		start := time.Now()
		c.AfterFunc(10*time.Second, func() { fired <- time.Now() })
		c.freeze(stalled)
		if d := (<-fired).Sub(start); d != maxFrozen[stalled]+10*time.Second {
			t.Errorf("fired after %v, want %v", d, maxFrozen[stalled]+10*time.Second)
		}
		c.thaw(stalled)
		time.Sleep(time.Second)
		if got := elapsed(c); got != 11*time.Second {
			t.Errorf("clock at %v, want 11s", got)
		}
	})
}

// TestClockBeyondTheCap: a timer that looks at the clock after the freeze has
// lasted for longer than it may waits for the rest of its time, once.
func TestClockBeyondTheCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStallClock()
		start := time.Now()
		fired := make(chan time.Duration, 1)
		c.AfterFunc(3*maxFrozen[stalled], func() { fired <- time.Since(start) })
		c.freeze(stalled)
		if got := <-fired; got != 4*maxFrozen[stalled] {
			t.Errorf("fired after %v, want %v", got, 4*maxFrozen[stalled])
		}
	})
}

// TestClockResetByItself: a timer may set itself anew when it fires.
func TestClockResetByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStallClock()
		timer := make(chan tcpip.Timer, 1)
		times := make(chan time.Duration, 3)
		start := time.Now()
		timer <- c.AfterFunc(time.Second, func() {
			times <- time.Since(start)
			if len(times) < 3 {
				self := <-timer
				timer <- self
				self.Reset(time.Second)
			}
		})
		time.Sleep(10 * time.Second)
		if len(times) != 3 {
			t.Errorf("fired %d times, want 3", len(times))
		}
	})
}

// TestCloseWhileFrozen: neither the end of connections nor that of the stack
// needs the clock.
func TestCloseWhileFrozen(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", echo))
	if _, err := c.Write(random(1000)); err != nil {
		t.Fatal(err)
	}
	w.a.Stalled(true)
	within(t, 5*time.Second, "conn.Close", func() { c.Close() })
	within(t, 5*time.Second, "Close", func() { w.a.Close() })
	w.a.Stalled(false)
}

// TestClockTwoReasons: the clock stands still as long as either reason holds,
// and the bound is that of the reason that holds longest.
func TestClockTwoReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStallClock()
		fired := make(chan time.Time, 1)
		start := time.Now()
		c.AfterFunc(time.Second, func() { fired <- time.Now() })
		c.freeze(stalled)
		time.Sleep(30 * time.Second)
		c.freeze(linkDown)
		time.Sleep(5 * time.Minute) // the first has expired
		c.thaw(stalled)
		time.Sleep(time.Minute)
		if got := c.elapsed(); got != 0 {
			t.Errorf("clock at %v, want 0", got)
		}
		c.freeze(stalled)
		c.thaw(linkDown)
		time.Sleep(30 * time.Second)
		if got := c.elapsed(); got != 0 {
			t.Errorf("clock at %v, want 0", got)
		}
		if d := (<-fired).Sub(start); d != 7*time.Minute+30*time.Second+time.Second {
			t.Errorf("fired after %v", d)
		}
	})
}

// TestClockFrozenAnew: a freeze that has expired does not count against another.
func TestClockFrozenAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStallClock()
		c.freeze(stalled)
		time.Sleep(maxFrozen[stalled] + 10*time.Second)
		c.freeze(linkDown)
		time.Sleep(downLimit + 5*time.Second)
		if got := c.elapsed(); got != 15*time.Second {
			t.Errorf("clock at %v, want 15s", got)
		}
	})
}

// TestClockSkip: what is due by then is called at once, in order, whether the
// clock stands or not; the rest waits for less.
func TestClockSkip(t *testing.T) {
	for _, stands := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newStallClock()
			var calls []int
			start := time.Now()
			fired := make(chan time.Duration, 1)
			c.AfterFunc(3*time.Second, func() { calls = append(calls, 3) })
			c.AfterFunc(1*time.Second, func() { calls = append(calls, 1) })
			c.AfterFunc(2*time.Second, func() { calls = append(calls, 2) }).Stop()
			c.AfterFunc(8*time.Second, func() { fired <- time.Since(start) })
			if stands {
				c.freeze(stalled)
			}
			c.skip(5 * time.Second)
			if len(calls) != 2 || calls[0] != 1 || calls[1] != 3 {
				t.Errorf("called %v, want 1 and 3", calls)
			}
			if got := c.elapsed(); got != 5*time.Second {
				t.Errorf("clock at %v, want 5s", got)
			}
			c.thaw(stalled)
			if got := <-fired; got != 3*time.Second {
				t.Errorf("the rest fired after %v, want 3s", got)
			}
			if c.armed.first != nil || len(c.parked) != 0 {
				t.Error("a timer is left")
			}
		})
	}
}
