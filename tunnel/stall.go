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
	// minLook, unless a write has ended or something came.
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
// was given has stayed with it for longer than it should, or whether the peer
// has been asked for a sign of life and gives none. While that is so, timers
// above, which can only make more be sent, lose nothing by waiting. It is over
// when both is: the link has moved, and then something has come.
//
// Where the system tells what the peer has acknowledged, that counts. It covers
// a small request that a socket takes at once, and it does not take a link that
// is slow by nature for a dead one. Elsewhere a link has taken what a write has
// got rid of. Neither covers the way back, nor a relay on the way: that is what
// the question is for. It is asked when somebody waits for an answer and nothing
// has come for longer than it should take, and when a link has stood still.
//
// It looks only while something is owed by the link or awaited from the peer, and
// then about every stallAfter, so that an idle link costs nothing and a busy one a
// few system calls per second.
// begin and end are for the writer alone.
type stallWatch struct {
	chunk int                     // octets to write at once
	usual time.Duration           // how long a chunk takes, smoothed
	acked func() (linkView, bool) // what the system tells; nil if it does not
	came  atomic.Uint64           // how often something came from the peer

	mu       sync.Mutex
	to       listener
	timer    *time.Timer
	armed    bool          // the timer runs: something may be owed
	rests    bool          // at the last look the link owed nothing
	patience time.Duration // at the last look
	moved    uint64        // what was seen then
	mark     time.Time     // the link has not moved since, as far as is known
	chunks   uint64        // how many have ended
	since    time.Time     // when the last one began
	under    bool          // and it is under way
	given    moment        // when the first one since something came began
	asked    moment        // when the peer was asked last
	wanting  moment        // since when it owes a sign of life; zero: it does not
	stuck    bool          // at the last look the link had not moved for too long
	still    atomic.Bool   // the link stands still; changed with mu held
}

// moment is a time, and what had come until then: clocks are coarse. Its zero
// value was never.
type moment struct {
	at   time.Time
	came uint64
}

// listener is who is told that the link stands still and that it goes on, or
// that it does not stand still although the peer had to be asked.
type listener struct {
	report func(bool)
	awaits func() bool   // tells whether what was given wants an answer; may be nil
	ask    func()        // makes the peer send something at once; nil if nobody can
	rtt    time.Duration // it takes about so long to answer
}

func newStallWatch(acked func() (linkView, bool)) *stallWatch {
	w := &stallWatch{chunk: maxChunk, acked: acked, patience: stallAfter}
	w.timer = time.AfterFunc(time.Hour, w.fire)
	w.timer.Stop()
	return w
}

// tell sets who is told from now on. What it is made of is called with the
// watch locked, and must not block.
func (w *stallWatch) tell(to listener) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = to
	if w.to.report != nil && w.still.Load() {
		w.to.report(true)
	}
}

// stop ends the watch: nothing stands still any more, and nobody is told again.
func (w *stallWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.say(false)
	w.to, w.acked = listener{}, nil
	w.armed = false
	w.timer.Stop()
}

// begin is called before a chunk is written.
func (w *stallWatch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.under, w.since = true, time.Now()
	if w.passed(w.given) {
		w.given = w.moment(w.since)
	}
	if !w.armed || w.rests {
		w.armed, w.rests, w.mark = true, false, w.since
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

// heard is called when something came from the peer, before anybody else gets
// to know.
func (w *stallWatch) heard() {
	w.came.Add(1)
	if !w.still.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look()
}

func (w *stallWatch) moment(now time.Time) moment { return moment{now, w.came.Load()} }

// passed tells whether something has come since m, or m was never.
func (w *stallWatch) passed(m moment) bool { return m.at.IsZero() || m.came != w.came.Load() }

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
	w.patience = max(v.usual, stallAfter)
	switch {
	case !v.owed:
		w.mark = now
	case v.moved != w.moved:
		w.mark = later(w.mark, now.Add(-v.since))
	}
	w.moved = v.moved
	left := w.patience - now.Sub(w.mark)
	w.stuck = v.owed && left <= 0
	w.rests = !v.owed && !w.under
	silent, answer := w.listen(now)
	w.say(w.stuck || silent)
	switch {
	case w.still.Load():
		left = stallLook
	case answer > 0 && (answer < left || w.rests):
		left = answer
	case w.rests:
		w.armed = false
		w.timer.Stop()
		return
	}
	w.timer.Reset(max(left, minLook))
}

// listen tells whether the peer owes a sign of life for too long, and if not,
// when it will; left is zero if it owes none. w.mu is held.
func (w *stallWatch) listen(now time.Time) (silent bool, left time.Duration) {
	if w.to.ask == nil {
		return false, 0
	}
	patience := max(w.patience, w.to.rtt*5/4)
	switch wanted := !w.wanting.at.IsZero(); {
	case w.stuck && w.acked != nil:
		// What comes while the link is stuck tells nothing about it.
		w.wanting = w.moment(now)
		if wanted {
			return true, 0
		}
	case wanted && !w.passed(w.wanting):
	default:
		w.wanting = moment{}
		if wanted && !w.still.Load() {
			w.to.report(false) // the answer may have been to our question alone
		}
		if w.passed(w.given) || w.to.awaits == nil || !w.to.awaits() {
			return false, 0
		}
		if left = patience - now.Sub(w.given.at); left > 0 {
			return false, left
		}
		w.wanting = w.moment(now)
	}
	if w.passed(w.asked) {
		w.asked = w.moment(now)
		w.to.ask()
	}
	left = patience - now.Sub(w.wanting.at)
	return w.still.Load() || left <= 0, left
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
	if w.to.report != nil {
		w.to.report(still)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
