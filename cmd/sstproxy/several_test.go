package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sstproxy/proxy"
)

// What several profiles can't share is told before anything is tried.
func TestProfilesTogether(t *testing.T) {
	const users = "user = 'alice'\npassword-file = '-'\n"
	tests := []struct {
		text string
		env  map[string]string
		want string
	}{
		{users + "[work]\nserver='a'\n[home]\nserver='b'", nil, "profiles work and home both listen on 127.0.0.1:1080"},
		{users + "[work]\nserver='a'\nlisten='127.0.0.1:0'\n[home]\nserver='b'\nlisten='127.0.0.1:0'", nil, "profiles work and home both want a password from standard input"},
		{users + "pcap='x'\n[work]\nserver='a'\n[home]\nserver='b'\nlisten='127.0.0.1:0'", nil, "profiles work and home both write to --pcap"},
		{"user = 'alice'\n[work]\nserver='a'\n[home]\nserver='b'\nlisten='127.0.0.1:0'", map[string]string{"SSTPROXY_PASSWORD": "x"}, "SSTPROXY_PASSWORD: several servers would get it: give profile work a password-file"},
		{users + "[work]\nserver='a'\n[home]\nserver='b'\nlisten='127.0.0.1:0'\nlocal-forward='1080:h:1'", nil, "profiles work and home both listen on 127.0.0.1:1080"},
		{users + "[work]\nserver='a'\n[home]\nserver='b'\nstdio-forward='h:1'", nil, "-W: want one PROFILE"},
		{users + "[work]\nserver='a'\n[home]\nserver='b'\nlisten='0.0.0.0:1'", nil, ":7: --listen 0.0.0.0:1: reachable from other machines"},
		{"password-file = '-'\n[work]\nserver='a'\n[home]\nserver='b'", nil, ":2: profile work: no user name: give --user NAME"},
	}
	for _, test := range tests {
		got := try(t.Context(), test.env, "connect", "work", "home", "--config", writeConfig(t, test.text))
		if got.code != exitUsage || !strings.Contains(got.stderr, test.want) || !strings.HasSuffix(got.stderr, "Try 'sstproxy connect --help'.\n") {
			t.Errorf("%q: got %+v, want %q", test.text, got, test.want)
		}
	}
}

func TestCollide(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:1080", "127.0.0.1:1080", true},
		{"127.0.0.1:1080", "http://127.0.0.1:1080", true},
		{"127.0.0.1:1080", "127.0.0.1:1081", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"127.0.0.1:1080", "127.0.0.2:1080", false},
		{"127.0.0.1:1080", "0.0.0.0:1080", true},
		{":1080", "[::1]:1080", true},
		{"[::]:1080", "127.0.0.1:1080", true},
		{"localhost:1", "LocalHost:1", true},
		{"unix:/tmp/a", "unix:/tmp/./a", true},
		{"unix:/tmp/a", "unix:/tmp/b", false},
		{"unix:/tmp/a", "127.0.0.1:1", false},
	} {
		a, errA := proxy.ParseEndpoint(test.a)
		b, errB := proxy.ParseEndpoint(test.b)
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		if got := collide(a, b); got != test.want || collide(b, a) != got {
			t.Errorf("%s beside %s: got %v, want %v both ways", test.a, test.b, got, test.want)
		}
	}
}

