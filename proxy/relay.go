package proxy

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// relay moves octets between two connections until both directions have ended,
// one has failed, or nothing moved for too long.
type relay struct {
	srv            *Server
	client, target stream
	woken          func()       // has drain called, if the target is a notifier
	running        atomic.Int32 // directions that have not ended
	start          time.Time
	last           atomic.Int64 // time of the last movement, since start

	mu    sync.Mutex
	limit time.Duration // of silence; 0 = none
	timer *time.Timer   // nil without limit
	over  bool
}

// startRelay moves octets until the end and closes both connections. early goes
// to the target before anything else from the client. That is done in other
// goroutines, so that the one that shook hands can let go of all it holds.
func (s *Server) startRelay(client *clientConn, target stream, early []byte) {
	s.enter()
	r := &relay{srv: s, client: client, target: target, start: time.Now()}
	r.running.Store(2)
	r.allowSilence(s.cfg.IdleTimeout)
	client.onClose(r.clientClosed)
	s.crew.do(func() { r.up(early) }) // ends when either connection is closed
	if n, ok := target.(notifier); ok {
		drain := func() { r.drain(n) }
		r.woken = func() { s.crew.do(drain) } // ends when there is nothing to read
		if n.OnReadable(r.woken) {
			r.woken()
		}
		return
	}
	go r.down() // ends when either connection is closed
}

// clientClosed is called when the client's connection is being closed. If that
// was by Shutdown, a direction that waits for the target to take something
// would not notice.
func (r *relay) clientClosed(error) {
	if r.running.Load() > 0 {
		go r.dropTarget() // which waits for nothing but the stack's locks
	}
}

// up moves the client's octets to the target.
func (r *relay) up(early []byte) {
	if len(early) > 0 {
		if _, err := r.target.Write(early); err != nil {
			r.finish(r.target, err)
			return
		}
	}
	r.finish(r.target, r.move(r.target, newFeed(r.srv, r.client)))
}

// down moves the target's octets to the client.
func (r *relay) down() {
	r.finish(r.client, r.move(r.client, newFeed(r.srv, r.target)))
}

// move copies until the source's end.
func (r *relay) move(dst io.Writer, src feed) error {
	for {
		b, err := src.next()
		err = r.pass(dst, b, err)
		src.done(err != nil)
		if err != nil {
			return err
		}
	}
}

// pass writes what a read returned, and returns the first error of both.
func (r *relay) pass(dst io.Writer, b []byte, err error) error {
	if len(b) == 0 {
		return err
	}
	r.touch()
	if _, werr := dst.Write(b); werr != nil {
		err = werr
	}
	r.touch()
	return err
}

// notifier is a connection that needs no goroutine while there is nothing to
// read, as those of the tunnel's stack. OnReadable tells whether there is; if
// not, it has f called once when there may be, and f returns at once.
type notifier interface {
	io.Reader
	OnReadable(f func()) (now bool)
}

// drain moves what the target has for the client, and has itself called when
// there is more.
func (r *relay) drain(src notifier) {
	for src.OnReadable(r.woken) {
		b := r.srv.buffer()
		n, err := src.Read(b[:])
		err = r.pass(r.client, b[:n], err)
		r.srv.buffers.Put(b)
		if err != nil {
			r.finish(r.client, err)
			return
		}
	}
}

// finish passes the end of one direction on, which is io.EOF if it is orderly,
// and closes both connections if it was the last: no end need be passed on then.
func (r *relay) finish(dst stream, err error) {
	last := r.running.Load() == 1
	if !last || err != io.EOF {
		r.end(dst, err)
	}
	if r.running.Add(-1) > 0 {
		return
	}
	r.stop()
	r.target.Close()
	r.client.Close()
	r.srv.leave()
}

// end passes an orderly end on as a half-close, a failure as a reset, so that
// nobody takes a part for the whole.
func (r *relay) end(dst stream, err error) {
	if err != io.EOF {
		r.abort()
		return
	}
	r.allowSilence(r.srv.cfg.HalfOpenTimeout)
	// A connection that can't be half-closed stays open for the answer.
	if err := closeWrite(dst); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		r.srv.cfg.Logger.Debug("half-close", "err", err)
	}
}

func (r *relay) dropTarget() {
	reset(r.target)
	r.target.Close()
}

func (r *relay) abort() {
	r.dropTarget()
	if c, ok := r.client.(*clientConn); ok {
		c.abort()
	}
}

func (r *relay) touch() { r.last.Store(int64(time.Since(r.start))) }

// allowSilence sets the time after which silence ends the relay.
func (r *relay) allowSilence(limit time.Duration) {
	if limit <= 0 {
		return
	}
	r.touch()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limit == 0 || limit < r.limit {
		r.limit = limit
	}
	if r.timer != nil {
		r.timer.Reset(r.limit)
		return
	}
	r.timer = time.AfterFunc(r.limit, r.expire)
}

func (r *relay) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	silence := time.Since(r.start) - time.Duration(r.last.Load())
	switch {
	case r.over:
	case silence >= r.limit:
		r.abort()
	default:
		r.timer.Reset(r.limit - silence)
	}
}

func (r *relay) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.timer != nil {
		r.timer.Stop()
	}
}
