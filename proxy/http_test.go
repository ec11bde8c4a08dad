package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// web starts an HTTP server and a proxy before it.
func web(t *testing.T, cfg Config, h http.HandlerFunc) (*fixture, *dials) {
	t.Helper()
	ts := httptest.NewServer(h)
	t.Cleanup(ts.Close)
	d := &dials{to: ts.Listener.Addr().String()}
	cfg.Dial = d.dial
	return serve(t, cfg, ModeAuto), d
}

// via returns a net/http client that uses the proxy.
func via(t *testing.T, addr string, user *url.Userinfo) *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", User: user, Host: addr}), DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// raw starts a server that reads requests as they are and answers each with f.
func raw(t *testing.T, f func(r *http.Request, br *bufio.Reader, c *net.TCPConn)) *fixture {
	t.Helper()
	d := &dials{to: listen(t, func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			f(r, br, c)
		}
	})}
	return serve(t, Config{Dial: d.dial}, ModeAuto)
}

// ask sends raw octets and reads one answer with its body.
func ask(t *testing.T, addr, request string) (*http.Response, string) {
	t.Helper()
	c := connect(t, addr)
	write(t, c, request)
	return answer(t, bufio.NewReader(c), strings.SplitN(request, " ", 2)[0])
}

func answer(t *testing.T, br *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// TestPipelining: requests in one segment are answered in order.
func TestPipelining(t *testing.T) {
	f, _ := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	c := connect(t, f.addr)
	write(t, c, "GET http://h.test/1 HTTP/1.1\r\nHost: h\r\n\r\nGET http://h.test/2 HTTP/1.1\r\nHost: h\r\n\r\nGET http://h.test/3 HTTP/1.0\r\n\r\n")
	br := bufio.NewReader(c)
	for _, path := range []string{"/1", "/2", "/3"} {
		if _, body := answer(t, br, "GET"); body != path {
			t.Errorf("got %q, want %q", body, path)
		}
	}
}

func TestHTTPAuth(t *testing.T) {
	f, d := web(t, Config{User: "alice", Password: "pä:ss"}, func(w http.ResponseWriter, r *http.Request) {})
	for _, tt := range []struct {
		user *url.Userinfo
		want int
	}{
		{nil, 407},
		{url.UserPassword("alice", "pä:ss"), 200},
		{url.UserPassword("alice", "pass"), 407},
		{url.UserPassword("bob", "pä:ss"), 407},
		{url.User("alice"), 407},
	} {
		res, err := via(t, f.addr, tt.user).Get("http://h.test/")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tt.want {
			t.Errorf("%v: got %d, want %d", tt.user, res.StatusCode, tt.want)
		}
		if tt.want == 407 && !strings.HasPrefix(res.Header.Get("Proxy-Authenticate"), `Basic realm="sstproxy"`) {
			t.Errorf("got Proxy-Authenticate %q", res.Header.Get("Proxy-Authenticate"))
		}
	}
	const connectTo = "CONNECT h.test:80 HTTP/1.1\r\nHost: h.test:80\r\n"
	for auth, want := range map[string]int{"": 407, "Basic !!": 407, "Bearer x": 407, "basic YWxpY2U6cMOkOnNz": 200} {
		c := connect(t, f.addr)
		write(t, c, connectTo+"Proxy-Authorization: "+auth+"\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "CONNECT"})
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != want {
			t.Errorf("CONNECT with %q: got %d, want %d", auth, res.StatusCode, want)
		}
	}
	if got := len(d.list()); got != 2 {
		t.Errorf("got %d dials, want 2", got)
	}
}

// TestBadRequests is what is refused, without a dial.
func TestBadRequests(t *testing.T) {
	dialled := make(chan string, 100)
	f := serve(t, Config{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		dialled <- address
		return nil, ErrBlocked
	}}, ModeAuto)
	const end = " HTTP/1.1\r\nHost: h.test\r\n\r\n"
	for name, tt := range map[string]struct {
		request string
		status  int
		words   string
	}{
		"https absolute":       {"GET https://h.test/" + end, 400, "CONNECT"},
		"ftp":                  {"GET ftp://h.test/" + end, 400, "ftp"},
		"no host":              {"GET http:///path" + end, 400, "no host"},
		"opaque":               {"GET http:h.test" + end, 400, ""},
		"port 0":               {"GET http://h.test:0/" + end, 400, "port"},
		"port 65536":           {"GET http://h.test:65536/" + end, 400, "port"},
		"port name":            {"GET http://h.test:http/" + end, 400, ""},
		"CONNECT no port":      {"CONNECT h.test" + end, 400, "HOST:PORT"},
		"CONNECT empty host":   {"CONNECT :80" + end, 400, "host"},
		"CONNECT port":         {"CONNECT h.test:x" + end, 400, ""},
		"CONNECT big port":     {"CONNECT h.test:70000" + end, 400, "port"},
		"CONNECT path":         {"CONNECT /" + end, 400, "HOST:PORT"},
		"CONNECT by Host":      {"CONNECT / HTTP/1.1\r\nHost: h.test:80\r\n\r\n", 400, "HOST:PORT"},
		"CONNECT and path":     {"CONNECT h.test:80/path" + end, 400, "port"},
		"CONNECT and query":    {"CONNECT h.test:80?q" + end, 400, "port"},
		"CONNECT user":         {"CONNECT user@h.test:80" + end, 400, "host"},
		"CONNECT URL":          {"CONNECT http://h.test:80/" + end, 400, ""},
		"CONNECT chunked":      {"CONNECT h.test:80 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "body"},
		"CONNECT body":         {"CONNECT h.test:80 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", 400, "body"},
		"origin form":          {"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404, "this is a proxy"},
		"two slashes":          {"GET //h.test/ HTTP/1.1\r\nHost: [::1]\r\n\r\n", 404, "this is a proxy"},
		"asterisk":             {"OPTIONS *" + end, 200, ""},
		"no Host":              {"GET http://h.test/ HTTP/1.1\r\n\r\n", 400, ""},
		"two Hosts":            {"GET http://h.test/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, ""},
		"two lengths":          {"POST http://h.test/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, ""},
		"negative length":      {"POST http://h.test/ HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400, ""},
		"unknown encoding":     {"POST http://h.test/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", 501, ""},
		"folded field":         {"GET http://h.test/ HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n", 400, ""},
		"HTTP/2 preface":       {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 421, ""},
		"header bomb":          {"GET http://h.test/ HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n", 431, ""},
		"TRACE max-forwards":   {"TRACE http://h.test/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n", 405, "TRACE"},
		"OPTIONS max-forwards": {"OPTIONS http://h.test/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			res, body := ask(t, f.addr, tt.request)
			if res.StatusCode != tt.status || !strings.Contains(body, tt.words) {
				t.Errorf("got %d %q, want %d and %q", res.StatusCode, body, tt.status, tt.words)
			}
		})
	}
	if len(dialled) > 0 {
		t.Errorf("dialled %s", <-dialled)
	}
}

// TestUnfinishedBody: a client that got its answer and never sends the rest of
// its request does not keep the connection.
func TestUnfinishedBody(t *testing.T) {
	cfg := failing(ErrBlocked)
	cfg.HandshakeTimeout = 10 * time.Second
	for name, target := range map[string]string{"forwarded": "http://h.test/", "refused": "ftp://h.test/", "own": "/", "net/http's": ""} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, cfg, ModeAuto, func(t *testing.T, p *pipes) {
				begin := time.Now()
				c := p.dial()
				extra := ""
				if target == "" {
					target, extra = "/", "Expect: miracles\r\n"
				}
				write(t, c, "POST "+target+" HTTP/1.1\r\nHost: h\r\n"+extra+"Content-Length: 5\r\n\r\nab")
				if _, err := io.ReadAll(c); err != nil {
					t.Error(err)
				}
				if d := time.Since(begin); d < 10*time.Second || d > 20*time.Second {
					t.Errorf("closed after %v, want 10 s", d)
				}
			})
		})
	}
}

// TestUnfinishedBodyAnswered: the same when the server answered early.
func TestUnfinishedBodyAnswered(t *testing.T) {
	d := &dials{to: listen(t, func(c *net.TCPConn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, c)
	})}
	f := serve(t, Config{Dial: d.dial, HandshakeTimeout: 500 * time.Millisecond}, ModeHTTP)
	c := connect(t, f.addr)
	write(t, c, "POST http://h.test/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab")
	br := bufio.NewReader(c)
	if res, _ := answer(t, br, "POST"); res.StatusCode != 413 {
		t.Errorf("got %d, want 413", res.StatusCode)
	}
	wantEOF(t, br)
}

