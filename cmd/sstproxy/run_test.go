package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/netstack"
	"sstproxy/tunnel/tunneltest"
)

// runArgs is a command line that runs a command in the network of a server.
func runArgs(t *testing.T, server *tunneltest.Server, flags []string, command ...string) []string {
	t.Helper()
	args := append([]string{"run", server.Addr().String(), "-u", "alice", "--ca", caFile(t, server.CA())}, flags...)
	return append(append(args, "--"), command...)
}

// needs skips a test that can't do without a program.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("no %s here", program)
	}
}

// A program that obeys the variables reaches the private network by name, and
// nothing is said but by the command.
func TestRun(t *testing.T) {
	server := startDemoServer(t)
	t.Setenv(asClient, "http://"+demoHost+"/run")
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	t.Setenv("no_proxy", "*")
	got := try(t.Context(), withPassword, runArgs(t, server, nil, os.Args[0])...)
	if got.code != exitOK || got.stderr != "" || !strings.HasPrefix(got.stdout, demoGreeting) || !strings.Contains(got.stdout, "/run") {
		t.Errorf("got %+v", got)
	}
	wantOrderlyEnd(t, server)
}

// The same with curl, through each of the variables.
func TestRunCurl(t *testing.T) {
	needs(t, "curl")
	server := startDemoServer(t)
	const script = `curl -sS http://intranet.demo/ && env -u http_proxy curl -sS http://intranet.demo/ &&
		env -u http_proxy -u all_proxy curl -sS -x "$ALL_PROXY" http://intranet.demo/ && curl -sS -p -x "$HTTPS_PROXY" http://intranet.demo/`
	got := try(t.Context(), withPassword, runArgs(t, server, nil, "sh", "-c", script)...)
	if n := strings.Count(got.stdout, demoGreeting); got.code != exitOK || n != 4 {
		t.Errorf("got %d pages of 4, %+v", n, got)
	}
}

// What the command sees: the variables in both cases, no password of the
// account, in neither the environment nor the list of processes.
func TestRunEnvironment(t *testing.T) {
	needs(t, "ps")
	server := startDemoServer(t)
	c := spawn(t, "", []string{"SSTPROXY_PASSWORD=wonderland", "SSTPROXY_PROXY_PASSWORD=hunter2", "FTP_PROXY=x:1"},
		runArgs(t, server, nil, "sh", "-c", `env; ps -o args= -p $PPID`)...)
	got := c.end(t)
	if got.code != exitOK || !strings.Contains(got.stdout, " -u alice ") || strings.Contains(got.stdout, "wonderland") || strings.Contains(got.stdout, "hunter2") || strings.Contains(got.stdout, "FTP_PROXY") {
		t.Errorf("got code %d, stdout:\n%s", got.code, got.stdout)
	}
	values := map[string]string{}
	for line := range strings.Lines(got.stdout) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = value
	}
	for name, prefix := range map[string]string{
		"http_proxy": "http://run:", "https_proxy": "http://run:", "all_proxy": "socks5h://run:", "no_proxy": "localhost,127.0.0.1,::1",
	} {
		if lower, upper := values[name], values[strings.ToUpper(name)]; !strings.HasPrefix(lower, prefix) || lower != upper {
			t.Errorf("%s: got %q and %q, want %s…", name, lower, upper, prefix)
		}
	}
}

