package proxy

import (
	"context"
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
	start          time.Time
	last           atomic.Int64 // time of the last movement, since start

	mu    sync.Mutex
	limit time.Duration // of silence; 0 = none
	timer *time.Timer   // nil without limit
	over  bool
}

// startRelay relays in a goroutine of its own, so that the one that shook hands
// can end with all it holds.
func (s *Server) startRelay(client *clientConn, target stream, early []byte) {
	s.enter()
	go func() { // ends when either connection is closed
		defer s.leave()
		s.relay(client, target, early)
	}()
}

// relay moves octets until the end and closes both connections. early goes to
// the target before anything else from the client.
func (s *Server) relay(client *clientConn, target stream, early []byte) {
	r := &relay{srv: s, client: client, target: target, start: time.Now()}
	r.allowSilence(s.cfg.IdleTimeout)
	// A direction that waits for the target to take something would not notice
	// that Shutdown has closed the client.
	release := context.AfterFunc(client.bind(context.Background()), r.abort)
	done := make(chan struct{})
	go func() { // ends when either connection is closed
		defer close(done)
		r.finish(client, r.move(client, newFeed(s, target)))
	}()
	r.finish(target, r.up(early))
	<-done
	release()
	r.stop()
	target.Close()
	client.Close()
}

// up moves the client's octets to the target.
func (r *relay) up(early []byte) error {
	if len(early) > 0 {
		if _, err := r.target.Write(early); err != nil {
			return err
		}
	}
	return r.move(r.target, newFeed(r.srv, r.client))
}

// move copies until the source's end, which is no error.
func (r *relay) move(dst io.Writer, src feed) error {
	for {
		b, err := src.next()
		if len(b) > 0 {
			r.touch()
			if _, werr := dst.Write(b); werr != nil {
				err = werr
			}
			r.touch()
		}
		src.done(err != nil)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// finish passes the end of one direction on: an orderly end as a half-close, a
// failure as a reset, so that nobody takes a part for the whole.
func (r *relay) finish(dst stream, err error) {
	if err != nil {
		r.abort()
		return
	}
	r.allowSilence(r.srv.cfg.HalfOpenTimeout)
	// A connection that can't be half-closed stays open for the answer.
	if err := closeWrite(dst); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		r.srv.cfg.Logger.Debug("half-close", "err", err)
	}
}

func (r *relay) abort() {
	reset(r.target)
	r.target.Close()
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
