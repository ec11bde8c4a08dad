package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// holding is a config with a target that keeps connections and says nothing.
func holding(t *testing.T) Config {
	return Config{Dial: (&dials{to: listen(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) })}).dial}
}

// TestMaxConns: the connection beyond the cap is served when one ends.
func TestMaxConns(t *testing.T) {
	cfg := holding(t)
	cfg.MaxConns = 2
	f := serve(t, cfg, ModeAuto)
	a, _ := socksConnected(t, f.addr), socksConnected(t, f.addr)
	third, fourth := connect(t, f.addr), connect(t, f.addr)
	write(t, third, "\x05\x01\x00")
	write(t, fourth, "\x05\x01\x00")
	third.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := third.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v from a connection beyond the cap, want silence", err)
	}
	third.SetReadDeadline(time.Now().Add(patience))
	a.Close()
	want(t, third, "\x05\x00")
	third.Close()
	want(t, fourth, "\x05\x00")
}

// TestMaxConnsManyListeners: idle listeners hold no slot.
func TestMaxConnsManyListeners(t *testing.T) {
	cfg := holding(t)
	cfg.MaxConns = 1
	f := serve(t, cfg, ModeAuto)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.Serve(l, ModeAuto) }()
	socksConnected(t, f.addr).Close()
	socksConnected(t, l.Addr().String()).Close()
	l.Close()
	if err := wait(t, done, "Serve"); !errors.Is(err, net.ErrClosed) || errors.Is(err, ErrClosed) {
		t.Errorf("got %v for a listener that somebody else closed", err)
	}
}

// shortage is a listener whose Accept fails so many times first.
type shortage struct {
	net.Listener
	mu   sync.Mutex
	errs []error
}

func (s *shortage) Accept() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errs) == 0 {
		return s.Listener.Accept()
	}
	err := s.errs[0]
	s.errs = s.errs[1:]
	return nil, err
}

func TestAcceptErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &shortage{Listener: l}
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.EMFILE} {
		s.errs = append(s.errs, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", e)})
	}
	f := serveOn(t, holding(t), ModeAuto, s)
	socksConnected(t, f.addr)
}

// TestAcceptBackOff: a lasting shortage costs a try a second.
func TestAcceptBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := New(failing(ErrBlocked))
		l := &exhausted{pipes: newPipes()}
		done := make(chan error, 1)
		go func() { done <- srv.Serve(l, ModeAuto) }()
		<-time.After(time.Minute) // of the bubble's clock
		synctest.Wait()
		if l.tries < 60 || l.tries > 75 {
			t.Errorf("got %d tries in a minute", l.tries)
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

type exhausted struct {
	*pipes
	tries int
}

func (e *exhausted) Accept() (net.Conn, error) {
	e.tries++
	return nil, os.NewSyscallError("accept4", syscall.EMFILE)
}

func TestServeFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &shortage{Listener: l, errs: []error{os.NewSyscallError("accept4", syscall.EBADF)}}
	if err := New(failing(ErrBlocked)).Serve(s, ModeAuto); !errors.Is(err, syscall.EBADF) {
		t.Errorf("got %v, want EBADF", err)
	}
}

func TestNewWithoutDial(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New did not panic")
		}
	}()
	New(Config{})
}

func TestServeAfterShutdown(t *testing.T) {
	f := serve(t, failing(ErrBlocked), ModeAuto)
	for range 2 {
		if err := f.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l := newPipes()
	if err := f.Serve(l, ModeAuto); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve left the listener open: %v", err)
	}
}

// TestShutdownDropsIdle: what waits for a request is closed at once.
func TestShutdownDropsIdle(t *testing.T) {
	f, _ := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) {})
	silent, half, drip, kept := connect(t, f.addr), connect(t, f.addr), connect(t, f.addr), connect(t, f.addr)
	write(t, half, "\x05\x01\x00")
	want(t, half, "\x05\x00")
	write(t, drip, "GET http://h")
	write(t, kept, "GET http://h.test/ HTTP/1.1\r\nHost: h\r\n\r\n")
	br := bufio.NewReader(kept)
	answer(t, br, "GET")
	// The proxy has met all four when it has met a fifth.
	fifth := connect(t, f.addr)
	write(t, fifth, "\x05\x01\x00")
	want(t, fifth, "\x05\x00")
	if err := f.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range []io.Reader{silent, half, drip, br} {
		if b, _ := io.ReadAll(r); len(b) > 0 {
			t.Errorf("got %q from a closed connection", b)
		}
	}
	if _, err := net.Dial("tcp", f.addr); err == nil {
		t.Error("the listener is still open")
	}
}

// TestShutdownFinishes: what runs may end in its own time.
func TestShutdownFinishes(t *testing.T) {
	for name, open := range tunnels {
		t.Run(name, func(t *testing.T) {
			f := serve(t, Config{Dial: (&dials{to: listen(t, echo)}).dial}, ModeAuto)
			c, r := open(t, f.addr)
			done := make(chan error, 1)
			go func() { done <- f.Shutdown(context.Background()) }()
			<-f.closing
			write(t, c, "still here")
			want(t, r, "still here")
			select {
			case err := <-done:
				t.Fatalf("Shutdown returned %v during a transfer", err)
			default:
			}
			c.CloseWrite()
			wantEOF(t, r)
			if err := wait(t, done, "Shutdown"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestShutdownFinishesPlain(t *testing.T) {
	begun, proceed := make(chan struct{}), make(chan struct{})
	f, _ := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-proceed
		io.WriteString(w, "complete")
	})
	c := connect(t, f.addr)
	write(t, c, "GET http://h.test/ HTTP/1.1\r\nHost: h\r\n\r\n")
	wait(t, begun, "the request")
	done := make(chan error, 1)
	go func() { done <- f.Shutdown(context.Background()) }()
	<-f.closing
	close(proceed)
	if _, body := answer(t, bufio.NewReader(c), "GET"); body != "complete" {
		t.Errorf("got %q", body)
	}
	if err := wait(t, done, "Shutdown"); err != nil {
		t.Error(err)
	}
}

// TestShutdownCuts: when the time is up, transfers are reset and dials end.
func TestShutdownCuts(t *testing.T) {
	for name, open := range tunnels {
		t.Run(name, func(t *testing.T) {
			f := serve(t, holding(t), ModeAuto)
			_, r := open(t, f.addr)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- f.Shutdown(ctx) }()
			<-f.closing
			cancel()
			if err := wait(t, done, "Shutdown"); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's error", err)
			}
			if _, err := io.ReadAll(r); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v, want a reset", err)
			}
		})
	}
}

