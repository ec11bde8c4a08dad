package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tunnels are the two ways to a tunnelled connection.
var tunnels = map[string]func(t testing.TB, addr string) (*net.TCPConn, io.Reader){
	"SOCKS5": func(t testing.TB, addr string) (*net.TCPConn, io.Reader) {
		c := socksConnected(t, addr)
		return c, c
	},
	"CONNECT": func(t testing.TB, addr string) (*net.TCPConn, io.Reader) {
		c, br := httpConnected(t, addr)
		return c, br
	},
}

// eachTunnel runs f for both protocols, and for both kinds of target.
func eachTunnel(t *testing.T, cfg Config, server func(*net.TCPConn), f func(t *testing.T, c *net.TCPConn, r io.Reader)) {
	for name, open := range tunnels {
		t.Run(name, func(t *testing.T) {
			cfg.Dial = (&dials{to: listen(t, server)}).dial
			c, r := open(t, serve(t, cfg, ModeAuto).addr)
			f(t, c, r)
		})
		t.Run(name+" to a notifier", func(t *testing.T) {
			cfg.Dial = notifying(listen(t, server)).Dial
			c, r := open(t, serve(t, cfg, ModeAuto).addr)
			f(t, c, r)
		})
	}
}

func TestHalfCloseByClient(t *testing.T) {
	answer := func(c *net.TCPConn) {
		b, err := io.ReadAll(c) // ends only if the half-close comes through
		if err == nil {
			io.WriteString(c, strings.ToUpper(string(b)))
		}
	}
	eachTunnel(t, Config{}, answer, func(t *testing.T, c *net.TCPConn, r io.Reader) {
		write(t, c, "question")
		c.CloseWrite()
		want(t, r, "QUESTION")
		wantEOF(t, r)
	})
}

func TestHalfCloseByServer(t *testing.T) {
	heard := make(chan string, 1)
	server := func(c *net.TCPConn) {
		io.WriteString(c, "banner")
		c.CloseWrite()
		b, _ := io.ReadAll(c)
		heard <- string(b)
	}
	eachTunnel(t, Config{}, server, func(t *testing.T, c *net.TCPConn, r io.Reader) {
		want(t, r, "banner")
		wantEOF(t, r)
		write(t, c, "still talking")
		c.CloseWrite()
		if got := wait(t, heard, "the client's words"); got != "still talking" {
			t.Errorf("got %q", got)
		}
	})
}

// TestResetIsNoEnd: a part must not look like the whole.
func TestResetIsNoEnd(t *testing.T) {
	server := func(c *net.TCPConn) {
		io.WriteString(c, "part")
		io.ReadFull(c, make([]byte, 1))
		c.SetLinger(0)
	}
	eachTunnel(t, Config{}, server, func(t *testing.T, c *net.TCPConn, r io.Reader) {
		want(t, r, "part")
		write(t, c, "x")
		if b, err := io.ReadAll(r); err == nil {
			t.Errorf("got %q and an orderly end, want a reset", b)
		}
	})
}

func TestResetByClient(t *testing.T) {
	ended := make(chan error, 1)
	server := func(c *net.TCPConn) {
		io.WriteString(c, "hi")
		_, err := io.ReadAll(c)
		ended <- err
	}
	eachTunnel(t, Config{}, server, func(t *testing.T, c *net.TCPConn, r io.Reader) {
		want(t, r, "hi")
		c.SetLinger(0)
		c.Close()
		if err := wait(t, ended, "the reset"); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
	})
}

// TestLargeBothWays moves 16 MiB each way at once and compares digests.
func TestLargeBothWays(t *testing.T) {
	data := []byte(pattern(16 << 20))
	sum := sha256.Sum256(data)
	uploaded := make(chan struct{}, 1)
	server := func(c *net.TCPConn) {
		var wg sync.WaitGroup
		wg.Go(func() { c.Write(data); c.CloseWrite() })
		h := sha256.New()
		io.Copy(h, c)
		if !bytes.Equal(h.Sum(nil), sum[:]) {
			t.Error("upload: wrong digest")
		}
		uploaded <- struct{}{}
		wg.Wait()
	}
	eachTunnel(t, Config{}, server, func(t *testing.T, c *net.TCPConn, r io.Reader) {
		go func() { // ends with the connection
			c.Write(data)
			c.CloseWrite()
		}()
		h := sha256.New()
		n, err := io.Copy(h, r)
		if err != nil || !bytes.Equal(h.Sum(nil), sum[:]) {
			t.Errorf("download: %d octets, %v, wrong digest", n, err)
		}
		wait(t, uploaded, "the upload's end")
	})
}

