package proxy

import (
	"bytes"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestCrew: nothing waits for something else to end, a goroutine that is done
// takes the next, and none rests for long, nor after the end.
func TestCrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		c := newCrew(ended)
		run := func() string { // in which goroutine
			var in string
			c.do(func() { in = goroutine() })
			synctest.Wait()
			return in
		}
		busy := make(chan struct{})
		c.do(func() { <-busy })
		synctest.Wait()

		first := run()
		if first == "" {
			t.Fatal("not done while something else was")
		}
		if again := run(); again != first {
			t.Errorf("done in goroutine %s, want %s, which rests", again, first)
		}
		time.Sleep(crewRest + time.Millisecond)
		later := run()
		if later == first {
			t.Errorf("goroutine %s still there after %v", later, crewRest)
		}
		close(busy)
		close(ended)
		synctest.Wait()
		if last := run(); last == later {
			t.Errorf("goroutine %s still there after the end", last)
		}
	})
}

// goroutine is the number of the goroutine that calls it, "goroutine N [running]"
// being the first line of its stack.
func goroutine() string {
	b := make([]byte, 64)
	return string(bytes.Fields(b[:runtime.Stack(b, false)])[1])
}
