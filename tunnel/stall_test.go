package tunnel

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestStallWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStallWatch(nil)
		var reports []bool
		w.tell(listener{report: func(still bool) { reports = append(reports, still) }})
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
		w := newStallWatch(nil)
		w.tell(listener{report: func(still bool) { t.Errorf("reported %v", still) }})
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
		w := newStallWatch(nil)
		stalls := 0
		w.tell(listener{report: func(still bool) {
			if still {
				stalls++
			}
		}})
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

// link plays a connection whose system tells what the peer has acknowledged.
type link struct {
	*stallWatch
	given, taken uint64
	step         time.Time // when something was given or taken last
	usual        time.Duration
	gone         bool
	awaits       bool // what was given wants an answer
	looks, asks  int
	reports      []report
	start        time.Time
}

// report is what the watch told, and when, counted from the start.
type report struct {
	still bool
	at    time.Duration
}

func newLink() *link {
	l := &link{start: time.Now()}
	l.stallWatch = newStallWatch(func() (linkView, bool) {
		l.looks++
		return linkView{moved: l.taken, since: time.Since(l.step), owed: l.taken < l.given, usual: l.usual}, !l.gone
	})
	l.tell(l.listener())
	return l
}

// newDistantLink is one whose peer takes 200 ms to answer and is waited for.
func newDistantLink() *link {
	l := newLink()
	to := l.listener()
	to.rtt = 200 * ms
	l.tell(to)
	l.awaits = true
	return l
}

func (l *link) listener() listener {
	return listener{
		report: func(still bool) { l.reports = append(l.reports, report{still, time.Since(l.start)}) },
		awaits: func() bool { return l.awaits },
		ask:    func() { l.asks++ },
	}
}

// give is a write of one octet that the socket takes at once.
func (l *link) give() {
	l.begin()
	l.mu.Lock()
	l.given, l.step = l.given+1, time.Now()
	l.mu.Unlock()
	l.end()
}

// looked is how often the watch has looked.
func (l *link) looked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.looks
}

// take is an ACK for n octets.
func (l *link) take(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken, l.step = l.taken+n, time.Now()
}

// told returns what was reported since the last call.
func (l *link) told() []report {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	reports := l.reports
	l.reports = nil
	return reports
}

func (l *link) want(t *testing.T, what string, want ...report) {
	t.Helper()
	if got := l.told(); !slices.Equal(got, want) {
		t.Errorf("%s: reported %v, want %v", what, got, want)
	}
}

// wantAsks says how often the peer was asked since the last call.
func (l *link) wantAsks(t *testing.T, what string, want int) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asks != want {
		t.Errorf("%s: asked %d times, want %d", what, l.asks, want)
	}
	l.asks = 0
}

const ms = time.Millisecond

// TestStallWatchRequest: a small request that the socket has taken and the peer
// does not acknowledge. It is over when something has come after the link has
// moved: an ACK for a part may be one for a probe of a closed window.
func TestStallWatchRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		l.give()
		time.Sleep(40 * ms) // a delayed ACK
		l.take(1)
		time.Sleep(60 * ms)
		l.want(t, "a delayed ACK")
		l.wantAsks(t, "a delayed ACK", 0)

		l.give() // at 100 ms
		time.Sleep(300 * ms)
		l.give()  // what is sent meanwhile, again and again, changes nothing
		l.heard() // nor what comes
		time.Sleep(310 * ms)
		l.want(t, "an outage", report{true, 150 * ms})
		l.wantAsks(t, "an outage", 1)
		l.take(1) // at 710 ms, a part
		time.Sleep(40 * ms)
		l.wantAsks(t, "something came before", 1)
		time.Sleep(200 * ms)
		l.want(t, "an ACK for a part")
		l.take(1)
		time.Sleep(100 * ms)
		l.want(t, "an ACK alone")
		l.heard() // at 1050 ms
		l.want(t, "an answer", report{false, 1050 * ms})

		l.give()
		time.Sleep(60 * ms)
		l.want(t, "another outage", report{true, 1100 * ms})
		l.take(1)
		time.Sleep(20 * ms)
		l.heard()
		l.want(t, "an ACK, then data", report{false, 1130 * ms})
		l.wantAsks(t, "another outage", 1)

		looks := l.looked()
		time.Sleep(time.Hour)
		l.want(t, "an idle link")
		if n := l.looked() - looks; n != 0 {
			t.Errorf("an idle link was looked at %d times", n)
		}
	})
}