// silentTunnel opens a tunnel in a bubble to a server that says and does
// nothing; both ends are pipes, which can't be half-closed.
func silentTunnel(t *testing.T, cfg Config, f func(t *testing.T, client, server net.Conn)) {
	var server net.Conn
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		var target net.Conn
		target, server = net.Pipe()
		return target, nil
	}
	inBubble(t, cfg, ModeSOCKS5, func(t *testing.T, p *pipes) {
		c := p.dial()
		write(t, c, "\x05\x01\x00")
		want(t, c, "\x05\x00")
		write(t, c, socksRequestTo(1, "host.test", 7))
		if got := readReply(t, c); got != 0 {
			t.Fatalf("got reply %d", got)
		}
		f(t, c, server)
	})
}

func TestHalfOpenTimeout(t *testing.T) {
	silentTunnel(t, Config{HalfOpenTimeout: time.Minute}, func(t *testing.T, client, server net.Conn) {
		begin := time.Now()
		server.Close() // one direction ends; a pipe's client can't be told
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v, want EOF", err)
		}
		if d := time.Since(begin); d != time.Minute {
			t.Errorf("cut after %v, want 1m", d)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	silentTunnel(t, Config{IdleTimeout: time.Minute}, func(t *testing.T, client, server net.Conn) {
		begin := time.Now()
		for range 3 {
			<-time.After(50 * time.Second) // of the bubble's clock
			write(t, client, "x")
			want(t, server, "x")
		}
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v, want EOF", err)
		}
		if d := time.Since(begin); d != 210*time.Second {
			t.Errorf("cut after %v, want 3m30s", d)
		}
	})
}

func TestNoIdleTimeoutByDefault(t *testing.T) {
	silentTunnel(t, Config{}, func(t *testing.T, client, server net.Conn) {
		<-time.After(30 * 24 * time.Hour) // of the bubble's clock
		write(t, client, "x")
		want(t, server, "x")
	})
}

// script is a connection whose reads follow a list of lengths; 0 stands for a
// read that a deadline ends.
type script struct {
	lengths  []int
	deadline bool // one is set
}

func (s *script) Read(b []byte) (int, error) {
	if len(s.lengths) == 0 {
		return 0, io.EOF
	}
	n := s.lengths[0]
	s.lengths = s.lengths[1:]
	if n == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return min(n, len(b)), nil
}

func (s *script) SetReadDeadline(t time.Time) error {
	s.deadline = !t.IsZero()
	return nil
}

// TestConnFeed: a waiting connection holds the small buffer only.
func TestConnFeed(t *testing.T) {
	s := New(failing(io.EOF))
	src := &script{lengths: []int{10, 4096, 1 << 20, 100, 0, 10}}
	f := &connFeed{srv: s, conn: src, deadline: src}
	for i, want := range []struct {
		n     int
		large bool // afterwards
	}{{10, false}, {4096, true}, {256 << 10, true}, {100, true}, {10, false}} {
		b, err := f.next()
		if err != nil || len(b) != want.n {
			t.Fatalf("read %d: got %d octets and %v, want %d", i, len(b), err, want.n)
		}
		f.done(false)
		if (f.large != nil) != want.large || src.deadline != want.large {
			t.Errorf("read %d: large buffer %t, deadline %t, want %t", i, f.large != nil, src.deadline, want.large)
		}
	}
	if _, err := f.next(); err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
	if f.done(true); f.small != nil || f.large != nil {
		t.Error("a buffer is left")
	}
}

func TestConnFeedWithoutDeadline(t *testing.T) {
	f := &connFeed{srv: New(failing(io.EOF)), conn: &script{lengths: []int{4096, 5000, 4000, 1}}}
	for i, large := range []bool{true, true, false, false} {
		f.next()
		if f.done(false); (f.large != nil) != large {
			t.Errorf("read %d: large buffer %t, want %t", i, f.large != nil, large)
		}
	}
	f.done(true)
}

// TestNotifierHoldsNothing: what waits for a connection of the tunnel's stack is
// no goroutine, and ends with the connection all the same.
func TestNotifierHoldsNothing(t *testing.T) {
	far := make(chan net.Conn, 1)
	cfg := notifying(listen(t, func(c *net.TCPConn) {
		far <- c
		io.Copy(io.Discard, c)
	}))
	c := socksConnected(t, serve(t, cfg, ModeAuto).addr)
	server := wait(t, far, "the target")
	for range 3 {
		write(t, server, "x")
		want(t, c, "x")
	}
	stacks := make([]byte, 1<<20)
	for strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "(*relay).drain") {
		runtime.Gosched() // the last round is just ending
	}
	c.CloseWrite()
	wantEOF(t, c)
}

