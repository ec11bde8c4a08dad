package tunnel_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/tunneltest"
)

// plainCloser is a server that ends connections without close_notify.
var plainCloser = tunneltest.Config{Quirks: tunneltest.Quirks{Wire: tunneltest.WireQuirks{NoCloseNotify: true}}}

// endless is a connection on which the end of the other side never arrives.
type endless struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func newEndless(c net.Conn) net.Conn { return &endless{Conn: c, closed: make(chan struct{})} }

func (e *endless) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	if err == io.EOF {
		<-e.closed
	}
	return n, err
}

func (e *endless) Close() error {
	e.once.Do(func() { close(e.closed) })
	return e.Conn.Close()
}

// lingering brings a Keeper to the point where the last words are exchanged and
// only the server's close of the connection is waited for.
func lingering(t *testing.T) *kept {
	k := newKept(t, plainCloser)
	k.wrap = newEndless
	k.start()
	k.session(1)
	k.keeper.Reconnect()
	time.Sleep(time.Second)
	if n := k.server.Count(tunneltest.EventTerminateRequest); n != 1 || len(k.dialed()) != 1 {
		t.Fatalf("%d farewells, %d dials: not the wait that is meant", n, len(k.dialed()))
	}
	return k
}

// Who stops does not wait for a server to be ready for another session.
func TestKeeperStopEndsLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := lingering(t)
		start := time.Now()
		k.end()
		if d := time.Since(start); d != 0 {
			t.Errorf("Run returned %v after the end of its context", d)
		}
		if n := len(k.dialed()); n != 1 {
			t.Errorf("%d dials, want 1", n)
		}
	})
}

// Who connects again waits for it, but not for ever.
func TestKeeperLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := lingering(t)
		start := time.Now()
		k.session(2)
		if d := time.Since(start); d < 2*time.Second || d > 4*time.Second {
			t.Errorf("up again after another %v, want about 3 s", d)
		}
		k.end()
	})
}

// The same holds for a session that is handed back for its address.
func TestKeeperStopEndsHandingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, plainCloser)
		k.wrap = newEndless
		k.cfg.Precious = func() bool { return true }
		k.start()
		k.session(1)
		k.server.Sessions()[0].HalfOpen()
		k.host <- tunnel.HostEvent{Slept: time.Minute}
		for k.server.Count(tunneltest.EventTerminateRequest) == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		start := time.Now()
		k.end()
		if d := time.Since(start); d != 0 {
			t.Errorf("Run returned %v after the end of its context", d)
		}
	})
}

// Close ends the wait, too, and so does Break.
func TestSessionCloseEndsLinger(t *testing.T) {
	for name, end := range map[string]func(*tunnel.Session){
		"close": func(s *tunnel.Session) { s.Close() },
		"break": func(s *tunnel.Session) { s.Break(ppp.ErrEchoTimeout) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, plainCloser)
				dial := p.cfg.DialContext
				p.cfg.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					c, err := dial(ctx, network, address)
					return newEndless(c), err
				}
				s := p.dial()
				ctx, cancel := context.WithCancelCause(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- s.Run(ctx, newNear().packets()) }() // ends with the session
				cancel(tunnel.ErrReconnect)
				time.Sleep(time.Second)
				select {
				case err := <-ended:
					t.Fatalf("Run = %v, did not wait for the server", err)
				default:
				}
				start := time.Now()
				end(s)
				if err := <-ended; err != nil || time.Since(start) != 0 {
					t.Errorf("Run = %v after %v, want nil at once", err, time.Since(start))
				}
				p.server.Close()
			})
		})
	}
}