// TestLateBody: the rest of a refused request is not read as the next one.
func TestLateBody(t *testing.T) {
	f := serve(t, failing(ErrBlocked), ModeHTTP)
	for _, framing := range []string{"Content-Length: 50", "Transfer-Encoding: chunked"} {
		c := connect(t, f.addr)
		br := bufio.NewReader(c)
		write(t, c, "POST http://h.test/ HTTP/1.1\r\nHost: h\r\n"+framing+"\r\n\r\n")
		if res, _ := answer(t, br, "POST"); res.StatusCode != 403 || !res.Close {
			t.Errorf("got %d, close %t, want 403", res.StatusCode, res.Close)
		}
		write(t, c, "GET http://h.test/ HTTP/1.1\r\nHost: h\r\n\r\n")
		c.CloseWrite()
		wantEOF(t, br)
	}
}

func TestBadRequestBody(t *testing.T) {
	f, _ := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	res, body := ask(t, f.addr, "POST http://h.test/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n")
	if res.StatusCode != 400 || !strings.Contains(body, "body") {
		t.Errorf("got %d %q, want 400", res.StatusCode, body)
	}
}

// TestCONNECTEarlyData sends the payload in the same segment as the request.
func TestCONNECTEarlyData(t *testing.T) {
	f := serve(t, Config{Dial: (&dials{to: listen(t, echo)}).dial}, ModeAuto)
	for _, size := range []int{1, 100, 4096, 5000, 100_000} {
		payload := pattern(size)
		c := connect(t, f.addr)
		go func() { // ends with the connection
			io.WriteString(c, "CONNECT h.test:443 HTTP/1.1\r\nHost: h.test:443\r\n\r\n"+payload)
			c.CloseWrite()
		}()
		want(t, c, "HTTP/1.1 200 Connection established\r\n\r\n")
		want(t, c, payload)
		wantEOF(t, c)
	}
}

