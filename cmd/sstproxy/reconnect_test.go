package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sstproxy/netstack"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/tunneltest"
)

// startSite starts a server whose private network, that of the demo, outlives
// the sessions, as a real one does.
func startSite(t *testing.T) *tunneltest.Server {
	t.Helper()
	server, _ := startNetwork(t)
	return server
}

// startNetwork is startSite with the stack that is the private network.
func startNetwork(t *testing.T) (*tunneltest.Server, *netstack.Stack) {
	t.Helper()
	stack, err := netstack.New(netstack.Config{Headroom: tunneltest.Headroom, PutHeader: tunneltest.PutHeader})
	if err != nil {
		t.Fatal(err)
	}
	web, names, err := serveIntranet(stack, tunneltest.Client{Gateway: demoGateway, MTU: 1500})
	if err != nil {
		t.Fatal(err)
	}
	network := tunneltest.Network{Deliver: stack.Deliver, Ready: stack.Ready(), Fill: stack.Fill}
	server := startServer(t, tunneltest.Config{
		Pool: demoNetwork, Gateway: demoGateway, DNS: []netip.Addr{demoGateway},
		Attach: func(tunneltest.Client) tunneltest.Network { return network },
	})
	t.Cleanup(func() {
		server.Close()
		web.Close()
		names.Shutdown()
		stack.Close()
	})
	return server, stack
}

// through opens a connection to the page's server by CONNECT.
func through(t *testing.T, proxy string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c := dialProxy(t, proxy)
	fmt.Fprintf(c, "CONNECT %s:80 HTTP/1.1\r\nHost: %[1]s:80\r\n\r\n", demoHost)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT: %v, %v", resp, err)
	}
	return c, r
}

// wantPage asks for the page on an open connection.
func wantPage(t *testing.T, c net.Conn, r *bufio.Reader) {
	t.Helper()
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", demoHost)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasPrefix(string(body), demoGreeting) {
		t.Fatalf("got %q, %v", body, err)
	}
}

// With the same address every connection goes on, and a request that comes
// while the tunnel is down is served when it is up again.
func TestConnectionsSurvive(t *testing.T) {
	site := startSite(t)
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()))...)
	proxy := c.proxyURL(t, "http://")
	conn, r := through(t, proxy)
	wantPage(t, conn, r)
	for range 3 {
		n := site.Count(tunneltest.EventIPCPOpened)
		site.Line().Reset()
		wantPage(t, conn, r)
		if site.Count(tunneltest.EventIPCPOpened) <= n { // two if the address was not free at once
			t.Errorf("no new session")
		}
	}
	site.Line().Welcome(tunneltest.WelcomeReset, 0)
	site.Line().Reset()
	c.stderr.wait(t, "not connected")
	late := make(chan int, 1)
	go func() { // ends with the request
		status, _, _ := get(t, proxy, "http://"+demoHost+"/")
		late <- status
	}()
	site.Line().Welcome(tunneltest.WelcomeServed, 0)
	if status := <-late; status != http.StatusOK {
		t.Errorf("a request that had to wait: status %d", status)
	}
	wantPage(t, conn, r)
	c.down(t)
}

// With another address connections are reset at once, and new ones work.
func TestAddressChanges(t *testing.T) {
	site := startSite(t)
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()))...)
	proxy := c.proxyURL(t, "http://")
	conn, r := through(t, proxy)
	wantPage(t, conn, r)
	if err := site.SetPool(netip.MustParsePrefix("10.98.0.0/24"), demoGateway); err != nil {
		t.Fatal(err)
	}
	site.Line().Reset()
	if _, err := r.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
	conn, r = through(t, proxy)
	wantPage(t, conn, r)
}

