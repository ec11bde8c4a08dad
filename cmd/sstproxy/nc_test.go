package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sstproxy/tunnel/tunneltest"
)

// runningSite is a private network with echoAtEnd at port 7 of the demo's host,
// hangUp at port 8, and an instance that is connected to it; where is the
// address of its proxy.
func runningSite(t *testing.T, env map[string]string, more ...string) (c *command, where string) {
	t.Helper()
	site, stack := startNetwork(t)
	serveInside(t, stack, 7, echoAtEnd)
	serveInside(t, stack, 8, hangUp)
	c = start(t, env, connectArgs(site.Addr().String(), caFile(t, site.CA()), more...)...)
	return c, strings.TrimPrefix(c.proxyURL(t, "http://"), "http://")
}

// wantNC runs nc with something on standard input and expects an orderly end.
func wantNC(t *testing.T, env map[string]string, in, out string, args ...string) {
	t.Helper()
	got := startWith(t, strings.NewReader(in), env, args...).end(t)
	if got.code != exitOK || got.stdout != out || got.stderr != "" {
		t.Errorf("%q: got %+v, want %q, code 0 and nothing else", args, got, out)
	}
}

// Through an instance: by its port, its socket file, with its login, and as ssh
// says it.
func TestNC(t *testing.T) {
	socket := "unix:" + filepath.Join(shortDir(t), "p")
	login := map[string]string{"SSTPROXY_PROXY_PASSWORD": "open sesame"}
	env := maps.Clone(login)
	maps.Copy(env, withPassword)
	_, where := runningSite(t, env, "--listen", socket, "--proxy-user", "ali")
	wantNC(t, login, "hello", "got hello", "nc", "--listen", where, "--proxy-user", "ali", demoHost, "7")
	wantNC(t, login, "", "got ", "nc", "--listen", socket, "--proxy-user", "ali", demoWeb.String(), "7")
	login["SSTPROXY_LISTEN"], login["SSTPROXY_PROXY_USER"] = where, "ali"
	wantNC(t, login, "hello", "got hello", "-W", demoHost+":7")
	large := strings.Repeat("0123456789abcdef", 1<<16)
	wantNC(t, login, large, "got "+large, "nc", demoHost, "7")
	delete(login, "SSTPROXY_LISTEN")
	wantNC(t, login, "hello", "got hello", "-W", demoHost+":7", "--listen", where)
	wantNC(t, login, "hello", "got hello", "--listen="+socket, "-W"+demoHost+":7")
	login["SSTPROXY_LISTEN"] = "127.0.0.1:1" // the command line wins
	wantNC(t, login, "hello", "got hello", "-W", demoHost+":7", "--listen", where)
	login["SSTPROXY_LISTEN"] = where

	wantFailure(t, try(t.Context(), login, "nc", demoHost, "9"), exitFailed, "the destination refused the connection", "check HOST:PORT")
	wantFailure(t, try(t.Context(), login, "nc", "nowhere.demo", "7"), exitFailed, "no such host", "check HOST:PORT")
	wantFailure(t, try(t.Context(), nil, "nc", "--listen", where, demoHost, "7"), exitFailed, "wants the login", "--proxy-user")
	if got := try(t.Context(), login, "-W", demoHost); got.code != exitUsage || !strings.Contains(got.stderr, "-W "+demoHost+": want HOST:PORT") {
		t.Errorf("no port: got %+v", got)
	}
	cut := startWith(t, strings.NewReader("x"), login, "nc", demoHost, "8").end(t)
	wantFailure(t, cut, exitFailed, "the connection was cut", "try again")
}

// Where the other end speaks first and ends first, what comes after that still
// gets there.
func TestNCPeerEndsFirst(t *testing.T) {
	site, stack := startNetwork(t)
	heard := make(chan string, 1)
	serveInside(t, stack, 7, func(c net.Conn) {
		io.WriteString(c, "bye")
		c.(interface{ CloseWrite() error }).CloseWrite()
		b, _ := io.ReadAll(c)
		heard <- string(b)
	})
	args := connectArgs(site.Addr().String(), caFile(t, site.CA()), "-W", demoHost+":7")
	in, typed := io.Pipe()
	c := startWith(t, in, withPassword, args...)
	for c.stdout.String() != "bye" {
		c.stdout.changes(t)
	}
	io.WriteString(typed, "last words")
	typed.Close()
	if got := <-heard; got != "last words" {
		t.Errorf("the other end heard %q", got)
	}
	if got := c.end(t); got.code != exitOK || got.stderr != "" {
		t.Errorf("got %+v", got)
	}
}

// changes waits until there is more.
func (w *watched) changes(t *testing.T) {
	t.Helper()
	_, changed := w.find("\x00")
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatalf("nothing more than %q", w)
	}
}

