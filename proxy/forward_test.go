package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHTTPMethods sends every method through, with what belongs to it.
func TestHTTPMethods(t *testing.T) {
	f, d := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Got", r.Method+" "+r.Host+" "+r.RequestURI)
		w.Header().Set("Content-Type", "text/x-test")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s", body)
	})
	client := via(t, f.addr, nil)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH"} {
		var body io.Reader
		if method == "POST" || method == "PUT" || method == "PATCH" {
			body = strings.NewReader("body of " + method)
		}
		req, err := http.NewRequest(method, "http://intranet.test/a%2Fb/c?x=1;y=%zz&x", body)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(method, err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(method, err)
		}
		wantBody := ""
		if body != nil {
			wantBody = "body of " + method
		}
		if string(got) != wantBody || res.StatusCode != http.StatusTeapot {
			t.Errorf("%s: got %d %q, want %q", method, res.StatusCode, got, wantBody)
		}
		if got, want := res.Header.Get("X-Got"), method+" intranet.test /a%2Fb/c?x=1;y=%zz&x"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		res.Body.Close()
	}
	if got := d.list(); got[0] != "tcp intranet.test:80" {
		t.Errorf("got dials %q", got)
	}
}

// TestRequestTarget: the path and the query go on octet for octet.
func TestRequestTarget(t *testing.T) {
	f := raw(t, func(r *http.Request, _ *bufio.Reader, c *net.TCPConn) {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.RequestURI), r.RequestURI)
	})
	for target, want := range map[string]string{
		"http://h.test":                 "/",
		"http://h.test?q":               "/?q",
		"http://h.test/":                "/",
		"HTTP://h.test:8080/x":          "/x",
		"http://u:p@h.test/x":           "/x",
		"http://h.test/a|b^c\"d?e|f":    "/a|b^c\"d?e|f",
		"http://h.test/%41%2f%7e?%41":   "/%41%2f%7e?%41",
		"http://h.test//double//x?//":   "//double//x?//",
		"http://h.test/a;b,c=d/../e/./": "/a;b,c=d/../e/./",
		"http://h.test/q?a=b;c=%zz#":    "/q?a=b;c=%zz#",
		"http://[2001:db8::1]:81/x?":    "/x?",
	} {
		_, got := ask(t, f.addr, "GET "+target+" HTTP/1.1\r\nHost: ignored.test\r\n\r\n")
		if got != want {
			t.Errorf("%s: got %q, want %q", target, got, want)
		}
	}
	if _, got := ask(t, f.addr, "OPTIONS http://h.test HTTP/1.1\r\nHost: h.test\r\n\r\n"); got != "*" {
		t.Errorf("OPTIONS: got %q, want *", got)
	}
}

// TestHopByHop: fields for one hop stay there, all others go on unchanged.
func TestHopByHop(t *testing.T) {
	heads := make(chan http.Header, 1)
	f := raw(t, func(r *http.Request, _ *bufio.Reader, c *net.TCPConn) {
		heads <- r.Header
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Priv, keep-alive\r\nX-Priv: 1\r\n"+
			"Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-Kept: 1\r\nX-Kept: 2\r\nVia: 1.1 other\r\n\r\nok")
	})
	res, _ := ask(t, f.addr, "GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\nConnection: close, X-One ,x-two\r\nConnection: X-Forwarded-Host\r\n"+
		"X-One: 1\r\nX-Two: 2\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic c2VjcmV0\r\nTE: trailers, deflate\r\n"+
		"Upgrade: x\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: private\r\nForwarded: for=x\r\nAccept-Encoding: br\r\nX-Kept: a\r\nX-Kept: b\r\n\r\n")
	got := wait(t, heads, "the request")
	wantHead := http.Header{"Te": {"trailers"}, "X-Forwarded-For": {"10.0.0.1"}, "Forwarded": {"for=x"}, "Accept-Encoding": {"br"}, "X-Kept": {"a", "b"}}
	if fmt.Sprint(got) != fmt.Sprint(wantHead) {
		t.Errorf("request: got %v, want %v", got, wantHead)
	}
	res.Header.Del("Date")
	wantHead = http.Header{"Content-Length": {"2"}, "X-Kept": {"1", "2"}, "Via": {"1.1 other"}}
	if !res.Close || fmt.Sprint(res.Header) != fmt.Sprint(wantHead) {
		t.Errorf("answer: got %v, want %v", res.Header, wantHead)
	}
}