// While the tunnel is down a client is told since when, why, and when to come
// back.
func TestToldThatItIsDown(t *testing.T) {
	site := startSite(t)
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()), "--wait-for-tunnel", "0")...)
	proxy := c.proxyURL(t, "http://")
	get(t, proxy, "http://"+demoHost+"/") // leaves a connection to the page's server
	site.Line().Welcome(tunneltest.WelcomeReset, 0)
	site.Line().Reset()
	c.stderr.wait(t, "not connected")
	status, header, body := get(t, proxy, "http://"+demoHost+"/")
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(body, "the tunnel is down since ") {
		t.Errorf("got status %d, %v, %q", status, header, body)
	}
	refused := try(t.Context(), nil, "nc", demoHost, "80", "--listen", strings.TrimPrefix(proxy, "http://"))
	wantFailure(t, refused, exitFailed, "the tunnel is down since ", "")
	if hint := lineWith(refused.stderr, "sstproxy: hint: "); hint == "" || strings.Contains(hint, "HOST:PORT") {
		t.Errorf("got %q, but the destination is not at fault", hint)
	}
	if line := c.stderr.wait(t, "connection lost"); !strings.Contains(line, "by=network layer=TCP") {
		t.Errorf("got %q", line)
	}
}

// What must not be retried is not, in the middle of a run either.
func TestRefusedLater(t *testing.T) {
	refuse := make(chan struct{})
	site := startServer(t, tunneltest.Config{
		Attach: tunneltest.Reflect,
		Hook: func(c *tunneltest.Conn, e tunneltest.Event) bool {
			select {
			case <-refuse:
			default:
				return false
			}
			if e.Kind == tunneltest.EventReceived && e.Name == "CHAP Response" {
				c.SendFrame(ppp.ProtoCHAP, ppp.Packet{Code: 4, Identifier: e.Packet[6+4+1], Data: []byte("E=691 R=0 V=3")})
				return true
			}
			return false
		},
	})
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()))...)
	c.proxyURL(t, "http://")
	close(refuse)
	site.Line().Reset()
	wantFailure(t, c.end(t), exitRefused, "error 691", "nothing is retried")
}

// Each login has a password of its own, read from the same place when it is due.
// One that is there a second time is not sent.
func TestOneTimePasswords(t *testing.T) {
	users := map[string]string{"alice": "first"}
	var mu sync.Mutex
	server := startServer(t, tunneltest.Config{
		Users:  users,
		Attach: tunneltest.Reflect,
		Hook: func(_ *tunneltest.Conn, e tunneltest.Event) bool {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == tunneltest.EventAuthenticated {
				users["alice"] = "second"
			}
			return false
		},
	})
	file := filepath.Join(t.TempDir(), "password")
	save := func(password string) {
		if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save("first")
	c := start(t, nil, connectArgs(server.Addr().String(), caFile(t, server.CA()), "--one-time-password", "--password-file", file)...)
	c.proxyURL(t, "http://")
	save("second")
	server.Line().Reset()
	if err := server.WaitCount(t.Context(), tunneltest.EventIPCPOpened, 2); err != nil {
		t.Fatal(err)
	}
	server.Line().Reset()
	wantFailure(t, c.end(t), exitFailed, "one-time password was used, and no other was given", "with a new one")
	if n, bad := server.Count(tunneltest.EventAuthenticated), server.Count(tunneltest.EventAuthenticationFailed); n != 2 || bad != 0 {
		t.Errorf("%d logins, %d refused", n, bad)
	}
}

// A one-time password is sent once; without another the end says so.
func TestOneTimePassword(t *testing.T) {
	site := startSite(t)
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()), "--one-time-password")...)
	c.proxyURL(t, "http://")
	site.Line().Reset()
	wantFailure(t, c.end(t), exitFailed, "one-time password was used, and no other was given", "with a new one")
	if n := site.Count(tunneltest.EventAuthenticated); n != 1 {
		t.Errorf("%d logins", n)
	}
}

// A service may start before its server does.
func TestKeepTrying(t *testing.T) {
	site := startSite(t)
	site.Line().Welcome(tunneltest.WelcomeReset, 0)
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()), "--keep-trying")...)
	c.stderr.wait(t, "not connected")
	site.Line().Welcome(tunneltest.WelcomeServed, 0)
	conn, r := through(t, c.proxyURL(t, "http://"))
	wantPage(t, conn, r)
}
