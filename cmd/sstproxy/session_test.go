package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sstproxy/tunnel/tunneltest"
)

// startDemoServer starts the demo's server: a private network with a page.
func startDemoServer(t *testing.T) *tunneltest.Server {
	t.Helper()
	server, err := startIntranet(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server
}

// get fetches a URL through a proxy.
func get(t *testing.T, proxy, target string) (status int, header http.Header, body string) {
	t.Helper()
	via, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	return getBy(t, http.ProxyURL(via), target)
}

// getBy fetches a URL through what proxy chooses; nil is none.
func getBy(t *testing.T, proxy func(*http.Request) (*url.URL, error), target string) (status int, header http.Header, body string) {
	t.Helper()
	transport := &http.Transport{Proxy: proxy, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get(target)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// The whole path, by name and by address, through both kinds of proxy, up to
// the orderly end.
func TestConnect(t *testing.T) {
	server := startDemoServer(t)
	c := start(t, withPassword, connectArgs(server.Addr().String(), caFile(t, server.CA()))...)
	for _, scheme := range []string{"socks5h://", "http://"} {
		proxy := c.proxyURL(t, scheme)
		for _, host := range []string{demoHost, demoWeb.String()} {
			if status, _, body := get(t, proxy, "http://"+host+"/"); status != 200 || !strings.HasPrefix(body, demoGreeting) {
				t.Errorf("%s through %s: got status %d and %q", host, proxy, status, body)
			}
		}
	}
	status, header, body := get(t, c.proxyURL(t, "http://"), "http://nowhere.demo/")
	if status != 502 || !strings.Contains(header.Get("Proxy-Status"), "dns_error") || !strings.Contains(body, "no such host") {
		t.Errorf("unknown name: got status %d, %q, %q", status, header.Get("Proxy-Status"), body)
	}
	c.stop()
	if got := c.end(t); got.code != exitOK || strings.Contains(got.stderr, "error:") || got.stdout != "" {
		t.Errorf("got %+v, want a silent end with code 0", got)
	}
	wantOrderlyEnd(t, server)
}

// wantOrderlyEnd expects the three farewells, and the binding before them.
func wantOrderlyEnd(t *testing.T, server *tunneltest.Server) {
	t.Helper()
	for _, kind := range []tunneltest.EventKind{
		tunneltest.EventBindingVerified, tunneltest.EventTerminateRequest, tunneltest.EventCallDisconnect, tunneltest.EventCloseNotify,
	} {
		if _, err := server.Wait(t.Context(), kind); err != nil {
			t.Error(err)
		}
	}
}

// Either signal ends a process in order, with code 0.
func TestSignals(t *testing.T) {
	server := startDemoServer(t)
	ca := caFile(t, server.CA())
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		c := spawn(t, "", []string{"SSTPROXY_PASSWORD=wonderland"}, connectArgs(server.Addr().String(), ca)...)
		c.proxyURL(t, "http://")
		if err := c.process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if got := c.end(t); got.code != exitOK {
			t.Errorf("%v: got code %d, stderr:\n%s", signal, got.code, got.stderr)
		}
		wantOrderlyEnd(t, server)
	}
}

// The second signal does not wait for a server that does not answer.
func TestSecondSignal(t *testing.T) {
	server := startServer(t, tunneltest.Config{
		Attach: tunneltest.Reflect, Quirks: tunneltest.Quirks{SSTP: tunneltest.SSTPQuirks{IgnoresDisconnect: true}},
	})
	c := spawn(t, "", []string{"SSTPROXY_PASSWORD=wonderland"}, connectArgs(server.Addr().String(), caFile(t, server.CA()))...)
	c.proxyURL(t, "http://")
	c.stop()
	if _, err := server.Wait(t.Context(), tunneltest.EventCallDisconnect); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process
		for c.process.Signal(os.Interrupt) == nil { // what comes at once is the same request
			<-time.After(sameRequest)
		}
	}()
	if got := c.end(t); got.code == exitOK || strings.Contains(got.stderr, "msg=disconnected") {
		t.Errorf("got code %d, stderr:\n%s", got.code, got.stderr)
	}
}

// The proxy's own login, and a listener that is a file.
func TestProxyLogin(t *testing.T) {
	server := startDemoServer(t)
	socket := filepath.Join(shortDir(t), "proxy")
	env := map[string]string{"SSTPROXY_PASSWORD": "wonderland", "SSTPROXY_PROXY_PASSWORD": "open sesame"}
	c := start(t, env, connectArgs(server.Addr().String(), caFile(t, server.CA()), "--proxy-user", "ali", "--listen", "unix:"+socket)...)
	proxy := c.proxyURL(t, "http://")
	if status, _, _ := get(t, proxy, "http://"+demoHost+"/"); status != http.StatusProxyAuthRequired {
		t.Errorf("without login: got status %d, want 407", status)
	}
	login := strings.Replace(proxy, "http://", "http://ali:open%20sesame@", 1)
	if status, _, _ := get(t, login, "http://"+demoHost+"/"); status != http.StatusOK {
		t.Errorf("with login: got status %d, want 200", status)
	}
	c.stderr.wait(t, "url=socks5h://localhost"+socket)
	c.down(t)
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket file is left behind")
	}
}

// PAP and CHAP-MD5, once allowed, each on a server that offers all.
func TestAuthMethods(t *testing.T) {
	server := startServer(t, tunneltest.Config{
		Attach: tunneltest.Reflect, Methods: []tunneltest.Method{tunneltest.PAP, tunneltest.CHAPMD5, tunneltest.MSCHAPv2},
	})
	ca := caFile(t, server.CA())
	for flag, method := range map[string]string{"pap": "PAP", "chap-md5": "CHAP-MD5", "mschapv2": "MS-CHAPv2"} {
		c := start(t, withPassword, connectArgs(server.Addr().String(), ca, "--allow-pap", "--auth", flag)...)
		c.stderr.wait(t, "auth="+method)
		c.proxyURL(t, "http://")
		c.stop()
		if got := c.end(t); got.code != exitOK {
			t.Errorf("%s: got code %d, stderr:\n%s", flag, got.code, got.stderr)
		}
	}
}

// JSON logs are JSON, line by line, say what was negotiated in the words of the
// others, and debug shows the packets.
func TestLogFormats(t *testing.T) {
	server := startServer(t, tunneltest.Config{Attach: tunneltest.Reflect})
	c := start(t, withPassword, connectArgs(server.Addr().String(), caFile(t, server.CA()), "--log-format", "json", "--log-level", "debug")...)
	c.stderr.wait(t, `"msg":"proxy listening","url":"http://`)
	c.stderr.wait(t, `"msg":"control packet sent"`)
	up := c.stderr.wait(t, `"msg":"tunnel up"`)
	for _, part := range []string{`"peer":"` + server.Addr().String() + `"`, `"auth":"MS-CHAPv2"`, `"binding":"SHA-256"`} {
		if !strings.Contains(up, part) {
			t.Errorf("no %s in %s", part, up)
		}
	}
	c.stderr.wait(t, `"proto":"LCP","code":"Configure-Request"`)
	c.stop()
	got := c.end(t)
	for line := range strings.Lines(got.stderr) {
		if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}\n") {
			t.Errorf("not JSON: %q", line)
		}
	}
	if strings.Contains(got.stderr, "wonderland") {
		t.Errorf("the password is in the log:\n%s", got.stderr)
	}
}
