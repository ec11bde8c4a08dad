package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestPages: what a page in a browser can send to the proxy does nothing and
// tells it nothing.
func TestPages(t *testing.T) {
	f := serve(t, Config{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		t.Errorf("dialled %s", address)
		return nil, errors.New("dialled")
	}}, ModeAuto)
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for name, tt := range map[string]struct {
		line, fields string
		status       int
	}{
		"rebound name":          {"GET / HTTP/1.1", "Host: evil.test:1080\r\n", 421},
		"rebound, same origin":  {"GET / HTTP/1.1", "Host: evil.test:1080\r\nSec-Fetch-Site: same-origin\r\n", 421},
		"localhost":             {"GET / HTTP/1.1", "Host: localhost:1080\r\n", 421},
		"another address":       {"GET / HTTP/1.1", "Host: 192.0.2.1\r\n", 421},
		"no address":            {"GET / HTTP/1.1", "Host: 127.1\r\n", 421},
		"empty Host":            {"GET / HTTP/1.1", "Host:\r\n", 421},
		"HTTP/1.0 without Host": {"GET / HTTP/1.0", "", 421},
		"absolute path trick":   {"GET /http://intranet.test/ HTTP/1.1", "Host: evil.test\r\n", 421},
		"image":                 {"GET /x.png HTTP/1.1", "Host: 127.0.0.1:1080\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", 403},
		"neighbour site":        {"GET / HTTP/1.1", "Host: 127.0.0.1\r\nSec-Fetch-Site: same-site\r\n", 403},
		"unknown site":          {"GET / HTTP/1.1", "Host: 127.0.0.1\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: new\r\n", 403},
		"fetch":                 {"GET / HTTP/1.1", "Host: 127.0.0.1\r\nOrigin: http://evil.test\r\n", 403},
		"sandboxed":             {"GET / HTTP/1.1", "Host: 127.0.0.1\r\nOrigin: null\r\n", 403},
		"form":                  {"POST / HTTP/1.1", "Host: [::1]:1080\r\nOrigin: http://evil.test\r\nContent-Length: 0\r\n", 403},
		"preflight":             {"OPTIONS / HTTP/1.1", "Host: 127.0.0.1\r\nOrigin: http://evil.test\r\nAccess-Control-Request-Private-Network: true\r\n", 403},
		"WebSocket":             {"GET / HTTP/1.1", "Host: 127.0.0.1\r\nOrigin: http://evil.test\r\n" + upgrade, 403},
		"rebound WebSocket":     {"GET / HTTP/1.1", "Host: evil.test\r\n" + upgrade, 421},
	} {
		t.Run(name, func(t *testing.T) {
			res, body := ask(t, f.addr, tt.line+"\r\n"+tt.fields+"\r\n")
			if res.StatusCode != tt.status || body != res.Status+"\n" || !res.Close {
				t.Errorf("got %s %q, close %t; want %d", res.Status, body, res.Close, tt.status)
			}
			res.Header.Del("Connection") // there for HTTP/1.0
			var names []string
			for n := range res.Header {
				names = append(names, n)
			}
			slices.Sort(names)
			const want = "Cache-Control Content-Length Content-Type Cross-Origin-Resource-Policy Date X-Content-Type-Options"
			if got := strings.Join(names, " "); got != want {
				t.Errorf("got fields %s, want %s", got, want)
			}
		})
	}
}

// TestUserAtTheProxy: who types the address in gets told what it is.
func TestUserAtTheProxy(t *testing.T) {
	f := serve(t, failing(ErrBlocked), ModeAuto)
	for _, fields := range []string{
		"Host: " + f.addr + "\r\n",
		"Host: 127.0.0.1\r\nSec-Fetch-Site: none\r\n",
		"Host: [::1]:1\r\nSec-Fetch-Site: same-origin\r\n",
		"Host: [::ffff:127.0.0.1]\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
	} {
		res, body := ask(t, f.addr, "GET / HTTP/1.1\r\n"+fields+"\r\n")
		if res.StatusCode != 404 || !strings.Contains(body, "this is a proxy") || res.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%q: got %d %q", fields, res.StatusCode, body)
		}
	}
}

// TestProtocolsStayApart: no octets of one protocol get to the parser of the
// other, whatever was refused before them.
func TestProtocolsStayApart(t *testing.T) {
	f := serve(t, Config{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		t.Errorf("dialled %s", address)
		return nil, errors.New("dialled")
	}, User: "u", Password: "p"}, ModeAuto)
	const (
		socks = "\x05\x01\x02\x01\x01u\x01p"
		get   = "GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
	)
	for name, send := range map[string]string{
		"SOCKS in a body":          "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n" + socks + socksRequestTo(1, "h.test", 80) + strings.Repeat("x", 76),
		"SOCKS behind a request":   "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + socks + socksRequestTo(1, "h.test", 80),
		"SOCKS behind a bad one":   "GET\r\n\r\n" + socks + socksRequestTo(1, "h.test", 80),
		"HTTP behind no method":    "\x05\x01\x00" + get,
		"HTTP behind bad password": "\x05\x01\x02\x01\x01u\x01q" + get,
		"HTTP behind BIND":         socks + socksRequestTo(2, "h.test", 80) + get,
		"HTTP behind bad name":     socks + socksRequestTo(1, "a b", 80) + get,
		"HTTP behind SOCKS4":       "\x04\x01\x00\x50\x0a\x00\x00\x01me\x00" + get,
		"HTTP in a greeting":       "\x05GET http://h.test/ HTTP/1.1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, f.addr)
			write(t, c, send)
			c.CloseWrite()
			got, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			if send[0] > 5 && strings.Contains(string(got), "\x05\x02") || send[0] <= 5 && strings.Contains(string(got), "HTTP") {
				t.Errorf("got %q", got)
			}
		})
	}
	// The same on a connection that stays open.
	c := connect(t, f.addr)
	br := bufio.NewReader(c)
	write(t, c, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	if res, _ := answer(t, br, http.MethodGet); res.StatusCode != 404 || res.Close {
		t.Errorf("got %d, close %t", res.StatusCode, res.Close)
	}
	write(t, c, socks+"\r\n\r\n")
	if res, _ := answer(t, br, http.MethodGet); res.StatusCode != 400 {
		t.Errorf("got %d, want 400", res.StatusCode)
	}
	wantEOF(t, br)
}
