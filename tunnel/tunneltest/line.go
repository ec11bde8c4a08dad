package tunneltest

import (
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// Line is the TCP side of a server's or a relay's connections, below TLS, and
// what can go wrong with it at run time. Its methods are safe for concurrent
// use and may be called from [Config.Hook]; they return at once.
//
// What ends a connection ends it for the server too, except HalfOpen: the
// server goes on as if the client were silent, until its own timers or
// [Server.Close] end the session, and the client is never told.
type Line struct {
	relays bool // between two others: what one end has left, it leaves too

	mu        sync.Mutex
	conns     map[*lineConn]bool
	listeners map[*lineListener]bool
	script    []Step
	stall     stall
	changed   chan struct{} // closed and replaced by every change of stall
	welcome   Welcome
	until     time.Time // of the welcome; zero: for ever
	closed    bool
	wg        sync.WaitGroup // what still listens to connections that were given up
}

// Welcome is what new connections meet.
type Welcome uint8

// The kinds of welcome.
const (
	WelcomeServed  Welcome = iota // the usual one
	WelcomeReset                  // accepted, then RST
	WelcomeClosed                 // accepted, then FIN
	WelcomeSilence                // accepted, and never a word: a host that hangs
	WelcomeRefused                // nobody listens: the listener is closed, and opened again at the same port
)

// forEver is what is left of something without end.
const forEver = time.Duration(1<<63 - 1)

// stall is until when nothing passes; the zero value lets pass.
type stall struct {
	until time.Time
	ever  bool
}

func stallFor(d time.Duration) stall { return stall{until: time.Now().Add(d), ever: d < 0} }

// left is how long it still takes.
func (s stall) left() time.Duration {
	if s.ever {
		return forEver
	}
	return time.Until(s.until)
}

func newLine() *Line {
	return &Line{
		conns: make(map[*lineConn]bool), listeners: make(map[*lineListener]bool), changed: make(chan struct{}),
	}
}

// Script sets what happens to each connection from the next one on, in place of
// the script before. Steps whose place is an event or a packet happen on a
// server's line only.
func (l *Line) Script(steps ...Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.script = slices.Clone(steps)
}

// Welcome sets what new connections meet for d from now, and then
// WelcomeServed again; 0 means for ever. WelcomeRefused works with TCP
// listeners; what comes by [Server.ServeConn] is closed instead.
func (l *Line) Welcome(w Welcome, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.welcome, l.until = w, time.Time{}
	if d > 0 {
		l.until = time.Now().Add(d)
	}
	l.change()
	for listener := range l.listeners {
		if w == WelcomeRefused {
			listener.pause()
		}
	}
}

// greeting is the welcome of now.
func (l *Line) greeting() Welcome {
	if !l.until.IsZero() && !time.Now().Before(l.until) {
		return WelcomeServed
	}
	return l.welcome
}

// change wakes whoever waits for the stall or the welcome to end.
func (l *Line) change() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Cut ends the connections of now by FIN; the client still reads what was sent
// before.
func (l *Line) Cut() { l.each((*lineConn).cut) }

// Reset ends the connections of now by RST. Over a net.Pipe, which knows none,
// it is the same as Cut; see [Pipe].
func (l *Line) Reset() {
	l.each((*lineConn).dropUnsent) // all of them first: a relay closes the other end of one that is reset
	l.each((*lineConn).reset)
}

// HalfOpen makes the other host vanish: what comes on the connections of now is
// swallowed, what is sent is lost, and no FIN or RST ever tells. (The kernel
// still acknowledges.)
func (l *Line) HalfOpen() { l.each((*lineConn).vanish) }

// Garbage puts n octets that are no TLS into what the clients of now receive.
func (l *Line) Garbage(n int) {
	l.each(func(c *lineConn) { c.inBackground(func() { c.Conn.Write(garbage(n)) }) })
}

// Stall lets nothing pass in either direction for d, on connections old and
// new; nothing is lost. It takes the place of a stall that is under way: 0 ends
// that, and a negative d is a stall without end.
func (l *Line) Stall(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stall = stallFor(d)
	l.change()
}

// Conns is how many connections are open, those included that are half open.
func (l *Line) Conns() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

func (l *Line) each(f func(*lineConn)) {
	l.mu.Lock()
	conns := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()
	for _, c := range conns {
		f(c)
	}
}

// admit puts a new connection on the line; ok is false if it is not to be
// served.
func (l *Line) admit(nc net.Conn) (c *lineConn, ok bool) {
	l.mu.Lock()
	script, welcome := l.script, l.greeting()
	l.mu.Unlock()
	if c, ok = l.add(nc, script...); !ok {
		return nil, false
	}
	switch welcome {
	case WelcomeServed:
		return c, true
	case WelcomeReset:
		c.reset()
	case WelcomeSilence:
		c.vanish()
	default:
		c.cut()
	}
	return nil, false
}

// add puts a connection on the line; ok is false if the line is closed.
func (l *Line) add(nc net.Conn, script ...Step) (c *lineConn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		nc.Close()
		return nil, false
	}
	c = newLineConn(l, nc, script)
	l.conns[c] = true
	return c, true
}

