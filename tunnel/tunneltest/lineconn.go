package tunneltest

import (
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lineState is what has become of a connection.
type lineState uint8

const (
	lineOpen   lineState = iota
	lineGone             // half open: the other end is never told anything again
	lineEnded            // cut or reset
	lineClosed           // closed by its user
)

// finLinger is how long a connection that was cut takes what still comes: if
// it were closed with that unread, an RST would overtake what was sent before.
const finLinger = time.Second

// past is a deadline that gets everybody out of a connection at once.
var past = time.Unix(1, 0)

// lineConn is one connection of a Line.
type lineConn struct {
	net.Conn
	line    *Line
	reading sync.Mutex    // held by whoever reads from Conn
	ended   chan struct{} // closed when its user can do no more with it
	abrupt  atomic.Bool   // it ends by RST, whoever ends it

	mu             sync.Mutex
	state          lineState
	steps          []Step // that have not happened yet
	sent, received int
	stall          stall
	readDeadline   time.Time
}

func newLineConn(l *Line, nc net.Conn, script []Step) *lineConn {
	return &lineConn{Conn: nc, line: l, ended: make(chan struct{}), steps: slices.Clone(script)}
}

// Read takes no more than up to the next step of the script.
func (c *lineConn) Read(p []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	c.reading.Lock()
	n, err := c.Conn.Read(p[:c.room(len(p), &c.received, receivedAt)])
	c.reading.Unlock()
	if state := c.await(); state == lineGone || state == lineEnded {
		return 0, c.pass() // it came too late; what came before Close did not
	}
	for _, s := range c.count(n, &c.received, receivedAt) {
		c.do(s)
	}
	return n, err
}

// Write stops at each step of the script.
func (c *lineConn) Write(p []byte) (done int, err error) {
	for {
		if state := c.await(); state == lineGone {
			return done + len(p), nil
		} else if state != lineOpen {
			return done, net.ErrClosed
		}
		n, err := c.Conn.Write(p[:c.room(len(p), &c.sent, sentAt)])
		done, p = done+n, p[n:]
		for _, s := range c.count(n, &c.sent, sentAt) {
			c.do(s)
		}
		switch {
		case err != nil && !c.is(lineGone):
			return done, err
		case len(p) == 0:
			return done, nil
		}
	}
}

// pass waits until something may be read; the error says that nothing ever
// will be. A connection whose other end is gone is silent.
func (c *lineConn) pass() error {
	switch c.await() {
	case lineOpen:
		return nil
	case lineGone:
		return c.silence()
	}
	return net.ErrClosed
}

// await waits for the end of a stall.
func (c *lineConn) await() lineState {
	for {
		state, left, changed := c.look()
		if left <= 0 || state != lineOpen {
			return state
		}
		var over <-chan time.Time
		if left != forEver {
			over = time.After(left)
		}
		select {
		case <-over:
		case <-changed:
		case <-c.ended:
		}
	}
}

func (c *lineConn) look() (state lineState, left time.Duration, changed <-chan struct{}) {
	c.line.mu.Lock()
	left, changed = c.line.stall.left(), c.line.changed
	c.line.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, max(left, c.stall.left()), changed
}

func (c *lineConn) is(s lineState) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state == s
}

// silence waits for the deadline, or for Close.
func (c *lineConn) silence() error {
	c.mu.Lock()
	deadline := c.readDeadline
	c.mu.Unlock()
	var expired <-chan time.Time
	if !deadline.IsZero() {
		expired = time.After(time.Until(deadline))
	}
	select {
	case <-expired:
		return os.ErrDeadlineExceeded
	case <-c.ended:
		return net.ErrClosed
	}
}

// leave enters a state in which the connection is of no more use; false if that
// has been before.
func (c *lineConn) leave(s lineState) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != lineOpen {
		return false
	}
	c.state = s
	if s != lineGone {
		close(c.ended)
	}
	return true
}

// Close closes TCP, unless the other end must not be told.
func (c *lineConn) Close() error {
	if c.leave(lineClosed) {
		c.line.remove(c)
		return c.Conn.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == lineGone {
		c.state = lineClosed
		close(c.ended)
	}
	return nil
}

// CloseWrite sends a FIN.
func (c *lineConn) CloseWrite() error {
	if c.abrupt.Load() {
		return c.Close()
	}
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || c.await() != lineOpen {
		return nil
	}
	return w.CloseWrite()
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *lineConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline bounds Read, which may still be late by the rest of a stall.
func (c *lineConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readDeadline = t
	if c.state != lineOpen {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline bounds Write in the same way.
func (c *lineConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != lineOpen {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *lineConn) cut() {
	if !c.leave(lineEnded) {
		return
	}
	c.Conn.SetDeadline(past)
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
		c.inBackground(func() { c.drain(time.Now().Add(finLinger)) })
		return
	}
	c.Conn.Close()
	c.line.remove(c)
}

func (c *lineConn) reset() {
	if !c.leave(lineEnded) {
		return
	}
	c.dropUnsent()
	c.Conn.Close()
	c.line.remove(c)
}

// dropUnsent makes the next Close an RST, where there is such a thing.
func (c *lineConn) dropUnsent() {
	c.abrupt.Store(true)
	if r, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok {
		r.SetLinger(0)
	}
}

func (c *lineConn) vanish() {
	if c.leave(lineGone) {
		c.Conn.SetDeadline(past)
		c.inBackground(func() { c.drain(time.Time{}) })
	}
}

// inBackground runs f, which ends with the connection at the latest.
func (c *lineConn) inBackground(f func()) {
	if !c.line.goes(f) {
		c.Conn.Close()
	}
}

// drain takes what still comes, until the other end closes or the deadline.
func (c *lineConn) drain(deadline time.Time) {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.Conn.SetDeadline(deadline)
	io.Copy(io.Discard, c.Conn)
	c.Conn.Close()
	c.line.remove(c)
	if c.line.relays {
		c.Close()
	}
}

// stallFor is Stall for this connection.
func (c *lineConn) stallFor(d time.Duration) {
	c.mu.Lock()
	c.stall = stallFor(d)
	c.mu.Unlock()
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	c.line.change()
}
