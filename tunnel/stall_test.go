package tunnel

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestStallWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStallWatch()
		var reports []bool
		w.tell(func(still bool) { reports = append(reports, still) })
		write := func(d time.Duration) {
			w.begin()
			time.Sleep(d)
			w.end()
		}
		for range 20 {
			write(time.Millisecond)
		}
		if len(reports) != 0 {
			t.Errorf("quick writes reported %v", reports)
		}
		write(time.Second)
		if want := []bool{true, false}; !slices.Equal(reports, want) {
			t.Errorf("a stall reported %v, want %v", reports, want)
		}
		time.Sleep(time.Hour) // idle is no stall
		if len(reports) != 2 {
			t.Errorf("idle reported %v", reports)
		}
	})
}

// TestStallWatchLateTimer: a timer of a chunk that has ended says nothing about
// the next one.
func TestStallWatchLateTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStallWatch()
		w.tell(func(still bool) { t.Errorf("reported %v", still) })
		w.begin()
		time.Sleep(stallAfter - time.Nanosecond)
		w.end()
		w.begin()
		w.fire() // the timer was stopped too late
		w.end()
	})
}

// TestStallWatchSlowLink: on a slow link chunks become small, and then a write
// that is slow by nature is no stall.
func TestStallWatchSlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStallWatch()
		stalls := 0
		w.tell(func(still bool) {
			if still {
				stalls++
			}
		})
		const rate = 512_000 / 8 // octets per second
		write := func() {
			d := time.Duration(w.chunk) * time.Second / rate
			w.begin()
			time.Sleep(d)
			w.end()
		}
		for range 100 {
			write()
		}
		stalls = 0
		for range 100 {
			write()
		}
		if stalls != 0 || w.chunk != minChunk {
			t.Errorf("%d stalls seen with chunks of %d octets, want none with %d", stalls, w.chunk, minChunk)
		}
		for range 100 {
			w.begin()
			w.end()
		}
		if w.chunk != maxChunk {
			t.Errorf("chunk %d after the link became fast, want %d", w.chunk, maxChunk)
		}
	})
}
