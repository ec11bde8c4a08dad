package main

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// trims runs f with a trimmer in a bubble, and returns when it collected, in
// seconds from the start, up to a minute.
func trims(t *testing.T, f func(*trimmer)) (at []float64) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		begun := time.Now()
		var mu sync.Mutex // each call is in a goroutine of its own
		m := newTrimmer(func() {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(begun).Seconds())
		})
		defer m.stop()
		f(m)
		<-time.After(time.Minute - time.Since(begun))
		mu.Lock()
		defer mu.Unlock()
	})
	return at
}

func TestTrimmer(t *testing.T) {
	move := func(m *trimmer, n int) {
		for range n {
			m.count(1)
		}
	}
	pass := func(m *trimmer, n int) {
		for range n {
			m.count(1)
			m.count(-1)
		}
	}
	after := func(d time.Duration) { <-time.After(d) }
	for name, c := range map[string]struct {
		f    func(*trimmer)
		want []float64
	}{
		"start":               {func(*trimmer) {}, []float64{0.5, 11.5}},
		"few":                 {func(m *trimmer) { after(time.Second); move(m, burst-1) }, []float64{0.5, 11.5}},
		"burst":               {func(m *trimmer) { after(time.Second); move(m, burst) }, []float64{0.5, 1.5, 12.5}},
		"at start":            {func(m *trimmer) { after(quiet / 2); move(m, burst) }, []float64{1, 12}},
		"closed":              {func(m *trimmer) { after(time.Second); pass(m, burst/2) }, []float64{0.5, 12.5}},
		"at start and closed": {func(m *trimmer) { pass(m, burst/2) }, []float64{1, 12}},
		"closed later": {func(m *trimmer) {
			after(time.Second)
			move(m, burst)
			after(20 * time.Second)
			for range burst {
				m.count(-1)
			}
		}, []float64{0.5, 1.5, 12.5, 32.5}},
		"in bursts": {func(m *trimmer) { move(m, burst); after(30 * time.Second); move(m, burst) }, []float64{1, 12, 30.5, 41.5}},
		"long burst": {func(m *trimmer) {
			after(time.Second)
			move(m, burst)
			after(100 * time.Millisecond)
			for range 40 { // until 10.85 s
				move(m, lull)
				after(250 * time.Millisecond)
			}
		}, []float64{0.5, 11.5, 22.5}},
		"burst before the rest": {func(m *trimmer) {
			after(time.Second)
			move(m, burst)
			after(5 * time.Second) // one collection is over
			move(m, burst)
		}, []float64{0.5, 1.5, 6.5, 17.5}},
		"background": {func(m *trimmer) {
			after(time.Second)
			move(m, burst)
			for range 20 {
				move(m, lull/10)
				after(100 * time.Millisecond)
			}
		}, []float64{0.5, 1.5, 12.5}},
		"closed before a trickle": {func(m *trimmer) {
			after(time.Second)
			pass(m, burst)
			for range 230 { // for 30 s; 500 of them come within less than the rest takes
				pass(m, 5)
				after(130 * time.Millisecond)
			}
		}, []float64{0.5, 15.8, 40.58}},
		"stopped": {func(m *trimmer) { m.stop(); move(m, burst) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := trims(t, c.f); !slices.Equal(got, c.want) {
				t.Errorf("collected at %v s, want %v", got, c.want)
			}
		})
	}
}
