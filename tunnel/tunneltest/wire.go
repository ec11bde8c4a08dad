package tunneltest

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// rawBufferLen is how much one system call may read, and how much one gathers.
const rawBufferLen = 256 << 10

// rawConn sits below the TLS connection. It reads in large pieces and, while
// corked, gathers the records of one batch for a single write: the system
// call, not the cipher, is what costs. One goroutine reads and one writes;
// the reader may write too, when crypto/tls answers a KeyUpdate.
type rawConn struct {
	net.Conn
	in      []byte // read, not yet taken
	readBuf []byte
	hasty   bool        // Read does not wait; set by whoever reads
	eof     atomic.Bool // the peer closed TCP

	mu     sync.Mutex // guards what follows, and writes
	out    []byte
	corked bool
}

func newRawConn(c net.Conn) *rawConn {
	return &rawConn{Conn: c, readBuf: make([]byte, rawBufferLen)}
}

// release drops the buffers of a connection that has ended: the server's events
// keep what belongs to it for long.
func (c *rawConn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in, c.readBuf, c.out = nil, nil, nil
}

// errNothingRead is what Read returns instead of waiting. TLS goes on after it, as
// it does after a deadline.
var errNothingRead error = nothingRead{}

type nothingRead struct{}

func (nothingRead) Error() string   { return "nothing read" }
func (nothingRead) Timeout() bool   { return true }
func (nothingRead) Temporary() bool { return true }

// Read returns what is buffered before it asks for more.
func (c *rawConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 && c.hasty {
		return 0, errNothingRead
	}
	if len(c.in) == 0 && len(p) < len(c.readBuf) {
		n, err := c.Conn.Read(c.readBuf)
		c.in = c.readBuf[:n]
		if n == 0 {
			return 0, c.note(err)
		}
	}
	if len(c.in) == 0 {
		n, err := c.Conn.Read(p)
		return n, c.note(err)
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *rawConn) note(err error) error {
	if errors.Is(err, io.EOF) {
		c.eof.Store(true)
	}
	return err
}

// Write gathers while corked and writes through otherwise.
func (c *rawConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.corked {
		return c.Conn.Write(p)
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

func (c *rawConn) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = true
}

// uncork writes what was gathered.
func (c *rawConn) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.out)
	c.out = c.out[:0]
	return err
}