// TestShutdownCutsStalled: a server that reads nothing must not hold Shutdown
// up by an upload that waits for it.
func TestShutdownCutsStalled(t *testing.T) {
	for name, request := range map[string]string{
		"SOCKS5":  "\x05\x01\x00" + socksRequestTo(1, "host.test", 80),
		"CONNECT": "CONNECT host.test:80 HTTP/1.1\r\nHost: host.test:80\r\n\r\n",
		"POST":    "POST http://host.test/ HTTP/1.1\r\nHost: host.test\r\nContent-Length: 100000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			writing := make(chan struct{})
			f := serve(t, Config{Dial: stalled(writing)}, ModeAuto)
			write(t, connect(t, f.addr), request+strings.Repeat("x", 100))
			wait(t, writing, "the upload")
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			done := make(chan error, 1)
			go func() { done <- f.Shutdown(ctx) }()
			if err := wait(t, done, "Shutdown"); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's error", err)
			}
		})
	}
}

// stalled dials a server that takes nothing. It closes writing at the first
// attempt.
func stalled(writing chan struct{}) DialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		c, _ := net.Pipe() // nobody reads at the other end
		return &stalledConn{Conn: c, writing: writing}, nil
	}
}

type stalledConn struct {
	net.Conn
	once    sync.Once
	writing chan struct{}
}

func (c *stalledConn) Write(b []byte) (int, error) {
	c.once.Do(func() { close(c.writing) })
	return c.Conn.Write(b)
}

func TestShutdownCancelsDial(t *testing.T) {
	for name, request := range map[string]string{
		"SOCKS5":  "\x05\x01\x00" + socksRequestTo(1, "host.test", 80),
		"CONNECT": "CONNECT host.test:80 HTTP/1.1\r\nHost: host.test:80\r\n\r\n",
		"GET":     "GET http://host.test/ HTTP/1.1\r\nHost: host.test\r\n\r\n",
		"POST":    "POST http://host.test/ HTTP/1.1\r\nHost: host.test\r\nContent-Length: 5\r\n\r\nab",
	} {
		t.Run(name, func(t *testing.T) {
			dial, begun, ended := hanging()
			f := serve(t, Config{Dial: dial}, ModeAuto)
			write(t, connect(t, f.addr), request)
			wait(t, begun, "the dial")
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := f.Shutdown(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's error", err)
			}
			wait(t, ended, "the dial's end")
		})
	}
}

// TestUnixSocket runs both protocols over a socket file.
func TestUnixSocket(t *testing.T) {
	path := socketPath(t)
	e, err := ParseEndpoint("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("got mode %o, want 600", got)
	}
	f := serveOn(t, Config{Dial: (&dials{to: listen(t, echo)}).dial}, e.Mode, l)
	for _, hello := range []struct{ send, want string }{
		{"\x05\x01\x00" + socksRequestTo(1, "host.test", 7), "\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01"},
		{"CONNECT host.test:7 HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 Connection established\r\n\r\n"},
	} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		write(t, c, hello.send)
		want(t, c, hello.want)
		if hello.send[0] == 5 {
			io.ReadFull(c, make([]byte, 2)) // the bound port
		}
		write(t, c, "over the socket")
		c.(*net.UnixConn).CloseWrite()
		want(t, c, "over the socket")
		wantEOF(t, c)
		c.Close()
	}
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket file is left: %v", err)
	}
}

func TestUnixSocketStale(t *testing.T) {
	path := socketPath(t)
	e := Endpoint{Network: "unix", Address: path}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	alive, err := e.Listen()
	if err != nil {
		t.Fatal("a dead socket was not replaced:", err)
	}
	defer alive.Close()
	if _, err := e.Listen(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want EADDRINUSE", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the living socket was removed: %v", err)
	} else {
		c.Close()
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Endpoint{Network: "unix", Address: file}).Listen(); err == nil {
		t.Error("a plain file was taken")
	}
	if b, err := os.ReadFile(file); string(b) != "data" {
		t.Errorf("the plain file is gone: %v", err)
	}
}

// TestConnsChanged: each connection is told twice, when it comes and when it goes.
func TestConnsChanged(t *testing.T) {
	changes := make(chan int, 8)
	cfg := holding(t)
	cfg.ConnsChanged = func(by int) { changes <- by }
	c := socksConnected(t, serve(t, cfg, ModeAuto).addr)
	if by := wait(t, changes, "the opening"); by != 1 || len(changes) != 0 {
		t.Errorf("changed by %d and %d times more, want 1 and no more", by, len(changes))
	}
	c.Close()
	if by := wait(t, changes, "the closing"); by != -1 {
		t.Errorf("changed by %d, want -1", by)
	}
}
