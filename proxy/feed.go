package proxy

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// feed reads from a connection and holds a large buffer only while there is
// something in it. What next returned is valid until done; last ends the feed.
type feed interface {
	next() ([]byte, error)
	done(last bool)
}

// relayBuffer is what a direction holds while it has octets to move; large,
// because the tunnel's stack and the kernel both gain from large reads.
type relayBuffer [256 << 10]byte

// smallBuffer is what a direction holds while it waits, if its connection can't
// be waited for without a buffer.
type smallBuffer [4 << 10]byte

// newFeed picks the way to read that holds the least memory while waiting.
func newFeed(s *Server, c stream) feed {
	if cc, ok := c.(*clientConn); ok {
		if raw := rawConn(cc.Conn); raw != nil {
			f := &rawFeed{srv: s, raw: raw}
			f.try = f.read
			return f
		}
	}
	f := &connFeed{srv: s, conn: c}
	f.deadline, _ = c.(readDeadliner)
	return f
}

// rawFeed waits on the descriptor and takes a buffer only to read into it.
type rawFeed struct {
	srv *Server
	raw syscall.RawConn
	try func(fd uintptr) bool // = read, made once
	buf *relayBuffer
	n   int
	err error
}

func (f *rawFeed) next() ([]byte, error) {
	if err := f.raw.Read(f.try); err != nil {
		return nil, err
	}
	switch {
	case f.err != nil:
		return nil, f.err
	case f.n == 0:
		return nil, io.EOF
	}
	return f.buf[:f.n], nil
}

// read is called by the runtime whenever the descriptor may have something.
func (f *rawFeed) read(fd uintptr) bool {
	var again bool
	f.buf = f.srv.buffer()
	f.n, again, f.err = readRaw(fd, f.buf[:])
	if again {
		f.done(false)
	}
	return !again
}

func (f *rawFeed) done(bool) {
	if f.buf != nil {
		f.srv.buffers.Put(f.buf)
		f.buf = nil
	}
}

// shrinkAfter is the longest a connFeed waits with a large buffer.
const shrinkAfter = time.Second

type readDeadliner interface{ SetReadDeadline(time.Time) error }

// connFeed waits with a small buffer and takes a large one once a read has
// filled that. A read deadline, or a small read if the connection has no
// deadlines, brings it back to the small one.
type connFeed struct {
	srv      *Server
	conn     io.Reader
	deadline readDeadliner // or nil
	small    *smallBuffer
	large    *relayBuffer
	n        int // octets of the last read
}

func (f *connFeed) next() (b []byte, err error) {
	for {
		b := f.room()
		f.n, err = f.conn.Read(b)
		if f.large == nil || f.n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return b[:f.n], err
		}
		f.shrink()
	}
}

func (f *connFeed) room() []byte {
	if f.large != nil {
		return f.large[:]
	}
	if f.small == nil {
		f.small = f.srv.smallBuffer()
	}
	return f.small[:]
}

func (f *connFeed) done(last bool) {
	switch {
	case last:
		f.shrink()
		if f.small != nil {
			f.srv.small.Put(f.small)
			f.small = nil
		}
	case f.large == nil && f.n == len(f.small):
		f.grow()
	case f.large != nil && f.deadline == nil && f.n <= len(f.small):
		f.shrink()
	}
}

func (f *connFeed) grow() {
	f.large = f.srv.buffer()
	if f.deadline != nil {
		_ = f.deadline.SetReadDeadline(time.Now().Add(shrinkAfter))
	}
}

func (f *connFeed) shrink() {
	if f.large == nil {
		return
	}
	f.srv.buffers.Put(f.large)
	f.large = nil
	if f.deadline != nil {
		_ = f.deadline.SetReadDeadline(time.Time{})
	}
}

func (s *Server) buffer() *relayBuffer {
	if b, ok := s.buffers.Get().(*relayBuffer); ok {
		return b
	}
	return new(relayBuffer)
}

func (s *Server) smallBuffer() *smallBuffer {
	if b, ok := s.small.Get().(*smallBuffer); ok {
		return b
	}
	return new(smallBuffer)
}
