package forward

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// datagram is what a fake socket carries.
type datagram struct {
	addr netip.AddrPort
	text string
}

// fakeSocket is a Socket whose clients are a test's.
type fakeSocket struct {
	in, out chan datagram
	failed  chan error
	once    sync.Once
	closed  chan struct{}
}

func newFakeSocket() *fakeSocket {
	return &fakeSocket{in: make(chan datagram), out: make(chan datagram, 100), failed: make(chan error), closed: make(chan struct{})}
}

func (s *fakeSocket) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-s.in:
		return copy(b, d.text), d.addr, nil
	case err := <-s.failed:
		return 0, netip.AddrPort{}, err
	case <-s.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (s *fakeSocket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	s.out <- datagram{to, string(b)}
	return len(b), nil
}

func (s *fakeSocket) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// fakeConn is the socket of one client; it answers itself.
type fakeConn struct {
	net.Conn // nil
	name     string
	in       chan string
	once     sync.Once
	closed   chan struct{}

	mu    sync.Mutex
	until time.Time
}

func (c *fakeConn) Write(b []byte) (int, error) {
	select {
	case c.in <- c.name + " " + string(b):
	case <-c.closed:
		return 0, net.ErrClosed
	}
	return len(b), nil
}

func (c *fakeConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	until := c.until
	c.mu.Unlock()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case text := <-c.in:
		if text == c.name+" fail" {
			return 0, syscall.ECONNREFUSED
		}
		return copy(b, text), nil
	case <-timer.C:
		return 0, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *fakeConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	return nil
}

func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// fixture is a relay in a bubble, whose sockets are named a, b, c …
type fixture struct {
	t      *testing.T
	socket *fakeSocket
	mu     sync.Mutex // guards opened, while dials run
	opened []*fakeConn
	hold   chan struct{} // dials wait for it, if not nil
	cancel context.CancelFunc
	done   chan error
}

func relay(t *testing.T, u UDP) *fixture {
	ctx, cancel := context.WithCancel(t.Context())
	f := &fixture{t: t, socket: newFakeSocket(), cancel: cancel, done: make(chan error, 1)}
	u.Dial = func(ctx context.Context) (net.Conn, error) {
		if f.hold != nil {
			select {
			case <-f.hold:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		c := &fakeConn{name: string(rune('a' + len(f.opened))), in: make(chan string, 100), closed: make(chan struct{})}
		f.opened = append(f.opened, c)
		return c, nil
	}
	go func() { f.done <- u.Serve(ctx, f.socket) }()
	return f
}

// send sends a datagram of client n and lets the relay do its work.
func (f *fixture) send(n uint16, text string) {
	f.socket.in <- datagram{client(n), text}
	synctest.Wait()
}

func client(n uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), n)
}

// want expects the next datagram to a client.
func (f *fixture) want(n uint16, text string) {
	f.t.Helper()
	select {
	case d := <-f.socket.out:
		if d != (datagram{client(n), text}) {
			f.t.Errorf("got %q to %v, want %q to %v", d.text, d.addr, text, client(n))
		}
	default:
		f.t.Errorf("nothing for %v, want %q", client(n), text)
	}
}

func (f *fixture) end() {
	f.t.Helper()
	f.cancel()
	if err := <-f.done; err != nil {
		f.t.Errorf("Serve: %v", err)
	}
	for _, c := range f.opened {
		if !c.isClosed() {
			f.t.Errorf("socket %s is left open", c.name)
		}
	}
}

func (c *fakeConn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Each client has a socket of its own, as long as it is used.
func TestUDPClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := relay(t, UDP{IdleTimeout: time.Minute})
		f.send(1, "x")
		f.want(1, "a x")
		f.send(2, "x")
		f.want(2, "b x")
		time.Sleep(40 * time.Second)
		f.send(1, "y")
		f.want(1, "a y")
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if f.opened[0].isClosed() || !f.opened[1].isClosed() {
			t.Error("want the socket of the silent client closed, and only that")
		}
		f.send(2, "z")
		f.want(2, "c z")
		f.end()
	})
}

// A further client takes the place of the one silent for longest.
func TestUDPMaxClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := relay(t, UDP{MaxClients: 2})
		for _, n := range []uint16{1, 2, 1, 3} {
			f.send(n, "x")
		}
		if f.opened[0].isClosed() || !f.opened[1].isClosed() || f.opened[2].isClosed() {
			t.Error("want the second client's socket closed, and only that")
		}
		f.end()
	})
}

// What comes while the socket is being opened waits, up to a bound.
func TestUDPPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := relay(t, UDP{})
		f.hold = make(chan struct{})
		for range maxPending + 3 {
			f.send(1, "x")
		}
		close(f.hold)
		synctest.Wait()
		for range maxPending {
			f.want(1, "a x")
		}
		if len(f.socket.out) != 0 {
			t.Errorf("%d more datagrams", len(f.socket.out))
		}
		f.send(2, "y")
		f.want(2, "b y")
		f.end()
	})
}

// A socket that failed is replaced for the next datagram; a listening socket
// that failed is the end.
func TestUDPFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := relay(t, UDP{})
		f.send(1, "fail")
		f.send(1, "x")
		f.want(1, "b x")
		f.socket.failed <- syscall.ECONNREFUSED // of an answer that was sent
		f.send(1, "y")
		f.want(1, "b y")
		f.socket.failed <- syscall.EIO
		if err := <-f.done; !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v, want EIO", err)
		}
		if !f.opened[1].isClosed() {
			t.Error("a socket is left open")
		}
	})
}

// Serve ends while a socket is being opened, too.
func TestUDPEndsDuringDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := relay(t, UDP{})
		f.hold = make(chan struct{})
		f.send(1, "x")
		f.end()
	})
}

// TestUDPWaiting: datagrams that wait for sockets are bounded, however many
// clients there are, and those that are sent or dropped count no more.
func TestUDPWaiting(t *testing.T) {
	const size, clients = 60000, 200
	const room = maxWaiting / size
	text := strings.Repeat("x", size)
	for name, max := range map[string]int{"opened": 512, "dropped": 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := relay(t, UDP{MaxClients: max})
				f.hold = make(chan struct{})
				for n := range uint16(clients) {
					f.send(n+1, text)
				}
				close(f.hold)
				synctest.Wait()
				if got, want := len(f.socket.out), min(room, max); got != want {
					t.Errorf("%d datagrams waited, want %d", got, want)
				}
				for len(f.socket.out) > 0 {
					<-f.socket.out
				}
				f.hold = make(chan struct{})
				f.send(1000, "later")
				close(f.hold)
				synctest.Wait()
				if len(f.socket.out) != 1 {
					t.Errorf("%d datagrams waited later, want 1", len(f.socket.out))
				}
				f.end()
			})
		})
	}
}
