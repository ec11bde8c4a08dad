package main

import (
	"net"
	"strings"
	"testing"
)

// The demo proves itself, and exits with --once.
func TestDemoOnce(t *testing.T) {
	got := try(t.Context(), nil, "demo", "--once", "--listen", "127.0.0.1:0")
	if got.code != exitOK {
		t.Fatalf("got code %d, stderr:\n%s", got.code, got.stderr)
	}
	for _, want := range []string{
		"crypto binding with SHA-256, verified by the server",
		"http://intranet.demo/ through socks5h://127.0.0.1:",
		"http://intranet.demo/ through http://127.0.0.1:",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in:\n%s", want, got.stdout)
		}
	}
}

// Without --once it stays up and says what to type, with the port really bound;
// the default port being taken is no obstacle, an explicit one is.
func TestDemoStays(t *testing.T) {
	if l, err := net.Listen("tcp", defaultListen); err == nil {
		defer l.Close()
	}
	c := start(t, nil, "demo")
	c.stdout.wait(t, "Ctrl-C ends the demo")
	line := c.stdout.wait(t, "curl -x http://")
	proxy := strings.Fields(line)[2]
	if status, _, body := get(t, proxy, "http://"+demoHost+"/again"); status != 200 || !strings.Contains(body, "/again") {
		t.Errorf("got status %d and %q", status, body)
	}
	again := strings.Fields(c.stdout.wait(t, " -u "+demoUser))
	c2 := start(t, withPassword, again[2:]...)
	if status, _, _ := get(t, c2.proxyURL(t, "socks5h://"), "http://"+demoHost+"/"); status != 200 {
		t.Errorf("%q: got status %d", again, status)
	}
	for _, c := range []*command{c2, c} {
		c.stop()
		if got := c.end(t); got.code != exitOK {
			t.Errorf("got code %d, stderr:\n%s", got.code, got.stderr)
		}
	}
	if got := c.stdout.String(); !strings.Contains(got, defaultListen+" is in use") {
		t.Errorf("no note about the port in:\n%s", got)
	}
	wantFailure(t, try(t.Context(), nil, "demo", "--listen", defaultListen), 1, "it is in use", "--listen")
}