// The listener is of no use without the command's password, and gone after it.
func TestRunIsPrivate(t *testing.T) {
	needs(t, "sh")
	server := startDemoServer(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	proxy := make(chan string, 1)
	stdout := newWatched()
	code := make(chan int, 1)
	go func() { // ends with the command
		env := func(key string) (string, bool) { v, ok := withPassword[key]; return v, ok }
		code <- run(t.Context(), runArgs(t, server, nil, "sh", "-c", `echo "=$http_proxy"; cat`), r, stdout, os.Stderr, env)
	}()
	proxy <- strings.TrimPrefix(stdout.wait(t, "="), "=")
	withLogin := <-proxy
	scheme, host, _ := strings.Cut(withLogin, "run:")
	_, host, _ = strings.Cut(host, "@")
	if status, _, _ := get(t, scheme+host, "http://"+demoHost+"/"); status != http.StatusProxyAuthRequired {
		t.Errorf("without its password: got status %d", status)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(scheme + host + pacPath)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the rules, without its password: got status %d", resp.StatusCode)
	}
	if status, _, _ := get(t, withLogin, "http://"+demoHost+"/"); status != http.StatusOK {
		t.Errorf("with its password: got status %d", status)
	}
	io.WriteString(w, "to the end\n")
	w.Close()
	if got := <-code; got != exitOK || !strings.Contains(stdout.String(), "to the end\n") {
		t.Errorf("got code %d, stdout %q: standard input is the command's", got, stdout)
	}
	if conn, err := net.Dial("tcp", host); err == nil {
		conn.Close()
		t.Errorf("%s still listens", host)
	}
}

// The exit code is the command's, and those of shells where it has none.
func TestRunExitCodes(t *testing.T) {
	needs(t, "sh")
	server := startDemoServer(t)
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, []byte("#!/no/such/shell\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		command []string
		code    int
		what    string // of the error, if it is ours
	}{
		{[]string{"sh", "-c", "exit 0"}, 0, ""},
		{[]string{"sh", "-c", "exit 3"}, 3, ""},
		{[]string{"sh", "-c", "exit 255"}, 255, ""},
		{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{[]string{"sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		{[]string{"no-such-command-here"}, exitNotFound, "no-such-command-here: no such command"},
		{[]string{"./no/such/command"}, exitNotFound, "no such command"},
		{[]string{plain}, exitNotRun, "can't be run: permission denied"},
		{[]string{dir}, exitNotRun, "can't be run: is a directory"},
		{[]string{script}, exitNotFound, "no such command"},
	} {
		t.Run(strings.Join(tt.command, " "), func(t *testing.T) {
			got := try(t.Context(), withPassword, runArgs(t, server, nil, tt.command...)...)
			if tt.what != "" {
				wantFailure(t, got, tt.code, tt.what, "")
			} else if got.code != tt.code || got.stderr != "" {
				t.Errorf("got %+v, want code %d and no word", got, tt.code)
			}
		})
	}
}

// A command that can't run is found out before the server is asked.
func TestRunLooksFirst(t *testing.T) {
	server := startDemoServer(t)
	got := try(t.Context(), withPassword, runArgs(t, server, nil, "no-such-command-here")...)
	if n := len(server.Events()); got.code != exitNotFound || n != 0 {
		t.Errorf("got %+v and %d events at the server, want none", got, n)
	}
}

// A server that refuses: exit code 3, and the command never starts.
func TestRunRefused(t *testing.T) {
	server := startDemoServer(t)
	mark := filepath.Join(t.TempDir(), "mark")
	env := map[string]string{"SSTPROXY_PASSWORD": "wrong"}
	got := try(t.Context(), env, runArgs(t, server, nil, "touch", mark)...)
	wantFailure(t, got, exitRefused, "refused", "")
	if _, err := os.Lstat(mark); err == nil {
		t.Error("the command was run")
	}
}

// A session that is lost for good ends the command by SIGTERM, and the reason is
// told with connect's exit code.
func TestRunLost(t *testing.T) {
	wantLost(t, []string{"--give-up-after", "0"})
}

// wantLost loses the session of a command that is run with these flags.
func wantLost(t *testing.T, flags []string) {
	t.Helper()
	needs(t, "sh")
	server := startDemoServer(t)
	c := start(t, withPassword, runArgs(t, server, flags, "sh", "-c",
		`trap 'echo told; exit 7' TERM; echo begun; while :; do sleep 0.05; done`)...)
	c.stdout.wait(t, "begun")
	server.Line().Reset()
	got := c.end(t)
	wantFailure(t, got, exitFailed, "the connection to the server was lost", "")
	if !strings.Contains(got.stdout, "told") {
		t.Errorf("got stdout %q, want the command to be told", got.stdout)
	}
}

// The command starts when something answers in the tunnel, if there is anything
// to ask.
func TestRunReady(t *testing.T) {
	server := startDemoServer(t)
	silent := startServer(t, tunneltest.Config{Attach: tunneltest.Reflect, DNS: []netip.Addr{netip.MustParseAddr("10.99.0.1")}})
	nameless := startServer(t, tunneltest.Config{Attach: tunneltest.Reflect, DNS: []netip.Addr{}})
	for name, tt := range map[string]struct {
		server *tunneltest.Server
		flags  []string
	}{
		"probe":           {server, []string{"--ready-probe", net.JoinHostPort(demoHost, "80")}},
		"name of ours":    {server, []string{"--host", "db.corp=10.99.0.80", "--ready-probe", "db.corp:80"}},
		"past the rules":  {server, []string{"--else", "block", "--ready-probe", "10.99.0.80:80"}},
		"no probe":        {silent, []string{"--ready-probe", "none"}},
		"no name servers": {nameless, nil},
	} {
		if got := try(t.Context(), withPassword, runArgs(t, tt.server, tt.flags, "sh", "-c", "exit 5")...); got.code != 5 {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// A probe is repeated for a time; what was the matter then is in the report.
func TestProbeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &program{patience: 2 * time.Second}
		tries := 0
		refused := func(ctx context.Context) error {
			if tries++; ctx.Err() != nil {
				return ctx.Err()
			}
			return syscall.ECONNREFUSED
		}
		err := p.until(t.Context(), &probeError{what: "db:1 takes no connection through the tunnel", hint: "look"}, refused)
		r := explain(err)
		if r.code != exitFailed || r.what != "the tunnel is up, but db:1 takes no connection through the tunnel: connection refused" || r.hint != "look" || tries < 4 {
			t.Errorf("got %+v after %d tries", r, tries)
		}
		tries = 0
		third := func(context.Context) error {
			if tries++; tries < 3 {
				return syscall.ECONNREFUSED
			}
			return nil
		}
		if err := p.until(t.Context(), &probeError{}, third); err != nil || tries != 3 {
			t.Errorf("got %v after %d tries", err, tries)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errStopped)
		if err := p.until(ctx, &probeError{}, refused); err != errStopped {
			t.Errorf("got %v, want the cause of the end", err)
		}
	})
}

// Whatever a name server says is an answer; silence and a tunnel that is down
// are none.
func TestAskNames(t *testing.T) {
	for name, tt := range map[string]struct {
		err      error
		answered bool
	}{
		"addresses":      {nil, true},
		"no such name":   {&net.DNSError{IsNotFound: true}, true},
		"server failure": {&net.DNSError{IsTemporary: true}, true},
		"silence":        {&net.DNSError{IsTimeout: true}, false},
		"tunnel down":    {&net.DNSError{UnwrapErr: netstack.ErrDown}, false},
		"other":          {net.UnknownNetworkError("x"), false},
	} {
		err := askNames(t.Context(), func(context.Context, string, string) ([]netip.Addr, error) { return nil, tt.err })
		if answered := err == nil; answered != tt.answered {
			t.Errorf("%s: got %v, want answered %t", name, err, tt.answered)
		}
	}
}

func TestCommandEnvironment(t *testing.T) {
	got := environment([]string{"PATH=/bin", "SSTPROXY_PASSWORD=x", "sstproxy_proxy_password=x", "Http_Proxy=x", "ftp_proxy=x", "SSTPROXY_USER=a", "ODD"}, []string{"http_proxy=y"})
	if want := []string{"PATH=/bin", "SSTPROXY_USER=a", "ODD", "http_proxy=y"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
