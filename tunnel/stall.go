package tunnel

import (
	"sync"
	"time"
)

const (
	// A write that takes longer than stallAfter, and than four times what
	// writes take of late, tells that the outer link stands still.
	stallAfter    = 50 * time.Millisecond
	stallAfterMax = 150 * time.Millisecond
	// Writes are cut into chunks that ought to take less than slowChunk, so
	// that a link that is slow by nature shows its progress.
	slowChunk = 20 * time.Millisecond
	fastChunk = 2 * time.Millisecond
	minChunk  = 4 << 10
	maxChunk  = 256 << 10
)

// stallWatch finds out, chunk by chunk, whether writes make progress. begin and
// end are for the writer alone.
type stallWatch struct {
	chunk  int           // octets to write at once
	usual  time.Duration // how long a chunk takes, smoothed
	timer  *time.Timer
	mu     sync.Mutex
	since  time.Time  // when the chunk under way began; the writer alone sets it
	until  time.Time  // when it will have been too long
	under  bool       // a chunk is under way
	still  bool       // and has been for too long
	report func(bool) // told when the link stands still, and when it goes on
}

func newStallWatch() *stallWatch {
	w := &stallWatch{chunk: maxChunk}
	w.timer = time.AfterFunc(time.Hour, w.fire)
	w.timer.Stop()
	return w
}

// tell sets who is told from now on.
func (w *stallWatch) tell(report func(bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report = report
}

// begin is called before a chunk is written.
func (w *stallWatch) begin() {
	patience := min(max(4*w.usual, stallAfter), stallAfterMax)
	w.mu.Lock()
	w.under, w.since = true, time.Now()
	w.until = w.since.Add(patience)
	w.mu.Unlock()
	w.timer.Reset(patience)
}

// end is called when it was.
func (w *stallWatch) end() {
	w.timer.Stop()
	w.mu.Lock()
	w.under = false
	w.say(false)
	w.mu.Unlock()
	took := min(time.Since(w.since), 2*stallAfter) // one stall must not count for many chunks
	w.usual += (took - w.usual) / 8
	switch {
	case took > slowChunk:
		w.chunk = max(w.chunk/2, minChunk)
	case took < fastChunk:
		w.chunk = min(w.chunk*2, maxChunk)
	}
}

func (w *stallWatch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.under && !time.Now().Before(w.until) { // else the timer was another chunk's
		w.say(true)
	}
}

// say reports a change. w.mu is held, so reports can't overtake each other.
func (w *stallWatch) say(still bool) {
	if w.still == still {
		return
	}
	w.still = still
	if w.report != nil {
		w.report(still)
	}
}
