package netstack

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// TestClockAtRandom: whatever is done to a clock, it never goes back, and each
// timer fires when its time has come, not before, and no later than a timer is ever put off.
func TestClockAtRandom(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			r := &clockRun{t: t, random: rand.New(rand.NewPCG(seed, 0)), clock: newStallClock()}
			for range 200 {
				r.step()
				r.check(0)
			}
			time.Sleep(3 * time.Hour) // longer than all freezes and timers
			r.check(2 * time.Hour)
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// clockRun is a clock to which things are done at random.
type clockRun struct {
	t      *testing.T
	random *rand.Rand
	clock  *stallClock
	now    time.Duration // on the clock, at the last check
	timers []*clockAlarm
}

// clockAlarm is a timer and what is expected of it.
type clockAlarm struct {
	tcpip.Timer
	due atomic.Int64 // time.Duration on the clock
	set atomic.Bool  // neither fired nor stopped
}

func (r *clockRun) step() {
	why := reason(r.random.IntN(int(reasons)))
	switch r.random.IntN(9) {
	case 0:
		r.clock.freeze(why)
	case 1, 2:
		r.clock.setRTT(r.some(time.Second))
		r.clock.thaw(why)
	case 3:
		r.clock.skip(r.some(time.Minute))
	case 4, 5:
		r.begin()
	case 6:
		r.change()
	case 7:
		r.clock.hear()
		if r.random.IntN(2) == 0 {
			r.clock.relieve()
		}
	default:
		time.Sleep(r.some(30 * time.Second))
	}
}

// some is a time up to most, and now and then a much longer one.
func (r *clockRun) some(most time.Duration) time.Duration {
	if r.random.IntN(20) == 0 {
		most *= 60
	}
	return time.Duration(r.random.Int64N(int64(most)))
}

func (r *clockRun) begin() {
	d, a := r.some(time.Minute), &clockAlarm{}
	r.expect(a, d)
	a.Timer = r.clock.AfterFunc(d, func() {
		if now := int64(r.clock.elapsed()); !a.set.Swap(false) || now < a.due.Load() {
			r.t.Errorf("fired at %v, due at %v or stopped", now, a.due.Load())
		}
	})
	r.timers = append(r.timers, a)
}

// expect says that a timer is set to fire after d.
func (r *clockRun) expect(a *clockAlarm, d time.Duration) {
	a.due.Store(int64(r.clock.elapsed() + d))
	a.set.Store(true)
}

// change stops a timer or sets it anew.
func (r *clockRun) change() {
	if len(r.timers) == 0 {
		return
	}
	a := r.timers[r.random.IntN(len(r.timers))]
	if r.random.IntN(2) == 0 {
		d := r.some(time.Minute)
		r.expect(a, d)
		a.Reset(d)
		return
	}
	if was, got := a.set.Swap(false), a.Stop(); got != was {
		r.t.Errorf("Stop = %v of a timer that is set: %v", got, was)
	}
}

// check looks for timers that did not fire, and wants the clock to have gone on
// by least.
func (r *clockRun) check(least time.Duration) {
	synctest.Wait()
	was := r.now
	if r.now = r.clock.elapsed(); r.now < was+least {
		r.t.Errorf("from %v to %v, want %v more at least", was, r.now, least)
	}
	for _, a := range r.timers {
		if due := time.Duration(a.due.Load()); due+maxPutOff < r.now && a.set.Swap(false) {
			r.t.Errorf("not fired at %v, due at %v", r.now, due)
		}
	}
}