// TestStallWatchSilence: the way back stands still. Whoever waits for an answer
// is told if the peer says nothing when it is asked either.
func TestStallWatchSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		send := func() {
			l.give()
			l.take(1)
		}
		send()
		time.Sleep(time.Second)
		l.want(t, "nobody waits")
		l.wantAsks(t, "nobody waits", 0)

		l.awaits = true
		send() // at 1 s
		time.Sleep(40 * ms)
		l.heard()
		time.Sleep(time.Second)
		l.wantAsks(t, "a quick answer", 0)

		send() // at 2040 ms
		time.Sleep(70 * ms)
		l.wantAsks(t, "a slow answer", 1)
		l.heard() // what was asked for
		time.Sleep(time.Second)
		l.want(t, "a slow answer of a link that lives", report{false, 2140 * ms})
		l.wantAsks(t, "the same request", 0)

		send() // at 3110 ms
		time.Sleep(500 * ms)
		send()
		time.Sleep(500 * ms)
		l.want(t, "silence", report{true, 3210 * ms})
		l.wantAsks(t, "silence", 1)
		l.heard()
		l.want(t, "its end", report{false, 4110 * ms})

		l.usual = 120 * ms
		for range 20 { // 20 ms each
			send()
			time.Sleep(115 * ms)
			l.heard()
		}
		l.want(t, "a distant peer")
		l.wantAsks(t, "a distant peer", 0)

		looks := l.looked()
		time.Sleep(time.Hour)
		if n := l.looked() - looks; n > 2 {
			t.Errorf("an idle link was looked at %d times", n)
		}
	})
}

// TestStallWatchNext: what is given after the peer's answer is watched, too.
func TestStallWatchNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		l.awaits = true
		send := func() {
			l.give()
			l.take(1)
		}
		send()
		time.Sleep(60 * ms)
		l.heard() // what was asked for
		time.Sleep(ms)
		send() // before the next look
		time.Sleep(time.Second)
		l.want(t, "two requests", report{false, 111 * ms}, report{true, 161 * ms})
	})
}

// TestStallWatchDistant: a peer that is known to be distant is not asked before it
// can have answered.
func TestStallWatchDistant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newDistantLink()
		for range 10 {
			l.give()
			l.take(1)
			time.Sleep(240 * ms)
			l.heard()
		}
		l.want(t, "a distant peer")
		l.wantAsks(t, "a distant peer", 0)
	})
}

// TestStallWatchRests: while nothing but an answer is owed, the time for that says
// nothing about what is given next, neither that it is old nor that it is young.
func TestStallWatchRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newDistantLink()
		l.give()
		l.take(1)
		time.Sleep(245 * ms)
		l.give() // 5 ms before an answer is due
		time.Sleep(40 * ms)
		l.take(1)
		l.heard()
		l.want(t, "a young one")
		time.Sleep(time.Second)
		l.told()
		l.give() // at 1285 ms
		l.take(1)
		time.Sleep(60 * ms)
		l.give()
		time.Sleep(60 * ms)
		l.want(t, "an old one", report{true, 1395 * ms})
	})
}

// TestStallWatchSlowWrites: where the system tells nothing more, a slow link has a
// write under way most of the time. What comes meanwhile proves that it moves.
func TestStallWatchSlowWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		l.gone, l.awaits = true, true
		var frozen time.Duration
		for range 100 {
			l.begin()
			for range 30 {
				time.Sleep(20 * ms)
				l.heard()
			}
			l.end()
		}
		reports := l.told()
		for i := 1; i < len(reports); i++ {
			if reports[i-1].still && !reports[i].still {
				frozen = max(frozen, reports[i].at-reports[i-1].at)
			}
		}
		if len(reports) == 0 || frozen > 600*ms {
			t.Errorf("it stood still for up to %v, longer than a write takes", frozen)
		}
	})
}

