package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sstproxy/cmd/sstproxy/netns"
)

// needsNamespaces skips a test where this user may have none.
func needsNamespaces(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	space, err := netns.New(cmd, netns.Config{})
	if forbidden, ok := errors.AsType[*netns.ForbiddenError](err); ok {
		t.Skip(forbidden)
	}
	if err != nil {
		t.Fatal(err)
	}
	space.Close()
	cmd.Wait()
}

// isolated is flags with which a command has a network of its own.
func isolated(flags ...string) []string { return append(flags, "--isolate") }

// A Go program that knows of no proxy reaches the private network by name.
func TestIsolate(t *testing.T) {
	needsNamespaces(t)
	server := startDemoServer(t)
	t.Setenv(asClient, "http://"+demoHost+"/isolated")
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	got := try(t.Context(), withPassword, runArgs(t, server, isolated(), os.Args[0])...)
	if got.code != exitOK || got.stderr != "" || !strings.HasPrefix(got.stdout, demoGreeting) || !strings.Contains(got.stdout, "/isolated") {
		t.Errorf("got %+v", got)
	}
	wantOrderlyEnd(t, server)
}

// The password's descriptor is not the command's, which could read it again.
func TestIsolatePasswordDescriptor(t *testing.T) {
	needsNamespaces(t)
	needs(t, "sh")
	server := startDemoServer(t)
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(withPassword["SSTPROXY_PASSWORD"]), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0) // as a shell's 3<file: no O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	got := try(t.Context(), nil, runArgs(t, server, isolated("--password-file", fmt.Sprintf("/dev/fd/%d", fd)),
		"sh", "-c", fmt.Sprintf("cat /proc/self/fd/%d || echo private", fd))...)
	if got.code != exitOK || got.stdout != "private\n" {
		t.Errorf("got %+v", got)
	}
}

// The same as a user without rights, and with what such a user has at hand.
func TestIsolateUnprivileged(t *testing.T) {
	needsNamespaces(t)
	server := startDemoServer(t)
	for _, tt := range []struct {
		program string
		args    []string
		want    string
	}{
		{"curl", []string{"-sS", "http://" + demoHost + "/"}, demoGreeting},
		{"ping", []string{"-c", "1", "-W", "5", demoHost}, "1 received"},
		{"dig", []string{"+short", demoHost}, demoWeb.String() + "\n"},
		{"getent", []string{"ahostsv4", demoHost}, demoWeb.String()},
		{"git", []string{"ls-remote", "http://" + demoHost + "/"}, "not valid: is this a git repository?"},
		{"python3", []string{"-c", pythonUDP}, demoWeb.String()},
		{"id", []string{"-u"}, fmt.Sprintf("%d\n", nobody().Uid)},
	} {
		t.Run(tt.program, func(t *testing.T) {
			needs(t, tt.program)
			out := asNobody(t, runArgs(t, server, isolated(), append([]string{tt.program}, tt.args...)...))
			if !strings.Contains(out, tt.want) {
				t.Errorf("got %q, want %q in it", out, tt.want)
			}
		})
	}
}

// pythonUDP is a UDP program: it asks the name server itself.
const pythonUDP = `
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
s.sendto(struct.pack(">6H", 7, 256, 1, 0, 0, 0) + b"\x08intranet\x04demo\x00" + struct.pack(">2H", 1, 1), ("10.99.0.1", 53))
print(socket.inet_ntoa(s.recv(512)[-4:]))`

// nobody is a user without rights if the tests run as root, else their own.
func nobody() *syscall.Credential {
	if os.Getuid() != 0 {
		return &syscall.Credential{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid()), NoSetGroups: true}
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

// asNobody runs the program as nobody and returns what it writes.
func asNobody(t *testing.T, args []string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sstproxy-isolate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "sstproxy")
	copyFile(t, os.Args[0], binary)
	for i, a := range args {
		if i > 0 && args[i-1] == "--ca" {
			args[i] = filepath.Join(dir, "ca.pem")
			copyFile(t, a, args[i])
		}
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "SSTPROXY_PASSWORD=wonderland", "HOME="+dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody()}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%s: %v", args, err)
	}
	return string(out)
}

// copyFile makes a copy that everybody can read and run.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err == nil {
		err = os.Chmod(to, 0o755) // whatever the umask
	}
	if err != nil {
		t.Fatal(err)
	}
}

// There is no other way out: the loopback is the command's own, and so is every
// interface but the tunnel's. What the tunnel does not carry goes nowhere.
func TestIsolateFailsClosed(t *testing.T) {
	needsNamespaces(t)
	needs(t, "sh")
	server := startDemoServer(t)
	host, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	const script = `cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' ' | tr '\n' ,; grep -c ^nameserver /etc/resolv.conf; env | grep -ci _proxy=`
	got := start(t, withPassword, runArgs(t, server, isolated("--log-level", "info"), "sh", "-c", script)...).end(t)
	if names, _, _ := strings.Cut(got.stdout, "1\n0\n"); names != "lo,sstp0," && names != "sstp0,lo," {
		t.Errorf("got %+v, want the interfaces lo and sstp0, one name server, no proxies", got)
	}
	t.Setenv(asClient, "http://"+host.Addr().String()+"/")
	if strings.Contains(got.stderr, "proxy listening") {
		t.Errorf("a proxy that nobody can use: %s", got.stderr)
	}
	got = try(t.Context(), withPassword, runArgs(t, server, isolated(), os.Args[0])...)
	if got.code != 1 || !strings.Contains(got.stderr, "connection refused") {
		t.Errorf("a listener of the machine: got %+v", got)
	}
}

