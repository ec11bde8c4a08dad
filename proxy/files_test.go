package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// testFiles are a file for everybody and one behind the login.
var testFiles = map[string]File{
	"/public":  {Public: true, Serve: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "for all") }},
	"/private": {Serve: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "for clients") }},
}

func noDial(t *testing.T) DialFunc {
	return func(_ context.Context, _, address string) (net.Conn, error) {
		t.Errorf("dialled %s", address)
		return nil, ErrBlocked
	}
}

// TestFiles: who gets what, of a proxy with a login.
func TestFiles(t *testing.T) {
	f := serve(t, Config{Dial: noDial(t), Files: testFiles, User: "u", Password: "p"}, ModeAuto)
	const (
		login   = "Authorization: Basic dTpw\r\n"
		chunked = "Transfer-Encoding: chunked\r\n"
	)
	for name, tt := range map[string]struct {
		line, fields string
		status       int
		body         string // or a part of it
	}{
		"public":              {"GET /public", "Host: 127.0.0.1\r\n", 200, "for all"},
		"with a query":        {"GET /public?x=1", "Host: 127.0.0.1\r\n", 200, "for all"},
		"HEAD":                {"HEAD /public", "Host: 127.0.0.1\r\n", 200, ""},
		"logged in":           {"GET /private", "Host: 127.0.0.1\r\n" + login, 200, "for clients"},
		"not logged in":       {"GET /private", "Host: 127.0.0.1\r\n", 401, "user name"},
		"HEAD, not logged in": {"HEAD /private", "Host: 127.0.0.1\r\n", 401, ""},
		"login of a proxy":    {"GET /private", "Host: 127.0.0.1\r\nProxy-Authorization: Basic dTpw\r\n", 401, "user name"},
		"wrong login":         {"GET /private", "Host: 127.0.0.1\r\nAuthorization: Basic dTpx\r\n", 401, "user name"},
		"POST":                {"POST /public", "Host: 127.0.0.1\r\nContent-Length: 0\r\n", 405, "only be read"},
		"no such file":        {"GET /public/", "Host: 127.0.0.1\r\n", 404, "this is a proxy"},
		"body":                {"GET /public", "Host: 127.0.0.1\r\n" + chunked, 200, "for all"},
		"page":                {"GET /public", "Host: 127.0.0.1\r\nOrigin: http://evil.test\r\n", 403, "403 Forbidden\n"},
		"image":               {"GET /public", "Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\n", 403, "403 Forbidden\n"},
		"rebound name":        {"GET /private", "Host: evil.test\r\n" + login, 421, "421 Misdirected Request\n"},
	} {
		t.Run(name, func(t *testing.T) {
			res, body := ask(t, f.addr, tt.line+" HTTP/1.1\r\n"+tt.fields+"\r\n")
			if res.StatusCode != tt.status || !strings.Contains(body, tt.body) || res.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
				t.Errorf("got %d %q, want %d %q", res.StatusCode, body, tt.status, tt.body)
			}
			if challenged := res.Header.Get("WWW-Authenticate") != ""; challenged != (tt.status == 401) {
				t.Errorf("challenged: %t", challenged)
			}
			if strings.Contains(tt.fields, chunked) && !res.Close {
				t.Error("the connection stays open before an unread body")
			}
		})
	}
}

// TestFilesAreNoTargets: the same path of another host, or as a proxy request,
// is a request to be forwarded.
func TestFilesAreNoTargets(t *testing.T) {
	f := serve(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, ErrBlocked }, Files: testFiles}, ModeAuto)
	if res, _ := ask(t, f.addr, "GET http://h.test/public HTTP/1.1\r\nHost: h.test\r\n\r\n"); res.StatusCode != 403 {
		t.Errorf("absolute-form: got %d, want that of the dial", res.StatusCode)
	}
	if res, body := ask(t, f.addr, "GET /private HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); res.StatusCode != 200 || body != "for clients" {
		t.Errorf("without a login at the proxy: got %d %q", res.StatusCode, body)
	}
}