// TestFullDuplex: a chunked request and its answer flow at the same time.
func TestFullDuplex(t *testing.T) {
	f, _ := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		rc.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			rc.Flush()
			if err != nil {
				return
			}
		}
	})
	body, in := io.Pipe()
	req, err := http.NewRequest("POST", "http://intranet.test/", body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := via(t, f.addr, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for i := range 100 {
		word := fmt.Sprintf("word %d.", i)
		write(t, in, word)
		want(t, res.Body, word) // before the next one is sent
	}
	in.Close()
	wantEOF(t, res.Body)
}

func TestLargeBodies(t *testing.T) {
	data := pattern(8 << 20)
	f, _ := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || string(got) != data {
			w.WriteHeader(http.StatusBadRequest)
		}
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		}
		io.WriteString(w, data)
	})
	client := via(t, f.addr, nil)
	for path, body := range map[string]io.Reader{
		"/length":  strings.NewReader(data),
		"/chunked": struct{ io.Reader }{strings.NewReader(data)},
	} {
		res, err := client.Post("http://intranet.test"+path, "application/octet-stream", body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(got) != data || res.StatusCode != 200 {
			t.Errorf("%s: got %d, %d octets, %v", path, res.StatusCode, len(got), err)
		}
	}
}

// TestContinue: the server decides whether the body is sent.
func TestContinue(t *testing.T) {
	f, _ := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		io.Copy(w, r.Body)
	})
	c := connect(t, f.addr)
	br := bufio.NewReader(c)
	write(t, c, "POST http://h.test/yes HTTP/1.1\r\nHost: h.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	want(t, br, "HTTP/1.1 100 Continue\r\n\r\n")
	write(t, c, "body")
	if res, body := answer(t, br, "POST"); res.StatusCode != 200 || body != "body" {
		t.Errorf("got %d %q, want 200 body", res.StatusCode, body)
	}
	write(t, c, "POST http://h.test/no HTTP/1.1\r\nHost: h.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	if res, _ := answer(t, br, "POST"); res.StatusCode != 403 {
		t.Errorf("got %d, want 403 without 100", res.StatusCode)
	}
}

// TestEarlyHints: informational answers are passed on.
func TestEarlyHints(t *testing.T) {
	f, _ := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
	})
	var hints []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, h.Get("Link")))
			return nil
		},
	})
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://h.test/", nil)
	res, err := via(t, f.addr, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if !slices.Equal(hints, []string{"103</style.css>"}) || res.Header.Get("Link") != "" {
		t.Errorf("got hints %q and link %q", hints, res.Header.Get("Link"))
	}
}

func TestTrailers(t *testing.T) {
	f, _ := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Known")
		io.Copy(w, r.Body)
		w.Header().Set("X-Known", r.Trailer.Get("X-Sum"))
		w.Header().Set(http.TrailerPrefix+"X-Unknown", "2")
	})
	req, _ := http.NewRequest("POST", "http://h.test/", struct{ io.Reader }{strings.NewReader("body")})
	req.Trailer = http.Header{"X-Sum": {"1"}}
	res, err := via(t, f.addr, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || string(body) != "body" || res.Trailer.Get("X-Known") != "1" || res.Trailer.Get("X-Unknown") != "2" {
		t.Errorf("got %q, %v, trailers %v", body, err, res.Trailer)
	}
}

