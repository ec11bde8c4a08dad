package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// origin is a server that keeps what it got, octet for octet and as requests.
type origin struct {
	mu   sync.Mutex
	raw  bytes.Buffer
	seen []string
}

func (o *origin) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.raw.Write(b)
}

// serve answers each request of a connection.
func (o *origin) serve(c *net.TCPConn) {
	br := bufio.NewReader(io.TeeReader(c, o))
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		o.mu.Lock()
		o.seen = append(o.seen, fmt.Sprintf("%s %s %s %q", r.Method, r.Host, r.RequestURI, body))
		o.mu.Unlock()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
}

func (o *origin) got() (raw string, seen []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.raw.String(), slices.Clone(o.seen)
}

const (
	post  = "POST http://h.test/a HTTP/1.1\r\nHost: h.test\r\n"
	fetch = "GET http://h.test/a HTTP/1.1\r\nHost: h.test\r\n"
	inner = "GET http://h.test/smuggled HTTP/1.1\r\nHost: h.test\r\n\r\n"
	last  = "GET http://h.test/last HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n"
	ended = `GET h.test /last ""`
)

// smuggling is what clients send, each with last behind it; what the server
// takes it for; and what the client is answered. Where two readers could see the
// end of a request at different places, it is refused or sent on with one
// framing, and either way nothing behind it is read as a request. Bare LF and
// folded fields are taken as RFC 9112, sections 2.2 and 5.2, permits, and do not
// reach the server.
var smuggling = []struct {
	name, send string
	seen       []string
	statuses   string
}{
	{"nothing special", fetch + "\r\n", []string{`GET h.test /a ""`, ended}, "200 200"},
	{"length", post + "Content-Length: 3\r\n\r\nabc", []string{`POST h.test /a "abc"`, ended}, "200 200"},
	{"chunked", post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", []string{`POST h.test /a "abc"`}, "200"},

	{"CL and TE", post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []string{`POST h.test /a ""`}, "200"},
	{"TE and CL", post + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", []string{`POST h.test /a ""`}, "200"},
	{"CL.TE", post + "Content-Length: " + fmt.Sprint(5+len(inner)) + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner, []string{`POST h.test /a ""`}, "200"},
	{"TE in HTTP/1.0", "POST http://h.test/a HTTP/1.0\r\nHost: h.test\r\nConnection: keep-alive\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []string{`POST h.test /a "0\r\n"`}, "200"},
	{"two equal lengths", post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", []string{`POST h.test /a "abc"`, ended}, "200 200"},
	{"two lengths", post + "Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc", nil, "400"},
	{"list of lengths", post + "Content-Length: 3, 3\r\n\r\nabc", nil, "400"},
	{"signed length", post + "Content-Length: +3\r\n\r\nabc", nil, "400"},
	{"hex length", post + "Content-Length: 0x3\r\n\r\nabc", nil, "400"},
	{"empty length", post + "Content-Length: \r\n\r\n", nil, "400"},
	{"huge length", post + "Content-Length: 99999999999999999999\r\n\r\nabc", nil, "400"},
	{"length in other letters", post + "content-LENGTH: 3\r\n\r\nabc", []string{`POST h.test /a "abc"`, ended}, "200 200"},

	{"TE unknown", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", nil, "501"},
	{"TE identity", post + "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", nil, "501"},
	{"TE twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", nil, "501"},
	{"TE list", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", nil, "501"},
	{"TE chunked not last", post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", nil, "501"},
	{"TE with a tab", post + "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n", []string{`POST h.test /a ""`}, "200"},
	{"TE quoted", post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", nil, "501"},
	{"TE with VT", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", nil, "400"},
	{"TE empty", post + "Transfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc", nil, "501"},
	{"TE folded", post + "Transfer-Encoding:\r\n chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", []string{`POST h.test /a ""`}, "200"},

	{"field folded", fetch + "X-A: 1\r\n\t2\r\n\r\n", []string{`GET h.test /a ""`, ended}, "200 200"},
	{"first line folded", "GET http://h.test/a HTTP/1.1\r\n Host: h.test\r\n\r\n", nil, "400"},
	{"space before colon", post + "Content-Length : 3\r\n\r\nabc", nil, "400"},
	{"space in a name", post + "Content Length: 3\r\n\r\nabc", nil, "400"},
	{"no colon", post + "Content-Length\r\n\r\nabc", nil, "400"},
	{"no name", post + ": 3\r\n\r\nabc", nil, "400"},
	{"NUL in a value", fetch + "X-A: a\x00b\r\n\r\n", nil, "400"},
	{"NUL in a name", fetch + "X\x00A: b\r\n\r\n", nil, "400"},
	{"bare CR in a value", fetch + "X-A: 1\rContent-Length: 3\r\n\r\n", nil, "400"},
	{"bare CR ends a line", fetch + "X-A: 1\rX-B: 2\r\n\r\n", nil, "400"},
	{"bare LF ends a line", fetch + "X-A: 1\nX-B: 2\r\n\r\n", []string{`GET h.test /a ""`, ended}, "200 200"},
	{"bare LF ends the header", fetch + "\n", []string{`GET h.test /a ""`, ended}, "200 200"},
	{"bare LF in the request line", "GET http://h.test/a HTTP/1.1\nHost: h.test\r\n\r\n", []string{`GET h.test /a ""`, ended}, "200 200"},
	{"CR in the target", "GET http://h.test/a\rb HTTP/1.1\r\nHost: h.test\r\n\r\n", nil, "400"},
	{"empty line before", "\r\n" + fetch + "\r\n", nil, "400"},

	{"chunk extension", post + "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0;c\r\n\r\n", []string{`POST h.test /a "abc"`}, "200"},
	{"bare LF in a chunk extension", post + "Transfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n", nil, "400"},
	{"bare CR in a chunk extension", post + "Transfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n", nil, "400"},
	{"bare LF after a chunk", post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n", nil, "400"},
	{"signed chunk", post + "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", nil, "400"},
	{"hex prefix of a chunk", post + "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", nil, "400"},
	{"huge chunk", post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n", nil, "400"},
	{"chunk longer than said", post + "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", nil, "400"},
	{"trailer that frames", post + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\nContent-Length: 3\r\n\r\n", nil, "400"},
	{"trailer bomb", post + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X-A: b\r\n", 10_000) + "\r\n", nil, "400"},
	{"extension bomb", post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("x", 2000)+"\r\na\r\n", 100) + "0\r\n\r\n", nil, "400"},

	{"body of GET", fetch + "Content-Length: " + fmt.Sprint(len(inner)) + "\r\n\r\n" + inner, []string{fmt.Sprintf("GET h.test /a %q", inner), ended}, "200 200"},
	{"other Host", "GET http://h.test/a HTTP/1.1\r\nHost: other.test\r\n\r\n", []string{`GET h.test /a ""`, ended}, "200 200"},
	{"other Host and port", "GET http://h.test:81/a HTTP/1.1\r\nHost: other.test:82\r\n\r\n", []string{`GET h.test:81 /a ""`, ended}, "200 200"},
	{"two Hosts", fetch + "Host: other.test\r\n\r\n", nil, "400"},
	{"Connection names Host", fetch + "Connection: Host\r\n\r\n", []string{`GET h.test /a ""`, ended}, "200 200"},
	{"Connection names the framing", post + "Connection: Content-Length, Transfer-Encoding\r\nContent-Length: 3\r\n\r\nabc", []string{`POST h.test /a "abc"`, ended}, "200 200"},
	{"Expect unknown", post + "Expect: 200-ok\r\nContent-Length: 3\r\n\r\nabc", nil, "417"},
	{"lower-case method", "connect h.test:80 HTTP/1.1\r\nHost: h.test\r\n\r\n", []string{ended}, "400 200"},
	{"HTTP/0.9", "GET http://h.test/a\r\n\r\n", nil, "400"},
	{"HTTP/1.2", "GET http://h.test/a HTTP/1.2\r\nHost: h.test\r\n\r\n", []string{`GET h.test /a ""`, ended}, "200 200"},
	{"HTTP/2.0", "GET http://h.test/a HTTP/2.0\r\nHost: h.test\r\n\r\n", nil, "505"},
	{"version with junk", "GET http://h.test/a HTTP/1.1x\r\nHost: h.test\r\n\r\n", nil, "400"},
	{"space in the target", "GET http://h.test/a b HTTP/1.1\r\nHost: h.test\r\n\r\n", nil, "400"},
	{"upgrade to h2c with settings", fetch + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", []string{`GET h.test /a ""`, ended}, "200 200"},
	{"after a bad method", "G@T http://h.test/a HTTP/1.1\r\nHost: h.test\r\n\r\n" + inner, nil, "400"},
	{"after a bad scheme", "POST ftp://h.test/a HTTP/1.1\r\nHost: h.test\r\nContent-Length: " + fmt.Sprint(len(inner)) + "\r\n\r\n" + inner, nil, "400"},
	{"after a refused CONNECT", "CONNECT localhost:80 HTTP/1.1\r\nHost: h.test\r\n\r\n" + inner, nil, "403"},
}

var (
	bareLF  = regexp.MustCompile(`(^|[^\r])\n`)
	bareCR  = regexp.MustCompile(`\r([^\n]|$)`)
	framing = regexp.MustCompile(`(?i)\r\n(content-length|transfer-encoding):[^\r]*(\r\n[^\r]+)*\r\n(content-length|transfer-encoding):`)
)

// TestSmuggling sends raw octets and looks at both ends.
func TestSmuggling(t *testing.T) {
	for _, tt := range smuggling {
		t.Run(tt.name, func(t *testing.T) {
			o := &origin{}
			f := serve(t, Config{Dial: (&dials{to: listen(t, o.serve)}).dial}, ModeAuto)
			c := connect(t, f.addr)
			go func() { // ends with the connection
				io.WriteString(c, tt.send+last)
			}()
			statuses := readStatuses(t, c)
			raw, seen := o.got()
			if statuses != tt.statuses || !slices.Equal(seen, tt.seen) {
				t.Errorf("answered %s, the server saw %q; want %s and %q", statuses, seen, tt.statuses, tt.seen)
			}
			if bareLF.MatchString(raw) || bareCR.MatchString(raw) || framing.MatchString(raw) || strings.Contains(raw, ";") {
				t.Errorf("the server got %q", raw)
			}
		})
	}
}

// readStatuses reads answers to the end, which may be a reset.
func readStatuses(t *testing.T, c net.Conn) string {
	t.Helper()
	var statuses []string
	br := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return strings.Join(statuses, " ")
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Errorf("answer %d: %v", res.StatusCode, err)
		}
		statuses = append(statuses, fmt.Sprint(res.StatusCode))
	}
}
