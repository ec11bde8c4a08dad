package netstack

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// TCP keepalive, on for every connection: a peer that vanished must not hold a
// proxied connection for ever, and NAT on the way forgets idle flows.
const (
	keepaliveIdle     = 60 * time.Second
	keepaliveInterval = 15 * time.Second
)

// socket is what connections and listeners have in common: an endpoint and the
// means to wait for it. The waiter entries live as long as the socket, and so does
// the timer of writes once one has waited, so that a blocking call allocates
// nothing.
//
// Reads are serialised, and so are writes; each has one channel of capacity 1
// that the endpoint, the deadline and Close post to. Whoever waits looks at
// everything again after a post, so posts may be lost in each other but never
// for good.
type socket struct {
	ep      tcpip.Endpoint
	queue   *waiter.Queue
	network string

	readable, writable chan struct{}
	readEntry          waiter.Entry
	writeEntry         waiter.Entry
	onReadable         atomic.Pointer[func()] // see whenReadable

	readMu, writeMu             sync.Mutex
	readDeadline, writeDeadline deadline

	closed atomic.Bool
	// failure is the endpoint's hard error. gVisor reports it once, to
	// whichever direction asks first, and end of file after that; a reader
	// must not take a reset for the end.
	failure atomic.Pointer[error]
}

// init takes over an endpoint. The endpoint calls l when there may be something to
// read, and l has to call readNotifier's NotifyEvent.
func (s *socket) init(ep tcpip.Endpoint, queue *waiter.Queue, network string, l waiter.EventListener) {
	s.ep, s.queue, s.network = ep, queue, network
	s.readable = make(chan struct{}, 1)
	s.writable = make(chan struct{}, 1)
	const ended = waiter.EventHUp | waiter.EventErr
	s.readEntry.Init(l, waiter.ReadableEvents|ended)
	s.writeEntry.Init(waiter.ChannelNotifier(s.writable), waiter.WritableEvents|ended)
	queue.EventRegister(&s.readEntry)
	queue.EventRegister(&s.writeEntry)
}

// readNotifier is a socket as the endpoint sees it when there is something to
// read.
type readNotifier socket

// NotifyEvent implements waiter.EventListener. The endpoint may be locked.
func (n *readNotifier) NotifyEvent(waiter.EventMask) {
	post(n.readable)
	(*socket)(n).callReadable()
}

// callReadable calls whom OnReadable has promised it.
func (s *socket) callReadable() {
	if s.onReadable.Load() == nil {
		return // as nearly always
	}
	if f := s.onReadable.Swap(nil); f != nil {
		(*f)()
	}
}

// wait blocks until something was posted to wake, and fails when the socket is
// closed or the deadline has passed.
func (s *socket) wait(wake chan struct{}, d *deadline) error {
	<-wake
	return s.check(d)
}

func (s *socket) check(d *deadline) error {
	switch {
	case s.isClosed():
		return net.ErrClosed
	case d.passed():
		return os.ErrDeadlineExceeded
	}
	return nil
}

// whenReadable tells whether a read would not have to wait; if it would, f is
// called once when that may have changed, perhaps with the endpoint locked.
func (s *socket) whenReadable(f func()) (now bool) {
	s.onReadable.Store(&f)
	if s.isClosed() || s.ep.Readiness(waiter.ReadableEvents|waiter.EventHUp|waiter.EventErr) != 0 {
		return s.onReadable.Swap(nil) != nil // nil: f has been called meanwhile
	}
	return false
}

func (s *socket) isClosed() bool { return s.closed.Load() }

// explain turns the endpoint's error into the caller's.
func (s *socket) explain(terr tcpip.Error) error {
	if s.isClosed() {
		return net.ErrClosed
	}
	err := errnoOf(terr)
	switch {
	case err == io.EOF || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOTCONN):
		if f := s.failure.Load(); f != nil {
			return *f
		}
		if s.network == "tcp" && tcp.EndpointState(s.ep.State()) == tcp.StateError {
			// The other direction is just about to store it.
			return ErrReset
		}
	case s.network == "tcp":
		s.failure.CompareAndSwap(nil, &err)
	}
	return err
}

// close marks the socket closed, wakes its callers and closes the endpoint.
func (s *socket) close() error { return s.closeBy(func() {}) }

