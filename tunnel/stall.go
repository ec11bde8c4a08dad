package tunnel

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// A link that owes something and has not moved for stallAfter, or for as
	// long as it usually takes if that is longer, stands still.
	stallAfter    = 50 * time.Millisecond
	stallAfterMax = 150 * time.Millisecond // what only the time of writes can prolong it to
	// While it stands still, it is looked at every stallLook; never twice within
	// minLook, unless a write has ended.
	stallLook = 25 * time.Millisecond
	minLook   = 5 * time.Millisecond
	// Writes are cut into chunks that ought to take less than slowChunk, so
	// that a link that is slow by nature shows its progress.
	slowChunk = 20 * time.Millisecond
	fastChunk = 2 * time.Millisecond
	minChunk  = 4 << 10
	maxChunk  = 256 << 10
)

// linkView is what can be seen of the outer connection at one moment.
type linkView struct {
	moved uint64        // grows with what the link has taken off us
	since time.Duration // how long ago it took or was given something last
	owed  bool          // it has been given something that it has not taken yet
	usual time.Duration // how long that takes at most, as a rule
}

// stallWatch finds out whether the link stands still: whether something that it
// was given has stayed with it for longer than it should. While that is so,
// nothing given to it later arrives either, whatever comes from the peer; timers
// above, which can only make more be sent, lose nothing by waiting.
//
// Where the system tells what the peer has acknowledged, that counts. It covers
// a small request that a socket takes at once, and it does not take a link that
// is slow by nature for a dead one. Elsewhere a link has taken what a write has
// got rid of.
//
// It looks only while something is owed, and then about every stallAfter, so
// that an idle link costs nothing and a busy one a few system calls per second.
// begin and end are for the writer alone.
type stallWatch struct {
	chunk int                     // octets to write at once
	usual time.Duration           // how long a chunk takes, smoothed
	acked func() (linkView, bool) // what the system tells; nil if it does not

	mu       sync.Mutex
	timer    *time.Timer
	armed    bool          // the timer runs: something may be owed
	patience time.Duration // at the last look
	looked   time.Time     // when that was
	moved    uint64        // what was seen then
	mark     time.Time     // the link has not moved since, as far as is known
	chunks   uint64        // how many have ended
	since    time.Time     // when the last one began
	under    bool          // and it is under way
	still    atomic.Bool   // the link stands still; changed with mu held
	report   func(bool)    // told when it does, and when it goes on
}

func newStallWatch(acked func() (linkView, bool)) *stallWatch {
	w := &stallWatch{chunk: maxChunk, acked: acked, patience: stallAfter}
	w.timer = time.AfterFunc(time.Hour, w.fire)
	w.timer.Stop()
	return w
}

// tell sets who is told from now on.
func (w *stallWatch) tell(report func(bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report = report
	if w.report != nil && w.still.Load() {
		w.report(true)
	}
}

// stop ends the watch: nothing stands still any more, and nobody is told again.
func (w *stallWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.say(false)
	w.report, w.acked = nil, nil
	w.armed = false
	w.timer.Stop()
}

// begin is called before a chunk is written.
func (w *stallWatch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.under, w.since = true, time.Now()
	if !w.armed {
		w.armed, w.mark = true, w.since
		w.timer.Reset(w.patience)
	}
}

// end is called when it was.
func (w *stallWatch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.under = false
	w.chunks++
	if w.still.Load() {
		w.look()
	}
	took := min(time.Since(w.since), 2*stallAfter) // one stall must not count for many chunks
	w.usual += (took - w.usual) / 8
	switch {
	case took > slowChunk:
		w.chunk = max(w.chunk/2, minChunk)
	case took < fastChunk:
		w.chunk = min(w.chunk*2, maxChunk)
	}
}

// heard is called when something came from the peer: it may have acknowledged
// with it what it owed.
func (w *stallWatch) heard() {
	if !w.still.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.looked) >= minLook {
		w.look()
	}
}

func (w *stallWatch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.armed {
		w.look()
	}
}

// look judges the link, says so, and sets the time of the next look. w.mu is held.
func (w *stallWatch) look() {
	v, now := w.view(), time.Now()
	w.looked, w.patience = now, max(v.usual, stallAfter)
	// One step may be no more than a probe of a closed window; the next look tells.
	probe := w.still.Load() && v.moved != w.moved
	switch {
	case !v.owed:
		w.mark = now
	case v.moved != w.moved:
		w.mark = later(w.mark, now.Add(-v.since))
	}
	w.moved = v.moved
	left := w.patience - now.Sub(w.mark)
	switch w.say(v.owed && (left <= 0 || probe)); {
	case !v.owed && !w.under:
		w.armed = false
		w.timer.Stop()
	case w.still.Load():
		w.timer.Reset(stallLook)
	default:
		w.timer.Reset(max(left, minLook))
	}
}

// view asks the system, or goes by the writes alone. w.mu is held.
func (w *stallWatch) view() linkView {
	if w.acked != nil {
		if v, ok := w.acked(); ok {
			return v
		}
		w.acked = nil
	}
	return linkView{
		moved: w.chunks, since: time.Since(w.since), owed: w.under,
		usual: min(4*w.usual, stallAfterMax),
	}
}

// say reports a change. w.mu is held, so reports can't overtake each other.
func (w *stallWatch) say(still bool) {
	if w.still.Swap(still) == still {
		return
	}
	if w.report != nil {
		w.report(still)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