func (l *Line) remove(c *lineConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// goes starts a goroutine that close waits for; false if it is too late.
func (l *Line) goes(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.wg.Go(f)
	}
	return !l.closed
}

// close ends all connections for good and waits until nothing is left.
func (l *Line) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.each(func(c *lineConn) {
		c.Close()
		c.Conn.Close()
	})
	l.wg.Wait()
}

// lineListener is a listener that WelcomeRefused takes away for a while.
type lineListener struct {
	line *Line
	addr net.Addr
	end  chan struct{} // closed by Close
	once sync.Once

	mu     sync.Mutex
	inner  net.Listener
	paused bool
}

// listen makes l a listener of the line.
func (l *Line) listen(inner net.Listener) *lineListener {
	listener := &lineListener{line: l, inner: inner, addr: inner.Addr(), end: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listeners[listener] = true
	if l.greeting() == WelcomeRefused {
		listener.pause()
	}
	return listener
}

// Addr is the same before and after a pause.
func (l *lineListener) Addr() net.Addr { return l.addr }

// Close ends Accept.
func (l *lineListener) Close() error {
	l.once.Do(func() { close(l.end) })
	l.line.mu.Lock()
	delete(l.line.listeners, l)
	l.line.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inner.Close()
}

// pause closes what listens if that can be opened again.
func (l *lineListener) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, tcp := l.inner.(*net.TCPListener); tcp && !l.paused {
		l.paused = true
		l.inner.Close()
	}
}

// Accept waits out the pauses.
func (l *lineListener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		inner, paused := l.inner, l.paused
		l.mu.Unlock()
		if paused {
			if err := l.resume(); err != nil {
				return nil, err
			}
			continue
		}
		c, err := inner.Accept()
		l.mu.Lock()
		paused = l.paused
		l.mu.Unlock()
		if err == nil || !paused {
			return c, err
		}
	}
}

// reopenInterval is the time between attempts to listen at the port again,
// which somebody else may have taken meanwhile.
const reopenInterval = 10 * time.Millisecond

// resume listens again once nobody is refused any more.
func (l *lineListener) resume() error {
	for {
		left, changed := l.line.refusal()
		if left <= 0 && l.reopen() {
			return nil
		}
		timer := time.NewTimer(max(left, reopenInterval))
		select {
		case <-timer.C:
		case <-changed:
			timer.Stop()
		case <-l.end:
			timer.Stop()
			return net.ErrClosed
		}
	}
}

func (l *lineListener) reopen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	inner, err := net.Listen(l.addr.Network(), l.addr.String())
	if err != nil {
		return false
	}
	l.inner, l.paused = inner, false
	select {
	case <-l.end:
		inner.Close()
	default:
	}
	return true
}

// refusal is how long new connections will be refused.
func (l *Line) refusal() (left time.Duration, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.greeting() != WelcomeRefused:
		return 0, l.changed
	case l.until.IsZero():
		return forEver, l.changed
	}
	return time.Until(l.until), l.changed
}