// TestUpgrade: an upgraded request becomes a relay, with half-close, whoever
// speaks first.
func TestUpgrade(t *testing.T) {
	f := raw(t, func(r *http.Request, br *bufio.Reader, c *net.TCPConn) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
			t.Errorf("got %v", r.Header)
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello")
		io.Copy(c, br)
		c.CloseWrite()
	})
	c := connect(t, f.addr)
	br := bufio.NewReader(c)
	write(t, c, "GET http://h.test/chat HTTP/1.1\r\nHost: h.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 101 || res.Header.Get("Sec-Websocket-Accept") != "x" || res.Header.Get("Upgrade") != "WebSocket" {
		t.Errorf("got %v", res)
	}
	want(t, br, "helloearly")
	big := pattern(100_000)
	go func() { // ends with the connection
		io.WriteString(c, big)
		c.CloseWrite()
	}()
	want(t, br, big)
	wantEOF(t, br)
}

func TestUpgradeRefused(t *testing.T) {
	f := raw(t, func(r *http.Request, _ *bufio.Reader, c *net.TCPConn) {
		if r.URL.Path == "/no" {
			io.WriteString(c, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
	})
	const head = " HTTP/1.1\r\nHost: h.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	if res, _ := ask(t, f.addr, "GET http://h.test/no"+head); res.StatusCode != 426 {
		t.Errorf("got %d, want 426", res.StatusCode)
	}
	res, _ := ask(t, f.addr, "GET http://h.test/"+head)
	if got := res.Header.Get("Proxy-Status"); res.StatusCode != 502 || !strings.Contains(got, "http_upgrade_failed") {
		t.Errorf("got %d, %q, want 502", res.StatusCode, got)
	}
}

// TestKeepAlive: one client connection and one server connection carry many
// requests; a second client connection uses the same server connection.
func TestKeepAlive(t *testing.T) {
	f, d := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "ok")
	})
	for range 2 {
		c := connect(t, f.addr)
		br := bufio.NewReader(c)
		for range 3 {
			write(t, c, "POST http://h.test/ HTTP/1.1\r\nHost: h.test\r\nContent-Length: 2\r\n\r\nhi")
			if res, body := answer(t, br, "POST"); body != "ok" || res.Close {
				t.Fatalf("got %q, close %t", body, res.Close)
			}
		}
		c.Close()
	}
	if got := d.list(); len(got) != 1 {
		t.Errorf("got %d server connections, want 1", len(got))
	}
}

// TestPinnedConnections: with NTLM each client connection gets a server
// connection of its own, which is used for the whole of its dialogue.
func TestPinnedConnections(t *testing.T) {
	f, d := web(t, Config{}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	request := func(auth string) string {
		return "GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\n" + auth + "\r\n"
	}
	servers := map[string]bool{}
	for range 2 {
		c := connect(t, f.addr)
		br := bufio.NewReader(c)
		write(t, c, request(""))
		_, shared := answer(t, br, "GET")
		write(t, c, request("Authorization: NTLM TlRMTVNTUAAB\r\n"))
		_, first := answer(t, br, "GET")
		write(t, c, request(""))
		_, second := answer(t, br, "GET")
		if first == shared || first != second {
			t.Errorf("got connections %s, then %s, %s", shared, first, second)
		}
		servers[first], servers[shared] = true, true
	}
	if len(servers) != 3 || len(d.list()) != 3 {
		t.Errorf("got connections %v, dials %q; want 3", servers, d.list())
	}
}

func TestMaxForwardsCountsDown(t *testing.T) {
	f := raw(t, func(r *http.Request, _ *bufio.Reader, c *net.TCPConn) {
		v := r.Header.Get("Max-Forwards")
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(v), v)
	})
	for _, tt := range [][3]string{{"TRACE", "5", "4"}, {"OPTIONS", "1", "0"}, {"GET", "0", "0"}, {"TRACE", "x", "x"}} {
		_, got := ask(t, f.addr, tt[0]+" http://h.test/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: "+tt[1]+"\r\n\r\n")
		if got != tt[2] {
			t.Errorf("%s: got %q, want %q", tt[0], got, tt[2])
		}
	}
}

