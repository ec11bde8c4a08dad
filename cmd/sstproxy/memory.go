package main

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// burst is how many connections, opened or closed, are worth a collection.
	burst = 500
	// quiet is how long a burst must have been over: fewer than lull
	// connections came or went in that time.
	quiet = 500 * time.Millisecond
	lull  = burst / 10
	// remains is how long after that the rest is collected: the connections
	// that have been closed meanwhile.
	remains = 11 * time.Second
)

// trimmer gives memory back to the system when the program has started, again
// when it has connected, and when a burst of connections is over. The collector
// would leave it for minutes once nothing happens any more: the stacks that grew
// while a connection was made, what its handshake left behind, and all of those
// that have been closed. If few of a burst are open, that is left to the last
// collection: another burst would need the memory at once.
type trimmer struct {
	free func() // collects and gives back

	mu    sync.Mutex
	moved int       // connections opened and closed so far
	open  int       // of them
	seen  int       // moved, when it was last looked at
	rest  int       // looks to come
	owed  time.Time // since when there is something to collect that was left; zero: nothing
	timer *time.Timer
	ended bool
}

// giveBack returns to the system what is not needed at the moment: freed memory,
// and the parts of the program file that are in memory because they were needed
// once, above all at the start. What is needed again is mapped again.
func giveBack() {
	runtime.GC() // what pools hold outlives one collection
	debug.FreeOSMemory()
	unmapProgram()
}

// newTrimmer begins with what the start of the program has left. The caller
// must stop it. free is called in a goroutine of its own.
func newTrimmer(free func()) *trimmer {
	t := &trimmer{free: free, rest: 2, owed: time.Now().Add(-remains)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(quiet, t.look)
	return t
}

// count takes note that a connection was opened, by is 1, or closed, -1.
func (t *trimmer) count(by int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moved++
	t.open += by
	if t.moved-t.seen >= burst && t.rest < 2 {
		t.await()
	}
}

// await has look called when the burst may be over. t.mu is held.
func (t *trimmer) await() {
	t.seen, t.rest = t.moved, 2
	if !t.ended {
		t.timer.Reset(quiet)
	}
}

func (t *trimmer) look() {
	if t.due() {
		t.free()
	}
}

// due tells whether to collect now, and sets the time of the next look.
func (t *trimmer) due() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.ended || t.rest == 0:
		return false
	case t.rest == 2 && t.moved-t.seen >= lull:
		t.await()
		return false
	}
	t.seen = t.moved
	now := time.Now()
	worth := t.rest == 1 || t.open >= burst || !t.owed.IsZero() && now.Sub(t.owed) >= remains
	switch {
	case worth:
		t.owed = time.Time{}
	case t.owed.IsZero():
		t.owed = now
	}
	if t.rest--; t.rest > 0 {
		t.timer.Reset(remains)
	}
	return worth
}

// stop ends it; a collection that has begun ends by itself.
func (t *trimmer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.timer.Stop()
}