// notified is a connection with OnReadable.
type notified struct {
	*net.TCPConn
	mu    sync.Mutex
	in    bytes.Buffer // what has been read
	err   error
	woken func()
}

// notifying is a configuration whose connections to the target are notifiers.
func notifying(to string) Config {
	return Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", to)
		if err != nil {
			return nil, err
		}
		n := &notified{TCPConn: c.(*net.TCPConn)}
		go n.fill() // ends with the connection
		return n, nil
	}}
}

func (n *notified) fill() {
	b := make([]byte, 64<<10)
	for {
		m, err := n.TCPConn.Read(b)
		n.mu.Lock()
		n.in.Write(b[:m])
		n.err = err
		if n.woken != nil {
			n.woken()
			n.woken = nil
		}
		n.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (n *notified) Read(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.in.Len() == 0 {
		return 0, n.err
	}
	return n.in.Read(b)
}

func (n *notified) OnReadable(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.in.Len() > 0 || n.err != nil {
		return true
	}
	n.woken = f
	return false
}

// TestRawFeedHoldsNothing: while it waits, a feed on a socket has no buffer.
func TestRawFeedHoldsNothing(t *testing.T) {
	addr := listen(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	c := connect(t, addr)
	raw := rawConn(c)
	if raw == nil {
		t.Skip("no descriptors on this system")
	}
	f := &rawFeed{srv: New(failing(io.EOF)), raw: raw}
	f.try = f.read
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := f.next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want the deadline", err)
	}
	if f.buf != nil {
		t.Error("a waiting feed holds a buffer")
	}
}

// brief is a target that has a few octets for the client, and then is silent.
type brief struct {
	stream
	left int
}

func (b *brief) OnReadable(func()) bool { return b.left > 0 }

func (b *brief) Read(p []byte) (int, error) {
	n := min(b.left, len(p))
	b.left -= n
	return n, nil
}

func (b *brief) Write(p []byte) (int, error) { return len(p), nil }

// TestDrainHoldsNothing: connections to notifiers have no buffer while they wait, so
// one does for all that move something in turn.
func TestDrainHoldsNothing(t *testing.T) {
	s := New(failing(io.EOF))
	const runs = 100
	var relays []*relay
	for range 1 + runs {
		c := &brief{left: 10}
		relays = append(relays, &relay{srv: s, client: c, target: c})
	}
	n := testing.AllocsPerRun(runs, func() {
		r := relays[0]
		relays = relays[1:]
		r.drain(r.target.(notifier))
	})
	// The race detector drops objects of a sync.Pool now and then.
	if n >= 1 {
		t.Errorf("%v allocations per connection", n)
	}
}

// TestRelayAllocs: moving octets allocates nothing.
func TestRelayAllocs(t *testing.T) {
	addr := listen(t, echo)
	c := connect(t, addr)
	s := New(failing(io.EOF))
	feeds := map[string]feed{"connFeed": &connFeed{srv: s, conn: c}}
	if raw := rawConn(c); raw != nil {
		f := &rawFeed{srv: s, raw: raw}
		f.try = f.read
		feeds["rawFeed"] = f
	}
	for name, f := range feeds {
		n := testing.AllocsPerRun(100, func() {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := f.next(); err != nil {
				t.Fatal(err)
			}
			f.done(false)
		})
		// The race detector drops objects of a sync.Pool now and then.
		if n > 1 {
			t.Errorf("%s: %v allocations per read", name, n)
		}
	}
}
