package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func opError(err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
}

// replies is what a dial error is to a client, on both protocols.
var replies = []struct {
	name   string
	err    error
	reply  byte
	status int
	kind   string
}{
	{"blocked", fmt.Errorf("rule 3: %w", ErrBlocked), 2, 403, "http_request_denied"},
	{"tunnel down", opError(syscall.ENETDOWN), 3, 503, "destination_unavailable"},
	{"tunnel down, in words", fmt.Errorf("dial: %w", &DownError{Cause: "no \"carrier\"\r\nX-Evil: 1"}), 3, 503, "destination_unavailable"},
	{"stack closed", net.ErrClosed, 3, 503, "destination_unavailable"},
	{"refused", opError(syscall.ECONNREFUSED), 5, 502, "connection_refused"},
	{"no such host", &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}, 4, 502, "dns_error"},
	{"no name server answers", &net.DNSError{Err: "timeout", Name: "x", IsTimeout: true}, 6, 504, "dns_timeout"},
	{"name server fails", &net.DNSError{Err: "server misbehaving", Name: "x"}, 4, 502, "dns_error"},
	{"host unreachable", opError(syscall.EHOSTUNREACH), 4, 502, "destination_ip_unroutable"},
	{"network unreachable", opError(syscall.ENETUNREACH), 3, 502, "destination_ip_unroutable"},
	{"timeout", opError(syscall.ETIMEDOUT), 6, 504, "connection_timeout"},
	{"deadline", os.ErrDeadlineExceeded, 6, 504, "connection_timeout"},
	{"context deadline", context.DeadlineExceeded, 6, 504, "connection_timeout"},
	{"reset", opError(syscall.ECONNRESET), 1, 502, "connection_terminated"},
	{"address family", opError(syscall.EAFNOSUPPORT), 8, 502, "destination_ip_unroutable"},
	{"something else", errors.New("wobbly \"thing\"\r\nX-Evil: 1 \\ é"), 1, 502, "proxy_internal_error"},
	{"refused beats unreachable", errors.Join(opError(syscall.ENETUNREACH), opError(syscall.ECONNREFUSED)), 5, 502, "connection_refused"},
}

// README's table is the one that decides.
func TestFailuresInReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, f := range failures {
		fmt.Fprintf(&want, "| %s | %d | %d | `%s` |\n", f.words, f.reply, f.status, f.kind)
	}
	if !strings.Contains(string(readme), "|---|---|---|---|\n"+want.String()+"\n") {
		t.Errorf("README.md has no such table:\n%s", &want)
	}
}

func failing(err error) Config {
	return Config{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, err }}
}

func TestFailuresSOCKS(t *testing.T) {
	for _, tt := range replies {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, serve(t, failing(tt.err), ModeAuto).addr)
			write(t, c, "\x05\x01\x00"+socksRequestTo(1, "host.test", 80))
			want(t, c, "\x05\x00")
			if got := readReply(t, c); got != tt.reply {
				t.Errorf("got reply %d, want %d", got, tt.reply)
			}
			wantEOF(t, c)
		})
	}
}

func TestFailuresHTTP(t *testing.T) {
	for _, tt := range replies {
		t.Run(tt.name, func(t *testing.T) {
			f := serve(t, failing(tt.err), ModeAuto)
			for _, request := range []string{
				"CONNECT host.test:80 HTTP/1.1\r\nHost: host.test:80\r\n\r\n",
				"GET http://host.test/ HTTP/1.1\r\nHost: host.test\r\n\r\n",
			} {
				checkFailure(t, f.addr, request, tt.status, tt.kind)
			}
		})
	}
}

func checkFailure(t *testing.T, addr, request string, status int, kind string) {
	t.Helper()
	c := connect(t, addr)
	write(t, c, request)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != status {
		t.Errorf("got status %d, want %d", res.StatusCode, status)
	}
	if got := res.Header.Get("Proxy-Status"); !strings.HasPrefix(got, "sstproxy; error="+kind+"; next-hop=\"host.test:80\"; details=\"") {
		t.Errorf("got Proxy-Status %q, want error %s", got, kind)
	}
	if got := res.Header.Get("X-Sstproxy-Error"); string(body) != "sstproxy: "+got+"\n" || !strings.HasPrefix(got, "host.test:80: ") {
		t.Errorf("got X-Sstproxy-Error %q and body %q", got, body)
	}
	if res.Header.Get("X-Evil") != "" {
		t.Error("a dial error made a header field")
	}
}

func TestDialTimeout(t *testing.T) {
	cfg := Config{DialTimeout: time.Millisecond, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, errors.New("operation aborted") // a dialler that hides why
	}}
	f := serve(t, cfg, ModeAuto)
	checkFailure(t, f.addr, "CONNECT host.test:80 HTTP/1.1\r\nHost: host.test:80\r\n\r\n", 504, "connection_timeout")
	checkFailure(t, f.addr, "GET http://host.test/ HTTP/1.1\r\nHost: host.test\r\n\r\n", 504, "connection_timeout")
}

func TestSFString(t *testing.T) {
	if got, want := sfString("a\"b\\c\r\nd"), `"a\"b\\c  d"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := len(printable(strings.Repeat("x", 1000))); got != 256 {
		t.Errorf("got %d octets, want 256", got)
	}
}
