package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestDownError holds the clock still, so the words are exact.
func TestDownError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		clock := func(ago time.Duration, layout string) string { return now.Add(-ago).Local().Format(layout) }
		for _, tt := range []struct {
			e     DownError
			words string
			retry string
		}{
			{DownError{}, "the tunnel is down", ""},
			{DownError{Since: now.Add(-time.Minute), Next: now.Add(12 * time.Second), Cause: "the server closed the link"},
				"the tunnel is down since " + clock(time.Minute, "15:04:05") + " (the server closed the link), next try in 12 s", "12"},
			{DownError{Since: now.Add(-25 * time.Hour), Next: now.Add(time.Millisecond)},
				"the tunnel is down since " + clock(25*time.Hour, "2006-01-02 15:04:05") + ", next try in 1 s", "1"},
			{DownError{Next: now.Add(1001 * time.Millisecond), Cause: "no route"}, "the tunnel is down (no route), next try in 2 s", "2"},
			{DownError{Next: now}, "the tunnel is down, trying now", "1"},
			{DownError{Next: now.Add(-time.Hour)}, "the tunnel is down, trying now", "1"},
		} {
			err := &dialError{"h.test:80", &tt.e}
			if got := tt.e.Error(); got != tt.words || !errors.Is(err, syscall.ENETDOWN) {
				t.Errorf("got %q, want %q", got, tt.words)
			}
			h, body := problemOf("h.test:80", err).message()
			if want := "sstproxy: h.test:80: " + tt.words + "\n"; body != want || h.Get("Retry-After") != tt.retry {
				t.Errorf("got %q, Retry-After %q; want %q, %q", body, h.Get("Retry-After"), want, tt.retry)
			}
		}
	})
}

// TestDownAnswers is what both kinds of HTTP request and SOCKS get.
func TestDownAnswers(t *testing.T) {
	f := serve(t, failing(&DownError{Next: time.Now().Add(time.Hour), Cause: "cut"}), ModeAuto)
	for _, request := range []string{
		"CONNECT h.test:80 HTTP/1.1\r\nHost: h.test:80\r\n\r\n",
		"GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\n\r\n",
	} {
		res, body := ask(t, f.addr, request)
		if res.StatusCode != 503 || !strings.Contains(body, "the tunnel is down (cut), next try in ") || len(res.Header.Get("Retry-After")) != 4 {
			t.Errorf("got %d %v %q", res.StatusCode, res.Header, body)
		}
	}
	c := connect(t, f.addr)
	write(t, c, "\x05\x01\x00"+socksRequestTo(1, "h.test", 80))
	want(t, c, "\x05\x00")
	if got := readReply(t, c); got != 3 {
		t.Errorf("got reply %d, want 3", got)
	}
}

// aborting is a connection as the tunnel's stack aborts it when its address
// has changed: it answers the first octets with a part, then ECONNABORTED.
type aborting struct {
	net.Conn
	data  io.Reader
	once  sync.Once
	asked chan struct{} // closed by the first Write
	hold  chan struct{} // the error comes when it is closed
}

func (c *aborting) Write(b []byte) (int, error) {
	c.once.Do(func() { close(c.asked) })
	return len(b), nil
}

func (c *aborting) Read(b []byte) (int, error) {
	<-c.asked
	if n, _ := c.data.Read(b); n > 0 {
		return n, nil
	}
	<-c.hold
	return 0, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNABORTED}
}

// abortingNotifier is the same as a notifier, whose Read may block.
type abortingNotifier struct{ *aborting }

func (abortingNotifier) OnReadable(func()) bool { return true }

// TestAbortedTargetResetsClient: the client of a connection that the tunnel's
// new address ended must not take it for an orderly end, not even where the
// answer's length is unknown to it.
func TestAbortedTargetResetsClient(t *testing.T) {
	for name, tt := range map[string]struct{ request, answer, want string }{
		"SOCKS":    {"\x05\x01\x00" + socksRequestTo(1, "h.test", 80) + "x", "part", "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00part"},
		"CONNECT":  {"CONNECT h.test:80 HTTP/1.1\r\nHost: h\r\n\r\nx", "part", "HTTP/1.1 200 Connection established\r\n\r\npart"},
		"upgraded": {"GET http://h.test/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\npart", "part"},
		"length":   {"GET http://h.test/ HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", "part"},
		"HTTP/1.0": {"GET http://h.test/ HTTP/1.0\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", "part"},
	} {
		for kind, wrap := range map[string]func(*aborting) net.Conn{
			"":             func(a *aborting) net.Conn { return a },
			" by notifier": func(a *aborting) net.Conn { return abortingNotifier{a} },
		} {
			t.Run(name+kind, func(t *testing.T) {
				hold := make(chan struct{})
				f := serve(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
					c, _ := net.Pipe()
					return wrap(&aborting{Conn: c, data: strings.NewReader(tt.answer), asked: make(chan struct{}), hold: hold}), nil
				}}, ModeAuto)
				c := connect(t, f.addr)
				write(t, c, tt.request)
				readUntil(t, c, tt.want)
				close(hold)
				if b, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("got %q and %v, want a reset", b, err)
				}
			})
		}
	}
}

// readUntil reads up to and including the given octets.
func readUntil(t *testing.T, r io.Reader, end string) {
	t.Helper()
	var got []byte
	b := make([]byte, 1)
	for !strings.HasSuffix(string(got), end) {
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatalf("got %q and %v, want %q", got, err, end)
		}
		got = append(got, b[0])
	}
}