// Exit codes are those of any run.
func TestIsolateExitCodes(t *testing.T) {
	needsNamespaces(t)
	needs(t, "sh")
	server := startDemoServer(t)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	for code, command := range map[int][]string{
		0: {"sh", "-c", "exit 0"}, 3: {"sh", "-c", "exit 3"}, 128 + 15: {"sh", "-c", "kill -TERM $$"},
		exitNotFound: {"no-such-command-here"}, exitNotRun: {script},
	} {
		if got := try(t.Context(), withPassword, runArgs(t, server, isolated(), command...)...); got.code != code {
			t.Errorf("%q: got %+v, want code %d", command, got, code)
		}
	}
	env := map[string]string{"SSTPROXY_PASSWORD": "wrong"}
	got := try(t.Context(), env, runArgs(t, server, isolated(), "sh", "-c", "exit 3 # never begun")...)
	wantFailure(t, got, exitRefused, "refused", "")
}

// A command gets the signals, and its end when the tunnel is lost for good.
func TestIsolateLost(t *testing.T) {
	needsNamespaces(t)
	wantLost(t, isolated("--give-up-after", "0"))
}

// fetcher fetches the page once for each line of its standard input, over one
// connection.
const fetcher = `
import sys, http.client
c = http.client.HTTPConnection("intranet.demo", timeout=60)
c.connect()
c.auto_open = False
for n, line in enumerate(sys.stdin):
    try:
        c.request("GET", "/")
        print(n, c.getresponse().read().split(b"\n")[0].decode(), flush=True)
    except Exception as e:
        print("failed", e, flush=True)`

// A connection of the command survives a new session with the same address.
func TestIsolateReconnect(t *testing.T) {
	needsNamespaces(t)
	needs(t, "python3")
	site := startSite(t)
	in, feed := io.Pipe()
	defer feed.Close()
	c := startWith(t, in, withPassword, runArgs(t, site, isolated(), "python3", "-c", fetcher)...)
	page := strings.TrimSpace(demoGreeting)
	for n := range 3 {
		io.WriteString(feed, "again\n")
		c.stdout.wait(t, fmt.Sprintf("%d %s", n, page))
		site.Line().Reset()
	}
	feed.Close()
	if got := c.end(t); got.code != exitOK || strings.Contains(got.stdout, "failed") {
		t.Errorf("got %+v", got)
	}
}

// With another address new connections work, and the log says what happened to
// the others.
func TestIsolateAddressChanges(t *testing.T) {
	needsNamespaces(t)
	needs(t, "curl")
	site := startSite(t)
	in, feed := io.Pipe()
	defer feed.Close()
	const script = `while read -r n; do echo "$n $(curl -sS --retry 9 --retry-all-errors -m 5 http://intranet.demo/ | tr '\n' ' ')"; done`
	c := startWith(t, in, withPassword, runArgs(t, site, isolated(), "sh", "-c", script)...)
	io.WriteString(feed, "first\n")
	if line := c.stdout.wait(t, "first hello"); !strings.Contains(line, "you come from 10.99.0.") {
		t.Errorf("got %q", line)
	}
	if err := site.SetPool(netip.MustParsePrefix("10.98.0.0/24"), demoGateway); err != nil {
		t.Fatal(err)
	}
	site.Line().Reset()
	c.stderr.wait(t, "another address: the command's connections are cut")
	io.WriteString(feed, "second\n")
	if line := c.stdout.wait(t, "second hello"); !strings.Contains(line, "you come from 10.98.0.") {
		t.Errorf("got %q", line)
	}
	feed.Close()
	if got := c.end(t); got.code != exitOK {
		t.Errorf("got %+v", got)
	}
}

// What is said of names holds for the command, and what would go past the tunnel
// or through the program's own network is refused.
func TestIsolateOptions(t *testing.T) {
	needsNamespaces(t)
	needs(t, "getent")
	server := startDemoServer(t)
	flags := isolated("--host", "db=10.99.0.7", "--search", "demo", "--dns", demoGateway.String())
	got := try(t.Context(), withPassword, runArgs(t, server, flags, "sh", "-c", "getent ahostsv4 db intranet; cat /etc/resolv.conf")...)
	for _, want := range []string{"10.99.0.7 ", demoWeb.String() + " ", "search demo\n"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("got %+v, want %q in it", got, want)
		}
	}
	for flag, value := range map[string]string{"--else": "direct", "--route": "10.0.0.0/8", "-L": "0:a:1", "-R": "1:a:1", "--host": "a"} {
		got := try(t.Context(), withPassword, runArgs(t, server, isolated(flag, value), "true")...)
		if got.code != exitUsage {
			t.Errorf("%s %s: got %+v, want wrong usage", flag, value, got)
		}
	}
}

// Where namespaces are forbidden the report names the setting and the way without.
func TestIsolateForbidden(t *testing.T) {
	err := &netns.ForbiddenError{Setting: "user.max_user_namespaces is 0", Remedy: "sysctl -w user.max_user_namespaces=10000", Err: syscall.ENOSPC}
	var b bytes.Buffer
	explain(err).print(&b)
	for _, want := range []string{"user.max_user_namespaces is 0", "sysctl -w", "leave out --isolate"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got %q, want %q in it", b.String(), want)
		}
	}
}
