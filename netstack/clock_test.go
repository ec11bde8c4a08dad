package netstack

import (
	"io"
	"net"
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

// TestClockHesitates: a timer that has run out in silence waits for a little
// longer, once; one that has run while something came does not.
func TestClockHesitates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStallClock()
		start := time.Now()
		fired := make(chan time.Duration, 4)
		set := func(d time.Duration) tcpip.Timer {
			return c.AfterFunc(d, func() { fired <- time.Since(start) })
		}
		want := func(what string, want time.Duration) {
			t.Helper()
			if got := <-fired; got.Round(time.Microsecond) != want {
				t.Errorf("%s: fired at %v, want %v", what, got, want)
			}
		}
		const second, ms = time.Second, time.Millisecond
		c.hear()
		set(second)
		want("nobody tells of stalls", second)
		c.setRTT(1)
		c.alive.Store(0)
		set(0)
		want("nothing has ever come", second)
		c.hear()
		again := set(40 * ms)
		want("silence", second+40*ms+hesitation)
		again.Reset(40 * ms) // at 1140 ms
		want("silence again", second+80*ms+2*hesitation)
		set(40 * ms) // at 1280 ms
		time.Sleep(20 * ms)
		c.hear()
		want("no silence", second+120*ms+2*hesitation)
		set(40 * ms) // at 1320 ms
		time.Sleep(50 * ms)
		c.hear()
		want("too late", second+160*ms+3*hesitation)
		set(40 * ms) // at 1460 ms
		time.Sleep(50 * ms)
		c.skip(0)
		want("it has run out for who skips", second+210*ms+3*hesitation)
		set(40 * ms) // at 1510 ms
		time.Sleep(50 * ms)
		c.relieve() // at 1560 ms
		want("a sign of life", second+260*ms+3*hesitation+relief)
		c.setRTT(300 * ms)
		set(40 * ms) // at 1570 ms
		want("a distant server", second+300*ms+450*ms+4*hesitation+relief)
	})
}

// TestClockCalm: after a stall no timer runs out for as long as nothing had come
// before it, as far as that is how long it took to notice, nor one that hesitated.
// It does so in the end, whatever comes between.
func TestClockCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStallClock()
		start := time.Now()
		fired := make(chan time.Duration, 4)
		set := func(d time.Duration) { c.AfterFunc(d, func() { fired <- time.Since(start) }) }
		want := func(what string, want time.Duration) {
			t.Helper()
			if got := <-fired; got != want {
				t.Errorf("%s: fired at %v, want %v", what, got, want)
			}
		}
		const second, ms = time.Second, time.Millisecond
		time.Sleep(second)
		c.hear()
		time.Sleep(20 * ms)
		set(70 * ms) // until 1090 ms on the clock
		set(200 * ms)
		time.Sleep(60 * ms)
		c.freeze(stalled) // at 1080 ms
		time.Sleep(10 * second)
		c.thaw(stalled) // at 11080 ms
		time.Sleep(ms)
		c.hear()
		want("the end of calm", 11*second+160*ms)
		want("after it", 11*second+220*ms)

		time.Sleep(time.Minute)
		c.freeze(stalled)
		time.Sleep(second)
		c.thaw(stalled)
		begun := time.Since(start)
		set(2 * ms)
		time.Sleep(ms)
		c.hear()
		want("a long silence", begun+hesitation)

		c.setRTT(80 * ms)
		c.hear()
		time.Sleep(ms)
		begun = time.Since(start)
		set(160 * ms)
		time.Sleep(200 * ms) // it hesitates
		c.freeze(stalled)
		time.Sleep(second)
		c.thaw(stalled) // after a silence of 201 ms
		want("a timer that hesitated", begun+second+200*ms+201*ms+80*ms)

		begun = time.Since(start)
		set(second)
		for range 100 {
			time.Sleep(60 * ms)
			c.freeze(stalled)
			time.Sleep(ms)
			c.thaw(stalled)
		}
		if got := <-fired - begun; got > second+maxPutOff {
			t.Errorf("one stall after the other: fired after %v", got)
		}
	})
}

// TestClockRoundTrip: what was sent while the clock stood and is acknowledged at
// once when it goes on has taken a round trip. No timer runs out by that alone.
func TestClockRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStallClock()
		c.setRTT(80 * time.Millisecond)
		start := time.Now()
		fired := make(chan time.Duration, 1)
		c.AfterFunc(50*time.Millisecond, func() { fired <- time.Since(start) })
		c.freeze(stalled)
		sent := elapsed(c)
		time.Sleep(10 * time.Second)
		c.thaw(stalled)
		if rtt := elapsed(c) - sent; (rtt - 80*time.Millisecond).Abs() > time.Microsecond {
			t.Errorf("round trip of %v, want 80ms", rtt)
		}
		if got := <-fired; (got - 10080*time.Millisecond).Abs() > time.Microsecond {
			t.Errorf("fired at %v, want 10.08s", got)
		}

		now := c.elapsed()
		c.freeze(stalled)
		time.Sleep(5 * time.Millisecond)
		c.thaw(stalled)
		if skipped := c.elapsed() - now; skipped != 5*time.Millisecond {
			t.Errorf("skipped %v of a stall of 5ms", skipped)
		}
		now = c.elapsed()
		c.freeze(linkDown)
		time.Sleep(time.Second)
		c.thaw(linkDown)
		if skipped := c.elapsed() - now; skipped != 0 {
			t.Errorf("skipped %v when the link came back", skipped)
		}
		c.setRTT(time.Hour)
		c.freeze(stalled)
		time.Sleep(time.Minute)
		now = c.elapsed()
		c.thaw(stalled)
		if skipped := c.elapsed() - now; skipped > maxRTT {
			t.Errorf("skipped %v", skipped)
		}
	})
}

// TestAwaits: data and the ends of a connection want an answer until something
// comes, acknowledgements do not.
func TestAwaits(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
		c.Write(random(1000))
		io.Copy(io.Discard, c)
	}))
	if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the acknowledgement", func() bool {
		peer := w.b.connections()[0]
		peer.LockUser()
		defer peer.UnlockUser()
		s := senderOf(peer)
		return s.SndUna == s.SndNxt
	})
	if w.a.Awaits() {
		t.Error("an acknowledgement waits for an answer")
	}
	w.back.pause()
	if _, err := c.Write([]byte("data")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "data to be awaited", w.a.Awaits)
	w.back.resume()
	waitFor(t, "its answer", func() bool { return !w.a.Awaits() })
	w.back.pause()
	c.Close()
	waitFor(t, "the end to be awaited", w.a.Awaits)
	w.back.resume()
}