// TestFailedCONNECTEnds: octets meant for the tunnel are not read as a request.
func TestFailedCONNECTEnds(t *testing.T) {
	f := serve(t, failing(ErrBlocked), ModeAuto)
	c := connect(t, f.addr)
	write(t, c, "CONNECT h.test:80 HTTP/1.1\r\nHost: h.test:80\r\n\r\nGET http://other.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n")
	br := bufio.NewReader(c)
	if res, _ := answer(t, br, "GET"); res.StatusCode != 403 || !res.Close {
		t.Errorf("got %d, close %t", res.StatusCode, res.Close)
	}
	wantEOF(t, br)
}

// TestTLSThroughCONNECT uses net/http against an HTTPS server.
func TestTLSThroughCONNECT(t *testing.T) {
	ts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "secure") }))
	t.Cleanup(ts.Close)
	d := &dials{to: ts.Listener.Addr().String()}
	f := serve(t, Config{Dial: d.dial, User: "u", Password: "p"}, ModeHTTP)
	client := ts.Client()
	client.Transport.(*http.Transport).Proxy = http.ProxyURL(&url.URL{Scheme: "http", User: url.UserPassword("u", "p"), Host: f.addr})
	res, err := client.Get("https://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if string(body) != "secure" || !slices.Equal(d.list(), []string{"tcp example.com:443"}) {
		t.Errorf("got %q, dials %q", body, d.list())
	}
}

func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	f, d := web(t, Config{User: "u", Password: "p"}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Host, body)
	})
	for _, tt := range [][]string{
		{"GET intranet.test ", "-x", "http://u:p@" + f.addr},
		{"GET intranet.test ", "-x", "socks5h://u:p@" + f.addr},
		{"GET intranet.test ", "-p", "-x", "http://u:p@" + f.addr},
		{"POST intranet.test hello", "-x", "http://u:p@" + f.addr, "-d", "hello", "-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked"},
		{"PUT intranet.test hello", "-x", "http://" + f.addr, "-U", "u:p", "--proxy-anyauth", "-X", "PUT", "-d", "hello"},
	} {
		args := append([]string{"-sS", "--max-time", "20", "--noproxy", ""}, tt[1:]...)
		out, err := exec.CommandContext(t.Context(), curl, append(args, "http://intranet.test/")...).CombinedOutput()
		if err != nil || string(out) != tt[0] {
			t.Errorf("curl %q: got %q and %v, want %q", tt[1:], out, err, tt[0])
		}
	}
	for _, asked := range d.list() {
		if asked != "tcp intranet.test:80" {
			t.Errorf("got dial %q", asked)
		}
	}
}