// Without an instance nc says so, or makes a session of its own, which opens no
// listener and ends in order.
func TestNCOwnSession(t *testing.T) {
	nobody := freePort(t)
	wantFailure(t, try(t.Context(), nil, "nc", "--listen", nobody, demoHost, "7"), exitFailed, "no sstproxy answers at "+nobody, "--server SERVER")

	site, stack := startNetwork(t)
	serveInside(t, stack, 7, echoAtEnd)
	own := []string{"--server", site.Addr().String(), "-u", "alice", "--ca", caFile(t, site.CA())}
	wantNC(t, withPassword, "hello", "got hello", append([]string{"nc", "--listen", nobody, demoHost, "7"}, own...)...)
	wantOrderlyEnd(t, site)
	taken := dialLocalListener(t)
	wantNC(t, withPassword, "hello", "got hello", connectArgs(site.Addr().String(), own[5], "--listen", taken, "-L", "1:h:1", "-W", demoWeb.String()+":7")...)
	refused := try(t.Context(), withPassword, append([]string{"nc", "--listen", nobody, demoHost, "9"}, own...)...)
	wantFailure(t, refused, exitFailed, "can't reach "+demoHost+":9: the destination refused the connection", "looked up in the tunnel")
	if n := site.Count(tunneltest.EventAuthenticated); n != 3 {
		t.Errorf("%d sessions, want 3", n)
	}
}

// A profile is both: where an sstproxy may run, and the session to make if none
// does.
func TestNCProfile(t *testing.T) {
	site, stack := startNetwork(t)
	serveInside(t, stack, 7, echoAtEnd)
	config := fmt.Sprintf("ca = %q\nuser = 'alice'\n[work]\nserver = %q\nlisten = %q\n[free]\nserver = %q\nlisten = '127.0.0.1:0'\n",
		caFile(t, site.CA()), site.Addr(), freePort(t), site.Addr())
	file := filepath.Join(t.TempDir(), "vpn.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	nc := []string{"nc", demoHost, "7", "--config", file, "--server"}
	wantNC(t, withPassword, "hello", "got hello", append(nc, "work")...)
	c := start(t, withPassword, "connect", "work", "--config", file)
	c.proxyURL(t, "http://")
	wantNC(t, nil, "hello", "got hello", append(nc, "work")...)
	if n := site.Count(tunneltest.EventAuthenticated); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	c.stop()
	c.end(t)
	nowhere := freePort(t)
	wantNC(t, withPassword, "hello", "got hello", append(nc, "free", "--listen", nowhere)...)
	if n := site.Count(tunneltest.EventAuthenticated); n != 3 {
		t.Errorf("%d sessions, want 3", n)
	}
}

// dialLocalListener returns an address that is in use.
func dialLocalListener(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// ssh itself, with nc as its ProxyCommand and openssh-server inside.
func TestSSHThroughNC(t *testing.T) {
	for _, program := range []string{"/usr/sbin/sshd", "ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (Debian: openssh-server, openssh-client)", program)
		}
	}
	dir := t.TempDir()
	address := startSSHD(t, dir)
	site, stack := startNetwork(t)
	serveInside(t, stack, 22, func(inside net.Conn) {
		server, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		defer server.Close()
		go io.Copy(server, inside) // ends with the connections
		io.Copy(inside, server)
	})
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()))...)
	where := strings.TrimPrefix(c.proxyURL(t, "http://"), "http://")

	large := strings.Repeat("0123456789abcdef", 1<<14)
	ssh := exec.CommandContext(t.Context(), "ssh", "-F", "none", "-i", filepath.Join(dir, "user"), "-o", "BatchMode=yes",
		"-o", "UserKnownHostsFile="+filepath.Join(dir, "known"), "-o", "StrictHostKeyChecking=yes",
		"-o", "ProxyCommand="+os.Args[0]+" nc --listen "+where+" %h %p", demoHost, "cat")
	ssh.Env = append(os.Environ(), asCommand+"=1")
	ssh.Stdin = strings.NewReader(large)
	var stderr bytes.Buffer
	ssh.Stderr = &stderr
	out, err := ssh.Output()
	skipLocked(t, filepath.Join(dir, "log"))
	if err != nil || string(out) != large {
		t.Errorf("got %d octets, %v, %s", len(out), err, stderr.String())
	}
}

// skipLocked ends a test whose user no SSH server lets in, as nobody, by what the
// server wrote to its log.
func skipLocked(t *testing.T, log string) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, " not allowed because ") {
			t.Skipf("sshd: %s", strings.TrimSpace(line))
		}
	}
}

// startSSHD starts an SSH server of this user on loopback, with a key for it, the
// user's, known hosts and the server's log in the directory.
func startSSHD(t *testing.T, dir string) string {
	t.Helper()
	for _, name := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	key, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "known"), []byte(demoHost+" "+string(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where the server wants to be shut in
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	config := fmt.Sprintf("HostKey %s/host\nAuthorizedKeysFile %[1]s/user.pub\nStrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n", dir)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serveSSH(c.(*net.TCPConn), dir)
		}
	}()
	return l.Addr().String()
}

// serveSSH gives a connection to a server that serves one, and waits for it.
func serveSSH(c *net.TCPConn, dir string) {
	defer c.Close()
	f, err := c.File()
	if err != nil {
		return
	}
	defer f.Close()
	sshd := exec.Command("/usr/sbin/sshd", "-i", "-f", filepath.Join(dir, "config"), "-E", filepath.Join(dir, "log"))
	sshd.Stdin, sshd.Stdout = f, f
	sshd.Run()
}
