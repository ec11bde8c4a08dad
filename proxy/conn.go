package proxy

import (
	"bufio"
	"bytes"
	"container/list"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// stream is what the relay moves octets between.
type stream interface {
	io.ReadWriteCloser
}

// clientConn is an accepted connection. It keeps the books of the server, gives
// out octets that were read too early, and keeps CloseWrite visible through
// net/http.
type clientConn struct {
	net.Conn
	srv     *Server
	early   []byte // read already, belongs before Conn; one reader
	once    sync.Once
	trusted bool                           // see loginHTTP; for the goroutine that serves requests
	pinned  atomic.Pointer[http.Transport] // see transportFor
	restBy  atomic.Pointer[time.Time]      // see limitRest
	helloBy atomic.Pointer[time.Time]      // by when the first request must be there, until it is

	// Under srv.mu:
	busy   bool          // a request is under way
	idle   *list.Element // in srv.idle, or nil
	closed bool          // Close was called
	cancel func(error)   // ends what is being done for this client, and says why; or nil
}

// bind returns a context that ends when the connection is closed, or when the
// client has left. It ends the one it returned before.
func (c *clientConn) bind(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	c.onClose(cancel)
	return ctx
}

// onClose has f called when the connection is closed, at once if it is, or when
// the client has left, with errClientGone then. It ends the context that bind
// returned. The server's mutex is held during f.
func (c *clientConn) onClose(f func(cause error)) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	if c.cancel != nil {
		c.cancel(nil)
	}
	if c.closed {
		f(nil)
	}
	c.cancel = f
}

// left ends what is being done for a client that is not there any more.
func (c *clientConn) left() {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.cancel(errClientGone)
}

// Read gives out the early octets first.
func (c *clientConn) Read(b []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.early)
	c.early = c.early[n:]
	return n, nil
}

// SetReadDeadline sets no deadline later than what limitRest allowed, nor one
// that would give the first request more time than it has.
func (c *clientConn) SetReadDeadline(t time.Time) error {
	if by := c.restBy.Load(); by != nil && t.IsZero() {
		t = *by
	}
	if by := c.helloBy.Load(); by != nil && (t.IsZero() || t.After(*by)) {
		t = *by
	}
	return c.Conn.SetReadDeadline(t)
}

// takeEarly returns the early octets and forgets them; the caller owns them.
func (c *clientConn) takeEarly() []byte {
	b := c.early
	c.early = nil
	return b
}

// CloseWrite closes the sending direction, if the connection can do that.
func (c *clientConn) CloseWrite() error { return closeWrite(c.Conn) }

// Close closes the connection and cancels what is being dialled for it.
func (c *clientConn) Close() error {
	err := error(net.ErrClosed)
	c.once.Do(func() {
		c.srv.cancel(c)
		err = c.Conn.Close()
		if t := c.pinned.Load(); t != nil {
			t.CloseIdleConnections()
		}
		c.srv.remove(c)
	})
	return err
}

// abort closes the connection so that the client sees a reset where the
// transport has that, and does not take what it got for the whole.
func (c *clientConn) abort() {
	reset(c.Conn)
	c.Close()
}

// setBusy notes whether a request is under way, for Shutdown and dropIdle.
func (c *clientConn) setBusy(busy bool) {
	c.srv.mu.Lock()
	if _, open := c.srv.conns[c]; open {
		c.srv.noteBusy(c, busy)
	}
	c.srv.mu.Unlock()
	if !busy {
		c.srv.dropIdle(c.srv.cfg.MaxIdle)
	}
}

// linger closes the connection in a way that lets the client read the last
// words: closing with unread octets would reset it at once.
func (c *clientConn) linger() {
	defer c.Close()
	if c.CloseWrite() != nil {
		return
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, c, 64<<10)
}

// last writes the last words to a client and closes the connection.
func (c *clientConn) last(b []byte) {
	if _, err := c.Write(b); err != nil {
		c.Close()
		return
	}
	c.linger()
}

func closeWrite(c io.Closer) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// reset arranges that Close sends RST instead of FIN, where that exists.
func reset(c any) {
	if l, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0)
	}
}

// tlsHandshake is the first octet of TLS, which is not served. Who is told that
// this is a proxy behind TLS (https://) learns at once that it is not, while
// net/http would wait for the end of a line.
const tlsHandshake = 22

// serve finds out what the client speaks and serves it, if the listener does.
func (s *Server) serve(c *clientConn, m Mode) {
	by := time.Now().Add(s.cfg.HandshakeTimeout)
	c.SetDeadline(by)
	br := s.reader(c)
	defer s.putReader(br)
	first, err := br.Peek(1)
	if err != nil {
		c.Close()
		return
	}
	tls := first[0] == tlsHandshake
	socks := first[0] == socksVersion5 || first[0] == socksVersion4
	switch {
	case tls, socks && m == ModeHTTP, !socks && m == ModeSOCKS5:
		s.cfg.Logger.Debug("protocol not served here", "peer", c.RemoteAddr(), "mode", m)
		c.Close()
	case socks:
		s.serveSOCKS(c, br)
	default:
		c.early = buffered(br)
		c.helloBy.Store(&by) // net/http would begin to count here
		c.SetDeadline(time.Time{})
		s.handoff.give(c)
	}
}

// reader returns a buffered reader from the pool. What remains in it has to be
// taken out with buffered before it goes back.
func (s *Server) reader(c net.Conn) *bufio.Reader {
	br, ok := s.readers.Get().(*bufio.Reader)
	if !ok {
		return bufio.NewReader(c)
	}
	br.Reset(c)
	return br
}

func (s *Server) putReader(br *bufio.Reader) {
	br.Reset(nil)
	s.readers.Put(br)
}

// buffered takes out a copy of what was read ahead.
func buffered(br *bufio.Reader) []byte {
	b, _ := br.Peek(br.Buffered())
	b = bytes.Clone(b)
	_, _ = br.Discard(len(b))
	return b
}

// dial calls the DialFunc within the dial timeout, if the address may be
// dialled. The error is a *dialError and names the reason why ctx ended, if that
// was it.
func (s *Server) dial(ctx context.Context, address string) (net.Conn, error) {
	if err := s.checkRemote(address); err != nil {
		return nil, &dialError{address, err}
	}
	c, err := s.within(ctx, func(ctx context.Context) (net.Conn, error) { return s.cfg.Dial(ctx, "tcp", address) })
	if err != nil {
		return nil, &dialError{address, err}
	}
	return c, nil
}

// within bounds a dial by the dial timeout. The error names the reason why ctx
// ended, if that was it.
func (s *Server) within(ctx context.Context, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	c, err := dial(ctx)
	if err == nil {
		return c, nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	return nil, err
}
