package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sstproxy/proxy"
	"sstproxy/tunnel"
	"sstproxy/tunnel/tunneltest"
)

// hostOf is the address in a proxy's URL.
func hostOf(t *testing.T, proxyURL string) string {
	t.Helper()
	u, err := url.Parse(proxyURL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// health and wait see the tunnel come up, go away and come again; all that is
// told of it is JSON without the password.
func TestHealthAndWait(t *testing.T) {
	site := startSite(t)
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()), "--wait-for-tunnel", "0s")...)
	listen := hostOf(t, c.proxyURL(t, "http://"))
	got := try(t.Context(), nil, "health", "--listen", listen)
	if got.code != exitOK || got.stderr != "" || !strings.Contains(got.stdout, "the tunnel to "+site.Addr().String()+" is up since ") {
		t.Errorf("up: got %+v", got)
	}
	for _, goal := range []string{"ready", demoHost + ":80", "10.99.0.80:80"} {
		if got := try(t.Context(), map[string]string{"SSTPROXY_LISTEN": "socks5://127.0.0.1:1 " + listen}, "wait", "--for", goal); got != (outcome{}) {
			t.Errorf("wait for %s: got %+v", goal, got)
		}
	}
	where, err := proxy.ParseEndpoint(listen)
	if err != nil {
		t.Fatal(err)
	}
	for goal, what := range map[string]string{"nowhere.demo:80": "nowhere.demo:80: ", "10.99.0.80:81": "10.99.0.80:81: the destination refused"} {
		if err := (&instance{where: where}).reach(t.Context(), goal); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %v, want %q in it", goal, err, what)
		}
	}
	site.Line().Welcome(tunneltest.WelcomeReset, 0)
	site.Line().Reset()
	c.stderr.wait(t, "not connected")
	wantFailure(t, try(t.Context(), nil, "health", "--listen", listen), exitFailed, "is not up: ", "")
	wantFailure(t, try(t.Context(), nil, "wait", "--listen", listen, "--timeout", "1ns"), exitFailed, "not in 1ns: ", "")
	site.Line().Welcome(tunneltest.WelcomeServed, 0)
	if got := try(t.Context(), nil, "wait", "--listen", listen); got != (outcome{}) {
		t.Errorf("up again: got %+v", got)
	}
	status, header, body := fetch(t, "http://"+listen+statusPath)
	var s map[string]any
	if err := json.Unmarshal([]byte(body), &s); err != nil || status != http.StatusOK || header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %q, %v", status, body, err)
	}
	if s["status"] != "up" || s["address"] == nil || s["sessions"].(float64) < 2 || s["cause"] == nil || strings.Contains(body, "wonderland") {
		t.Errorf("got %s", body)
	}
	c.stop()
	c.end(t)
	wantFailure(t, try(t.Context(), nil, "health", "--listen", listen), exitFailed, "no sstproxy answers at "+listen+": connection refused", "--listen")
}

// fetch gets a URL without a proxy.
func fetch(t *testing.T, target string) (status int, header http.Header, body string) {
	t.Helper()
	return getBy(t, nil, target)
}

// wait may be there before what it waits for.
func TestWaitComesFirst(t *testing.T) {
	server := startDemoServer(t)
	socket := "unix:" + filepath.Join(shortDir(t), "proxy")
	waiting := start(t, nil, "wait", "--listen", socket)
	c := start(t, withPassword, connectArgs(server.Addr().String(), caFile(t, server.CA()), "--listen", socket)...)
	if got := waiting.end(t); got != (outcome{}) {
		t.Errorf("got %+v", got)
	}
	if got := try(t.Context(), nil, "health", "--listen", socket); got.code != exitOK {
		t.Errorf("got %+v", got)
	}
	c.stop()
	c.end(t)
}

// Who may not use the proxy learns nothing.
func TestHealthLogin(t *testing.T) {
	server := startDemoServer(t)
	env := map[string]string{"SSTPROXY_PASSWORD": "wonderland", "SSTPROXY_PROXY_PASSWORD": "open sesame", "SSTPROXY_PROXY_USER": "ali"}
	c := start(t, env, connectArgs(server.Addr().String(), caFile(t, server.CA()))...)
	listen := hostOf(t, c.proxyURL(t, "http://"))
	for _, command := range [][]string{{"health"}, {"wait"}, {"wait", "--for", demoHost + ":80"}} {
		command = append(command, "--listen", listen)
		if got := try(t.Context(), env, command...); got.code != exitOK {
			t.Errorf("%q: got %+v", command, got)
		}
		wantFailure(t, try(t.Context(), nil, command...), exitFailed, "wants the login of its proxy", "--proxy-user")
	}
	c.stop()
	c.end(t)
}

// muchTaken is more than the system keeps of what a client does not read, in octets.
const muchTaken = 64 << 20

// endless answers with a header that has no end, and tells how much of it was
// taken before the client hung up. At muchTaken it has seen enough.
func endless(t *testing.T, start, more string) (where proxy.Endpoint, taken <-chan int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	octets := make(chan int, 1)
	go func() { // ends with its one client, or the listener
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		sent, err := c.Write([]byte(start))
		for err == nil && sent < muchTaken {
			var n int
			n, err = c.Write([]byte(more))
			sent += n
		}
		octets <- sent
	}()
	return proxy.Endpoint{Network: "tcp", Address: l.Addr().String()}, octets
}