// TestStallWatchBothWays: the peer is asked again if it answered in the middle of
// a stall, and not as long as it owes an answer.
func TestStallWatchBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		l.give()
		for range 50 { // a download goes on
			time.Sleep(10 * ms)
			l.heard()
		}
		l.want(t, "a link that takes nothing", report{true, 50 * ms})
		l.wantAsks(t, "a link that takes nothing", 1)
		time.Sleep(30 * ms)
		l.take(1) // at 530 ms
		time.Sleep(300 * ms)
		l.want(t, "no answer yet")
		l.wantAsks(t, "what came before is no answer", 1)
		l.heard()
		l.want(t, "an answer", report{false, 830 * ms})
	})
}

// TestStallWatchOldest: what counts is how long one octet stays, not how long
// there is always some.
func TestStallWatchOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		for range 200 {
			l.give()
			time.Sleep(3 * ms)
			l.give()
			l.take(1)
			time.Sleep(46 * ms)
			l.take(1)
		}
		l.want(t, "always something owed")
		if n, most := l.looked(), int(time.Since(l.start)/stallLook); n > most {
			t.Errorf("%d looks, want at most %d", n, most)
		}
	})
}

// TestStallWatchPause: the first look after a pause takes the pause neither for
// a stall nor for a sign of life.
func TestStallWatchPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		l.give()
		time.Sleep(ms)
		l.take(1)
		time.Sleep(48 * ms)
		l.give() // owed at the look that was due for the first
		time.Sleep(48 * ms)
		l.want(t, "48 ms of 50")
		time.Sleep(4 * ms)
		l.want(t, "52 ms of 50", report{true, 99 * ms})
	})
}

// TestStallWatchBulk: a stall among much data is seen soon, and many writes
// cost few looks.
func TestStallWatchBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		l.give()
		for range 1000 {
			l.give()
			time.Sleep(ms)
			l.take(1)
		}
		l.want(t, "data that flows")
		if n := l.looked(); n > 40 {
			t.Errorf("%d looks in a second, want at most 40", n)
		}
		l.begin() // the buffer is full
		time.Sleep(500 * ms)
		if got := l.told(); len(got) != 1 || got[0].at > 1060*ms {
			t.Errorf("a stall after one second was reported as %v", got)
		}
		l.take(1)
		l.end()
		time.Sleep(ms)
		l.want(t, "a write that ends")
		l.heard()
		l.want(t, "and an answer", report{false, 1501 * ms})
	})
}

// TestStallWatchSlowByNature: a slow link takes a segment every now and then,
// and writes block for longer than that. It moves all the same.
func TestStallWatchSlowByNature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		l.usual = 450 * ms // two segments at 56 kbit/s, and an ACK for them
		l.give()
		for range 20 {
			l.begin()
			for range 3 {
				l.mu.Lock()
				l.given++
				l.mu.Unlock()
				time.Sleep(400 * ms)
				l.take(1)
			}
			l.end()
		}
		l.want(t, "a slow link")
		time.Sleep(time.Second)
		l.want(t, "a slow link that stands still", report{true, 24450 * ms})
	})
}

// TestStallWatchStop: after stop nothing stands still, and nobody is told more.
func TestStallWatchStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		l.give()
		time.Sleep(100 * ms)
		l.stop()
		l.want(t, "an end in a stall", report{true, 50 * ms}, report{false, 100 * ms})
		l.give()
		l.begin()
		time.Sleep(time.Second)
		l.want(t, "after the end")
	})
}

// TestStallWatchLate: who begins to listen in a stall is told of it.
func TestStallWatchLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		l.tell(listener{})
		l.give()
		time.Sleep(100 * ms)
		l.tell(l.listener())
		l.want(t, "a stall before", report{true, 100 * ms})
	})
}

// TestStallWatchUnknown: where the system tells nothing more, writes count.
func TestStallWatchUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		l.gone = true
		l.give()
		time.Sleep(100 * ms)
		l.want(t, "a write that has ended")
		l.begin()
		if n := l.looked(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		time.Sleep(100 * ms)
		l.end()
		l.want(t, "a write", report{true, 150 * ms}, report{false, 200 * ms})
	})
}