// closeBy is close with something to do to the endpoint before it is closed,
// when nobody who waits can take the result for the peer's doing any more.
func (s *socket) closeBy(prepare func()) error {
	if !s.closed.CompareAndSwap(false, true) {
		return net.ErrClosed
	}
	s.callReadable()
	s.readDeadline.set(time.Time{}, s.readable) // which also wakes who waits
	s.writeDeadline.set(time.Time{}, s.writable)
	prepare()
	s.ep.Close()
	return nil
}

// SetDeadline sets both deadlines.
func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline bounds reads, waiting ones too. After it has passed a read
// fails even if data is there, as in package net.
func (s *socket) SetReadDeadline(t time.Time) error {
	if s.isClosed() {
		return opError("set", s.network, nil, nil, net.ErrClosed)
	}
	s.readDeadline.set(t, s.readable)
	return nil
}

// SetWriteDeadline bounds writes, waiting ones too. A write that waits for room
// in the stack's queue, because the tunnel itself is stalled, ends when there
// is room or the link goes down, not before.
func (s *socket) SetWriteDeadline(t time.Time) error {
	if s.isClosed() {
		return opError("set", s.network, nil, nil, net.ErrClosed)
	}
	s.writeDeadline.set(t, s.writable)
	return nil
}

// tcpConn is a TCP connection. It has the methods of *net.TCPConn that a relay
// needs: CloseRead and CloseWrite beside those of net.Conn.
type tcpConn struct {
	socket
	reset         atomic.Bool // Close gives up; see SetLinger
	local, remote net.Addr
	ends          fourTuple         // = local and remote, from connected on
	dst           tcpip.SliceWriter // of the read that holds readMu
	src           bytes.Reader      // of the write that holds writeMu
	looker        *time.Timer       // of that write; nil until one has waited

	stack  *Stack
	buffer atomic.Int64 // size of the receive buffer, as growth has booked it
}

// newTCPConn makes a connection of an endpoint, which it owns from then on.
func newTCPConn(ep tcpip.Endpoint, queue *waiter.Queue, s *Stack) *tcpConn {
	c := &tcpConn{stack: s}
	c.buffer.Store(s.growth.begin)
	c.init(ep, queue, "tcp", (*tcpReadNotifier)(c))
	ep.SocketOptions().SetKeepAlive(true)
	idle, interval := tcpip.KeepaliveIdleOption(keepaliveIdle), tcpip.KeepaliveIntervalOption(keepaliveInterval)
	// These cannot fail on a TCP endpoint.
	_ = ep.SetSockOpt(&idle)
	_ = ep.SetSockOpt(&interval)
	return c
}

// connected fixes the addresses. The endpoint would not tell the peer's any
// more if the connection has ended again already.
func (c *tcpConn) connected(remote netip.AddrPort) {
	if a, err := c.ep.GetLocalAddress(); err == nil {
		local := addrPortOf(a)
		c.local = net.TCPAddrFromAddrPort(local)
		c.ends = fourTupleOf(local, remote)
		c.stack.ended.remove(c.ends)
	}
	c.remote = net.TCPAddrFromAddrPort(remote)
}

// Read reads what is there, at least one octet, waiting for it if need be.
func (c *tcpConn) Read(b []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	n, err := c.read(b)
	return n, opError("read", c.network, c.local, c.remote, err)
}

// OnReadable tells whether there is something to read: data, an end or an
// error, which the next Read returns. If there is not, it has f called once,
// when there may be, or when the connection is closed. f must return at once and
// not touch the connection, which may be locked meanwhile: it tells somebody.
// Whoever has many idle connections needs neither a goroutine nor a buffer for
// each of them so. One call at a time; deadlines do not apply.
func (c *tcpConn) OnReadable(f func()) (now bool) { return c.whenReadable(f) }

func (c *tcpConn) read(b []byte) (int, error) {
	if err := c.check(&c.readDeadline); err != nil || len(b) == 0 {
		return 0, err
	}
	defer func() { c.dst = nil }()
	for {
		c.dst = b
		res, terr := c.ep.Read(&c.dst, tcpip.ReadOptions{})
		switch terr.(type) {
		case nil:
			c.tune(res.Count)
			return res.Count, nil
		case *tcpip.ErrWouldBlock:
			if err := c.wait(c.readable, &c.readDeadline); err != nil {
				return 0, err
			}
		default:
			return 0, c.cause(c.explain(terr))
		}
	}
}

// cause says more of an end that was ours.
func (c *tcpConn) cause(err error) error {
	local, ok := c.local.(*net.TCPAddr)
	if err != ErrAborted || !ok {
		return err
	}
	return c.stack.endings.of(local.AddrPort().Addr().Unmap())
}

