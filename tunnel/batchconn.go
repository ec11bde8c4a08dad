package tunnel

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// batchConn stands between TLS and TCP and makes few large system calls out of
// many small ones: the system call is what a record costs, not the cipher.
//
// crypto/tls writes each record by itself; between cork and flush they gather
// and leave in one write. It reads a record's header and body by themselves;
// here whatever has arrived is read at once. Servers that make a record of
// each packet would otherwise cost two system calls per packet.
type batchConn struct {
	net.Conn

	in         []byte // read and not yet given out: in[start:end]
	start, end int
	hasty      bool // Read does not wait; set by whoever reads
	ended      bool // TCP did, from the other end

	watch *stallWatch

	mu     sync.Mutex // TLS writes alerts and key updates from the reader
	corked bool
	out    []byte
}

func newBatchConn(c net.Conn) *batchConn {
	raw := rawConn(c)
	keepShort(raw)
	return &batchConn{Conn: c, in: make([]byte, readBuffer), watch: newStallWatch(ackedBy(raw))}
}

// rawConn returns the socket below c, or nil if there is none in sight.
func rawConn(c net.Conn) syscall.RawConn {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// notSent is how much may wait unsent in the socket, in octets. What is in
// there can't be overtaken any more, so all that waits should wait in our own
// queue, where flows take turns. What is sent and not acknowledged does not
// count, so the rate suffers nothing.
const notSent = 32 << 10

// keepShort asks for that where the system can. It is no loss if it can't.
func keepShort(raw syscall.RawConn) {
	if raw != nil {
		_ = raw.Control(func(fd uintptr) { _ = setNotSentLowat(fd, notSent) })
	}
}

// errNothingRead is what Read returns instead of waiting. TLS goes on after it, as
// it does after a deadline.
var errNothingRead error = nothingRead{}

type nothingRead struct{}

func (nothingRead) Error() string   { return "nothing read" }
func (nothingRead) Timeout() bool   { return true }
func (nothingRead) Temporary() bool { return true }

// Read gives out what is buffered, or reads all that has arrived.
func (c *batchConn) Read(b []byte) (int, error) {
	if c.start == c.end {
		if c.hasty {
			return 0, errNothingRead
		}
		n, err := c.Conn.Read(c.in)
		c.start, c.end = 0, n
		if n == 0 {
			c.ended = errors.Is(err, io.EOF)
			return 0, err
		}
		c.watch.heard()
	}
	n := copy(b, c.in[c.start:c.end])
	c.start += n
	return n, nil
}

// Write sends b, or keeps it until flush.
func (c *batchConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.corked {
		return c.Conn.Write(b)
	}
	c.out = append(c.out, b...)
	return len(b), nil
}

// cork makes Write gather.
func (c *batchConn) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = true
}

// flush sends what was gathered since cork, in one write unless the link is slow.
func (c *batchConn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	var err error
	for b := c.out; len(b) > 0 && err == nil; {
		n := min(len(b), c.watch.chunk)
		c.watch.begin()
		_, err = c.Conn.Write(b[:n])
		c.watch.end()
		b = b[n:]
	}
	c.out = c.out[:0]
	return err
}

// Close ends the connection, and the watch over it before.
func (c *batchConn) Close() error {
	c.watch.stop()
	return c.Conn.Close()
}