// TestServerFaults is what a broken server looks like to the client.
func TestServerFaults(t *testing.T) {
	for name, tt := range map[string]struct{ answer, kind string }{
		"nothing":       {"", "http_response_incomplete"},
		"half a header": {"HTTP/1.1 200 OK\r\nServer: x\r\n", "http_response_incomplete"},
		"not HTTP":      {"220 mail.test ESMTP\r\n\r\n", "http_protocol_error"},
		"header bomb":   {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 300<<10) + "\r\n\r\n", "http_protocol_error"},
		"bad length":    {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "http_protocol_error"},
		"stray 101":     {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "http_upgrade_failed"},
		"two lengths":   {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "http_protocol_error"},
	} {
		t.Run(name, func(t *testing.T) {
			f := raw(t, func(_ *http.Request, _ *bufio.Reader, c *net.TCPConn) {
				io.WriteString(c, tt.answer)
				c.CloseWrite()
			})
			res, _ := ask(t, f.addr, "POST http://h.test/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
			if got := res.Header.Get("Proxy-Status"); res.StatusCode != 502 || !strings.Contains(got, tt.kind) {
				t.Errorf("got %d %q, want 502 %s", res.StatusCode, got, tt.kind)
			}
		})
	}
}

// TestTruncatedAnswer: what broke off must not look whole.
func TestTruncatedAnswer(t *testing.T) {
	for name, head := range map[string]string{"length": "Content-Length: 10\r\n\r\npart", "chunked": "Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"} {
		t.Run(name, func(t *testing.T) {
			f := raw(t, func(_ *http.Request, _ *bufio.Reader, c *net.TCPConn) {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+head)
				c.Close()
			})
			res, err := via(t, f.addr, nil).Get("http://h.test/")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if b, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("got %q and an orderly end", b)
			}
		})
	}
}

// TestUpgradeBeforeTheEnd: a switch while the request is still being sent is
// refused, because two would read the same connection.
func TestUpgradeBeforeTheEnd(t *testing.T) {
	f := raw(t, func(r *http.Request, br *bufio.Reader, c *net.TCPConn) {
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	})
	c := connect(t, f.addr)
	write(t, c, "POST http://h.test/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	res, _ := answer(t, bufio.NewReader(c), "POST")
	if got := res.Header.Get("Proxy-Status"); res.StatusCode != 502 || !strings.Contains(got, "http_upgrade_failed") {
		t.Errorf("got %d, %q, want 502", res.StatusCode, got)
	}
}

// TestSlowBody: a body may take its time.
func TestSlowBody(t *testing.T) {
	f, _ := web(t, Config{HandshakeTimeout: 500 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	c := connect(t, f.addr)
	write(t, c, "POST http://h.test/ HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo")
	<-time.After(600 * time.Millisecond) // longer than a header may take
	write(t, c, "dy")
	if res, body := answer(t, bufio.NewReader(c), "POST"); res.StatusCode != 200 || body != "body" {
		t.Errorf("got %d %q", res.StatusCode, body)
	}
}

// TestNoGuessing: the proxy adds no type and no coding of its own.
func TestNoGuessing(t *testing.T) {
	f := raw(t, func(r *http.Request, _ *bufio.Reader, c *net.TCPConn) {
		if r.Header.Get("Accept-Encoding") != "" || r.Header.Get("User-Agent") != "" {
			t.Errorf("got %v", r.Header)
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")
	})
	res, body := ask(t, f.addr, "GET http://h.test/ HTTP/1.1\r\nHost: h\r\n\r\n")
	if _, ok := res.Header["Content-Type"]; ok || body != "<html>" {
		t.Errorf("got %v %q", res.Header, body)
	}
}