// Write writes all of b, waiting for room in the send buffer if need be.
func (c *tcpConn) Write(b []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	n, err := c.write(b)
	return n, opError("write", c.network, c.local, c.remote, err)
}

func (c *tcpConn) write(b []byte) (n int, err error) {
	defer c.src.Reset(nil)
	if err := c.check(&c.writeDeadline); err != nil {
		return 0, err
	}
	for look := firstLook; n < len(b); {
		c.src.Reset(b[n:])
		m, terr := c.ep.Write(&c.src, tcpip.WriteOptions{})
		n += int(m)
		switch terr.(type) {
		case nil:
			err = nil
			if n < len(b) {
				err = c.check(&c.writeDeadline)
			}
		case *tcpip.ErrWouldBlock:
			look, err = c.awaitRoom(look)
		default:
			err = c.cause(c.explain(terr))
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// A write that waits for word of room looks by itself after firstLook, and after
// twice as long each time, maxLook at most; after firstLook again once word came.
const (
	firstLook = 10 * time.Millisecond
	maxLook   = time.Minute
)

// awaitRoom waits until there may be room to write, no longer than look, and
// returns how long to wait next. gVisor gives word when half of what a connection
// may hold has become free. On a long path, where all of it was sent at once and is
// acknowledged at once, the other half would be idle until the next round trip.
func (c *tcpConn) awaitRoom(look time.Duration) (next time.Duration, err error) {
	if c.looker == nil {
		c.looker = time.AfterFunc(look, func() { post(c.writable) })
	} else {
		c.looker.Reset(look)
	}
	err = c.wait(c.writable, &c.writeDeadline)
	if c.looker.Stop() {
		return firstLook, err
	}
	return min(2*look, maxLook), err
}

// CloseWrite sends what was written and then FIN.
func (c *tcpConn) CloseWrite() error { return c.shutdown(tcpip.ShutdownWrite) }

// CloseRead makes reads return io.EOF. What still arrives is discarded.
func (c *tcpConn) CloseRead() error { return c.shutdown(tcpip.ShutdownRead) }

func (c *tcpConn) shutdown(how tcpip.ShutdownFlags) error {
	err := error(net.ErrClosed)
	if !c.isClosed() {
		err = errnoOf(c.ep.Shutdown(how))
	}
	return opError("close", c.network, c.local, c.remote, err)
}

// orphanTimeout is how long a closed connection may go on without its peer
// taking anything of what was written. Without it a peer that keeps its window
// shut would keep the octets in memory for ever.
const orphanTimeout = time.Minute

// SetLinger with 0 makes Close discard what was not sent yet and reset the
// connection; every other value is the default, as at the beginning.
func (c *tcpConn) SetLinger(sec int) error {
	if c.isClosed() {
		return opError("set", c.network, c.local, c.remote, net.ErrClosed)
	}
	c.reset.Store(sec == 0)
	return nil
}

// Close closes both directions. It does not wait until what was written has
// been sent; unread data makes it a reset, as on Linux.
func (c *tcpConn) Close() error { return c.closeWithin(orphanTimeout) }

func (c *tcpConn) closeWithin(orphan time.Duration) error {
	err := c.closeBy(func() {
		if c.reset.Load() {
			c.ep.Abort()
			return
		}
		timeout := tcpip.TCPUserTimeoutOption(orphan)
		_ = c.ep.SetSockOpt(&timeout) // cannot fail on a TCP endpoint
	})
	c.stack.growth.giveBack(&c.buffer)
	return opError("close", c.network, c.local, c.remote, err)
}

// LocalAddr is a *net.TCPAddr.
func (c *tcpConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is a *net.TCPAddr.
func (c *tcpConn) RemoteAddr() net.Addr { return c.remote }

// addrPortOf converts an endpoint's address.
func addrPortOf(a tcpip.FullAddress) netip.AddrPort {
	return netip.AddrPortFrom(addrOf(a.Addr), a.Port)
}

// fullAddressOf is the inverse of addrPortOf. Link-local destinations need the
// interface; others find it by route.
func fullAddressOf(a netip.AddrPort) tcpip.FullAddress {
	full := tcpip.FullAddress{Port: a.Port()}
	if a.Addr().IsValid() && !a.Addr().IsUnspecified() {
		full.Addr = addressOf(a.Addr())
	}
	if a.Addr().IsLinkLocalUnicast() && a.Addr().Is6() {
		full.NIC = nicID
	}
	return full
}
