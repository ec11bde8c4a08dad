package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for something that has to happen.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	if stacks := leaked(); stacks != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "goroutines left:\n%s\n", stacks)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the stacks of goroutines that don't end.
func leaked() string {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Second)
	for {
		buf := make([]byte, 1<<20)
		var left []string
		for i, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if i > 0 && (strings.Contains(g, "sstproxy/proxy") || strings.Contains(g, "net/http")) {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return ""
		}
		select {
		case <-tick.C:
		case <-deadline:
			return strings.Join(left, "\n\n")
		}
	}
}

// socketPath is where a test may make a socket file, alone in its directory. The
// path must be short, which that of t.TempDir is not, nor is what some systems
// have in TMPDIR.
func socketPath(t *testing.T) string {
	t.Helper()
	parent := os.TempDir()
	if len(parent) > maxSocketPath/2 {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "proxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// fixture is a running server on a loopback port.
type fixture struct {
	*Server
	addr string
}

// serve starts a server and shuts it down with the test.
func serve(t testing.TB, cfg Config, m Mode) *fixture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, cfg, m, l)
}

func serveOn(t testing.TB, cfg Config, m Mode, l net.Listener) *fixture {
	t.Helper()
	if cfg.Logger == nil && testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	f := &fixture{New(cfg), l.Addr().String()}
	done := make(chan error, 1)
	go func() { done <- f.Serve(l, m) }()
	closeAtEnd(t, f.Server, done)
	return f
}

// closeAtEnd shuts s down without a grace; served is what its listener ends with.
func closeAtEnd(t testing.TB, s *Server, served <-chan error) {
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
		if err := <-served; !errors.Is(err, ErrClosed) {
			t.Errorf("the listener ended with %v, want ErrClosed", err)
		}
	})
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

// dials is a DialFunc that records what it was asked for and connects to one
// address, whatever the destination.
type dials struct {
	to string

	mu    sync.Mutex
	asked []string
}

func (d *dials) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	d.asked = append(d.asked, network+" "+address)
	d.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, "tcp", d.to)
}

func (d *dials) list() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.asked...)
}

// listen starts a TCP server that serves each connection with f and closes it.
func listen(t testing.TB, f func(c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// echo returns what it gets, then closes its sending direction.
func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

// connect opens a raw connection whose reads and writes fail after a while
// instead of hanging.
func connect(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func write(t testing.TB, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, r io.Reader, s string) {
	t.Helper()
	got := make([]byte, len(s))
	if n, err := io.ReadFull(r, got); err != nil {
		t.Fatalf("got %q and %v, want %q", got[:n], err, s)
	}
	if string(got) != s {
		t.Fatalf("got %q, want %q", got, s)
	}
}

func wantEOF(t testing.TB, r io.Reader) {
	t.Helper()
	if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
		t.Fatalf("got %q and %v, want the end", b, err)
	}
}

// wait fails the test if ch stays silent.
func wait[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for: %s", what)
		panic("unreachable")
	}
}

// socksRequestTo is the request of RFC 1928, section 4, for a name.
func socksRequestTo(command byte, host string, port int) string {
	return string([]byte{5, command, 0, 3, byte(len(host))}) + host + string([]byte{byte(port >> 8), byte(port)})
}

// socksConnected makes a SOCKS5 connection to a name.
func socksConnected(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c := connect(t, addr)
	write(t, c, "\x05\x01\x00")
	want(t, c, "\x05\x00")
	write(t, c, socksRequestTo(1, "host.test", 7))
	if code := readReply(t, c); code != 0 {
		t.Fatalf("got reply %d, want 0", code)
	}
	return c
}

// readReply reads one reply of RFC 1928, section 6, and returns its code.
func readReply(t testing.TB, r io.Reader) byte {
	t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal("reply:", err)
	}
	n := map[byte]int{1: 4, 4: 16}[head[3]]
	if head[0] != 5 || head[2] != 0 || n == 0 {
		t.Fatalf("got % x, want a reply", head)
	}
	if _, err := io.CopyN(io.Discard, r, int64(n+2)); err != nil {
		t.Fatal("reply:", err)
	}
	return head[1]
}

// httpConnected makes a tunnel by CONNECT and returns it with its reader.
func httpConnected(t testing.TB, addr string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c := connect(t, addr)
	write(t, c, "CONNECT host.test:7 HTTP/1.1\r\nHost: host.test:7\r\n\r\n")
	br := bufio.NewReader(c)
	want(t, br, "HTTP/1.1 200 Connection established\r\n\r\n")
	return c, br
}