func TestLabelled(t *testing.T) {
	var b strings.Builder
	w := &labelled{w: &b, label: "work: "}
	fmt.Fprint(w, "one\n\ntwo\n")
	fmt.Fprint(w, "\n")
	fmt.Fprint(w, "three\n")
	if got, want := b.String(), "work: one\nwork: two\nwork: three\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// siteConfig is a file with the profiles work and home, each a network of its
// own, and refused, which has the wrong password.
func siteConfig(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	var text strings.Builder
	text.WriteString("user = 'alice'\nlisten = '127.0.0.1:0'\nlog-format = 'text'\n")
	for _, name := range []string{"work", "home", "refused"} {
		password := demoPassword
		if name == "refused" {
			password = "wrong"
		}
		server := startDemoServer(t)
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), []byte(password), 0o600),
			os.WriteFile(filepath.Join(dir, name+".pem"), server.CA(), 0o600)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "[%s]\nserver = %q\npassword-file = %[1]q\nca = '%[1]s.pem'\n", name, server.Addr())
	}
	path = filepath.Join(dir, "vpn.toml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// listens waits for a profile's proxy.
func (c *command) listens(t *testing.T, profile string) (proxy string) {
	t.Helper()
	_, url, _ := strings.Cut(c.stderr.wait(t, `msg="proxy listening" profile=`+profile+" url=http://"), "url=")
	return url
}

// wantThrough expects the page through a proxy.
func wantThrough(t *testing.T, proxy string) {
	t.Helper()
	if status, _, body := get(t, proxy, "http://"+demoHost+"/"); status != 200 || !strings.HasPrefix(body, demoGreeting) {
		t.Errorf("through %s: got status %d and %q", proxy, status, body)
	}
}

func TestConnectProfile(t *testing.T) {
	c := start(t, nil, "connect", "work", "--config", siteConfig(t))
	wantThrough(t, c.listens(t, "work"))
	c.stop()
	if got := c.end(t); got.code != exitOK || strings.Contains(got.stderr, "profile=home") {
		t.Errorf("got %+v, want a silent end with code 0", got)
	}
}

// Several profiles side by side; the one that fails for good leaves the others
// alone, and decides the exit code.
func TestConnectSeveral(t *testing.T) {
	c := start(t, nil, "connect", "work", "refused", "home", "--config", siteConfig(t))
	line := c.stderr.wait(t, `msg="profile failed"`)
	if !strings.Contains(line, "profile=refused") || !strings.Contains(line, "cause=") {
		t.Errorf("got %q, want the profile and the cause", line)
	}
	work, home := c.listens(t, "work"), c.listens(t, "home")
	if work == home {
		t.Errorf("both have the proxy %s", work)
	}
	wantThrough(t, work)
	wantThrough(t, home)
	c.stop()
	if got := c.end(t); got.code != exitRefused || !strings.Contains(got.stderr, "\nsstproxy: error: profile refused: ") {
		t.Errorf("got %+v, want code %d and the profile's name", got, exitRefused)
	}
}

// All fail, in ways that differ.
func TestSeveralFail(t *testing.T) {
	path := siteConfig(t)
	add := "[nowhere]\nserver = '127.0.0.1:1'\npassword-file = 'work'\n[other]\nserver = '127.0.0.1:1'\npassword-file = 'work'\n"
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(add)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		profiles []string
		code     int
	}{
		{[]string{"nowhere", "other"}, exitFailed},
		{[]string{"nowhere", "refused"}, exitFailed},
	} {
		c := start(t, nil, append([]string{"connect", "--config", path}, test.profiles...)...)
		got := c.end(t)
		if want := "error: profiles " + strings.Join(test.profiles, ", ") + " failed\n  nowhere: "; got.code != test.code || !strings.Contains(got.stderr, want) {
			t.Errorf("%q: got %+v, want code %d and %q", test.profiles, got, test.code, want)
		}
	}
	same := severalError{{"a", &usageError{err: errors.New("x")}}, {"b", &usageError{err: errors.New("y")}}}
	if r := explain(same); r.code != exitUsage {
		t.Errorf("one code for all: got %d, want %d", r.code, exitUsage)
	}
}

// A profile for the commands beside connect: run takes all but the listeners of
// it, wait and health just them.
func TestProfileElsewhere(t *testing.T) {
	path := siteConfig(t)
	env := map[string]string{"SSTPROXY_CONFIG": path}
	t.Setenv(asClient, "http://"+demoHost+"/run")
	if got := try(t.Context(), env, "run", "work", "--ready-probe", "none", "--", os.Args[0]); got.code != exitOK || !strings.HasPrefix(got.stdout, demoGreeting) {
		t.Errorf("run: got %+v", got)
	}
	for _, args := range []string{"run wrok -- true", "health wrok", "wait wrok --timeout 1s"} {
		if got := try(t.Context(), env, strings.Fields(args)...); got.code != exitUsage || !strings.Contains(got.stderr, `did you mean "work"?`) {
			t.Errorf("%s: got %+v", args, got)
		}
	}
	dir := shortDir(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "[work]\n", "[work]\nlisten = 'unix:"+filepath.Join(dir, "p")+"'\n", 1))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, env, "connect", "work")
	for _, args := range []string{"wait work --timeout 30s", "health work"} {
		if got := try(t.Context(), env, strings.Fields(args)...); got.code != exitOK || got.stderr != "" {
			t.Errorf("%s: got %+v", args, got)
		}
	}
	c.stop()
	c.end(t)
}

// One question at a time; who waits for the turn is not held by it.
func TestTurn(t *testing.T) {
	turn := newTurn()
	if err := turn.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errStopped)
	if err := turn.acquire(over); !errors.Is(err, errStopped) {
		t.Errorf("while it is taken: got %v, want the cause", err)
	}
	turn.release()
	if err := turn.acquire(t.Context()); err != nil {
		t.Error(err)
	}
}