// Who listens in sstproxy's place can't make its client take more and more.
func TestEndlessAnswer(t *testing.T) {
	for name, tt := range map[string]struct{ start, more string }{
		"line":   {"", strings.Repeat("A", 1<<16)},
		"header": {"HTTP/1.1 200 OK\r\n", strings.Repeat("X-A: "+strings.Repeat("a", 1<<10)+"\r\n", 64)},
	} {
		for use, do := range map[string]func(*instance) error{
			"state": func(i *instance) error { _, err := i.up(t.Context()); return err },
			"reach": func(i *instance) error { return i.reach(t.Context(), demoHost+":80") },
		} {
			t.Run(name+" "+use, func(t *testing.T) {
				where, taken := endless(t, tt.start, tt.more)
				if err := do(&instance{where: where}); err == nil || !strings.Contains(err.Error(), "gives no answer") {
					t.Errorf("got %v, want no answer", err)
				}
				if n := <-taken; n >= muchTaken {
					t.Errorf("%d octets were taken", n)
				}
			})
		}
	}
}

// A deadline that passes before its timer is no absent sstproxy.
func TestInstanceDeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := (&instance{where: proxy.Endpoint{Network: "tcp", Address: "127.0.0.1:9"}}).dial(passed{ctx})
	if e, ok := errors.AsType[*instanceError](err); !ok || e.absent || !strings.Contains(e.what, "has not answered") {
		t.Errorf("got %v, want that nobody has answered", err)
	}
}

// passed is a context whose deadline has passed, which it has not noticed yet.
type passed struct{ context.Context }

func (passed) Deadline() (time.Time, bool) { return time.Unix(1, 0), true }

// What is no sstproxy is not taken for one.
func TestHealthOfStrangers(t *testing.T) {
	for name, answer := range map[string]string{
		"another server": "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"no JSON":        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
		"other JSON":     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"no HTTP":        "SSH-2.0-x\r\n",
		"hangs up":       "",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() { // ends with the listener
				if c, err := l.Accept(); err == nil {
					c.Write([]byte(answer))
					c.(*net.TCPConn).CloseWrite()
					c.Read(make([]byte, 1<<10))
					c.Close()
				}
			}()
			wantFailure(t, try(t.Context(), nil, "health", "--listen", l.Addr().String()), exitFailed, "what listens at "+l.Addr().String()+" ", "--listen")
		})
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	wantFailure(t, try(t.Context(), nil, "health", "--listen", silent.Addr().String(), "--timeout", "50ms"), exitFailed, "has not answered", "")
}

func TestStatusOf(t *testing.T) {
	at := time.Unix(1e9, 0)
	lost := errors.New("lost")
	for name, tt := range map[string]struct {
		state tunnel.State
		want  string
	}{
		"connecting": {tunnel.State{Status: tunnel.StatusConnecting, Phase: tunnel.PhaseTLS, Attempt: 1}, `"phase":"tls","attempt":1}`},
		"up":         {tunnel.State{Status: tunnel.StatusUp, Up: 1, Info: tunnel.Info{MTU: 1400}}, `"sessions":1,"mtu":1400}`},
		"waiting":    {tunnel.State{Status: tunnel.StatusWaiting, NextTry: at, Cause: lost, Info: tunnel.Info{MTU: 1400}}, `"next_try":"2001-09-09T`},
		"cause":      {tunnel.State{Status: tunnel.StatusWaiting, Cause: lost}, `"what":"lost","hint":"`},
	} {
		b, err := json.Marshal(statusOf("vpn", tt.state))
		if got := string(b); err != nil || !strings.Contains(got, tt.want) || !strings.Contains(got, `"status":"`+tt.state.Status.String()) {
			t.Errorf("%s: got %s, %v; want %s in it", name, got, err, tt.want)
		}
	}
	up := statusOf("vpn", tunnel.State{Status: tunnel.StatusUp, Info: tunnel.Info{}})
	if up.Address != (netip.Addr{}) || !up.isUp() {
		t.Errorf("got %+v", up)
	}
}

func TestReachable(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:1": "127.0.0.1:1", "localhost:1": "localhost:1", ":1": "127.0.0.1:1", "0.0.0.0:1": "127.0.0.1:1",
		"[::]:1": "[::1]:1", "[::ffff:0.0.0.0]:1": "127.0.0.1:1", "http://192.0.2.1:1": "http://192.0.2.1:1",
		"socks5://127.0.0.1:2 :3": "127.0.0.1:3", "unix:/run/x,mode=660": "unix:/run/x,mode=660",
	} {
		got, err := (&localOptions{listen: strings.Fields(listen)}).reachable()
		if err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v; want %s", listen, got, err, want)
		}
	}
	if _, err := (&localOptions{}).reachable(); err == nil {
		t.Error("nothing is reachable")
	}
}
