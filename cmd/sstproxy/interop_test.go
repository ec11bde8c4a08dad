package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sstproxy/tunnel/tunneltest"
)

// interop is a real server and what lies behind it, from the environment; see
// README.md.
type interop struct {
	binary               string // empty: this test binary
	server, user, secret string
	ca                   string
	url                  string         // of the target, by name
	byAddress            string         // the same, by address
	log                  string         // pattern of the server's log files; may be empty
	logEnd               *regexp.Regexp // what it writes there when a session ends
	kill                 string         // shell command that kills the server; may be empty
}

// interopFromEnv skips the test unless the environment names a server.
func interopFromEnv(t *testing.T) interop {
	t.Helper()
	env := func(name string) string { return os.Getenv("SSTPROXY_INTEROP_" + name) }
	s := interop{
		binary: env("BINARY"), server: env("SERVER"), user: env("USER"), secret: env("PASSWORD"), ca: env("CA"),
		url: strings.TrimSuffix(env("TARGET_URL"), "/"), log: env("LOG"), kill: env("KILL"),
	}
	for _, name := range []string{"SERVER", "USER", "PASSWORD", "CA", "TARGET_URL", "TARGET_ADDR"} {
		if env(name) == "" {
			t.Skipf("no real server: SSTPROXY_INTEROP_%s is not set (README.md, Build and test)", name)
		}
	}
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = strings.Replace(u.Host, u.Hostname(), env("TARGET_ADDR"), 1)
	s.byAddress = u.String()
	if s.logEnd, err = regexp.Compile("(?m)^.*" + env("LOG_END") + ".*$"); err != nil {
		t.Fatal(err)
	}
	return s
}

// connect starts the program against the server, without waiting.
func (s interop) connect(t *testing.T, password, ca string, more ...string) *command {
	t.Helper()
	args := []string{"connect", s.server, "-u", s.user, "--listen", "127.0.0.1:0", "--ca", ca, "--log-level", "debug"}
	return spawn(t, s.binary, []string{"SSTPROXY_PASSWORD=" + password}, append(args, more...)...)
}

// up starts the program and waits until it serves.
func (s interop) up(t *testing.T, more ...string) *command {
	t.Helper()
	c := s.connect(t, s.secret, s.ca, more...)
	c.proxyURL(t, "http://")
	return c
}

// client is an HTTP client that goes through one of the program's proxies. It
// has no time limit: the transfers of a slow server are long.
func (c *command) client(t *testing.T, scheme string) *http.Client {
	t.Helper()
	via, err := url.Parse(c.proxyURL(t, scheme))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(via), MaxIdleConnsPerHost: -1}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestInterop runs the program against a real server. Sessions run side by
// side; what harms the server comes last.
func TestInterop(t *testing.T) {
	s := interopFromEnv(t)
	t.Run("sessions", func(t *testing.T) {
		t.Run("idle", s.testIdle)
		t.Run("methods", s.testMethods)
		t.Run("wrong password", s.testWrongPassword)
		t.Run("wrong authority", s.testWrongAuthority)
		t.Run("fetch", s.testFetch)
		t.Run("bulk", s.testBulk)
		t.Run("parallel", s.testParallel)
	})
	t.Run("orderly end", s.testOrderlyEnd)
	if os.Getenv("SSTPROXY_INTEROP_START") == "" { // else there is more to be done with it
		t.Run("server killed", s.testServerKilled)
	}
}

// Three minutes without a byte of the user's, and still alive.
func (s interop) testIdle(t *testing.T) {
	t.Parallel()
	c := s.up(t)
	s.idle(t, c, 3*time.Minute)
	c.down(t)
}

// idle leaves a session alone for some time, and then it answers.
func (s interop) idle(t *testing.T, c *command, long time.Duration) {
	t.Helper()
	client := c.client(t, "http://")
	wantHello(t, client, s.url)
	select {
	case code := <-c.code:
		t.Fatalf("ended with code %d, stderr:\n%s", code, c.stderr)
	case <-time.After(long):
	}
	begun := time.Now()
	wantHello(t, client, s.url)
	t.Logf("answered in %v", time.Since(begun).Round(time.Millisecond))
}

// MS-CHAPv2 is the default; PAP must be allowed.
func (s interop) testMethods(t *testing.T) {
	t.Parallel()
	c := s.up(t)
	c.stderr.wait(t, "auth=MS-CHAPv2")
	c.down(t)
	c = s.up(t, "--allow-pap", "--auth", "pap")
	c.stderr.wait(t, "auth=PAP")
	wantHello(t, c.client(t, "http://"), s.url)
	c.down(t)
}

func (s interop) testWrongPassword(t *testing.T) {
	t.Parallel()
	wantFailure(t, s.connect(t, s.secret+"x", s.ca).end(t), exitRefused, "the server refused the login", "lock accounts")
	pap := s.connect(t, s.secret+"x", s.ca, "--allow-pap", "--auth", "pap")
	wantFailure(t, pap.end(t), exitRefused, "the server refused the login", "lock accounts")
}

// The wrong authority ends in a report that shows the fingerprint, and that
// fingerprint is enough to connect.
func (s interop) testWrongAuthority(t *testing.T) {
	t.Parallel()
	other := startServer(t, tunneltest.Config{})
	got := s.connect(t, s.secret, caFile(t, other.CA())).end(t)
	wantFailure(t, got, exitFailed, "an authority this machine does not know", "fingerprint")
	flags := strings.Fields(strings.TrimPrefix(lineWith(got.stderr, "  accept "), "  accept "))
	if len(flags) != 2 {
		t.Fatalf("no fingerprint in the report:\n%s", got.stderr)
	}
	args := append([]string{"connect", s.server, "-u", s.user, "--listen", "127.0.0.1:0"}, flags...)
	c := spawn(t, s.binary, []string{"SSTPROXY_PASSWORD=" + s.secret}, args...)
	c.proxyURL(t, "http://")
	c.down(t)
}

// By name and by address, through SOCKS5 and through HTTP.
func (s interop) testFetch(t *testing.T) {
	t.Parallel()
	c := s.up(t)
	for _, scheme := range []string{"socks5h://", "http://"} {
		for _, target := range []string{s.url, s.byAddress} {
			wantHello(t, c.client(t, scheme), target)
		}
	}
	c.down(t)
}

// wantHello fetches /hello of the target.
func wantHello(t *testing.T, client *http.Client, target string) {
	t.Helper()
	resp, err := client.Get(target + "/hello")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.HasPrefix(body, []byte("hello")) {
		t.Errorf("%s/hello: got %s, %q, %v", target, resp.Status, body, err)
	}
}

// bulk is how much is moved each way, in octets.
const bulk = 200 << 20

// 200 MB down and up, with checksums.
func (s interop) testBulk(t *testing.T) {
	t.Parallel()
	c := s.up(t)
	for _, scheme := range []string{"socks5h://", "http://"} {
		client := c.client(t, scheme)
		begun := time.Now()
		wantDownload(t, client, s.url, bulk)
		down := time.Since(begun)
		wantUpload(t, client, s.url, bulk)
		t.Logf("%s %d MB down in %v, up in %v", scheme, bulk>>20, down.Round(time.Millisecond), (time.Since(begun) - down).Round(time.Millisecond))
	}
	c.down(t)
}

// 64 transfers at once, both ways, through both proxies.
func (s interop) testParallel(t *testing.T) {
	t.Parallel()
	c := s.up(t)
	clients := []*http.Client{c.client(t, "socks5h://"), c.client(t, "http://")}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if i/2%2 == 0 {
				wantDownload(t, clients[i%2], s.url, 1<<20)
			} else {
				wantUpload(t, clients[i%2], s.url, 1<<20)
			}
		})
	}
	wg.Wait()
	c.down(t)
}

// wantDownload fetches n octets and checks every one of them.
func wantDownload(t *testing.T, client *http.Client, target string, n int64) {
	t.Helper()
	resp, err := client.Get(fmt.Sprintf("%s/bytes/%d", target, n))
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	got, want := sha256.New(), sha256.New()
	length, err := io.Copy(got, resp.Body)
	if err != nil || length != n {
		t.Errorf("download: got %d octets of %d, %v", length, n, err)
		return
	}
	io.Copy(want, pattern(n))
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("download of %d octets: got checksum %x, want %x", n, got.Sum(nil), want.Sum(nil))
	}
}

// wantUpload posts n octets and compares the length and the checksum the
// target answers with.
func wantUpload(t *testing.T, client *http.Client, target string, n int64) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target+"/sink", pattern(n))
	if err != nil {
		t.Error(err)
		return
	}
	req.ContentLength = n
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
		return
	}
	sum := sha256.New()
	io.Copy(sum, pattern(n))
	if want := fmt.Sprintf("%d %s", n, hex.EncodeToString(sum.Sum(nil))); strings.TrimSpace(string(body)) != want {
		t.Errorf("upload of %d octets: got %s %q, want %q", n, resp.Status, body, want)
	}
}

// pattern is n octets of which octet i is i mod 256.
func pattern(n int64) io.Reader { return io.LimitReader(&counter{}, n) }

type counter struct{ next byte }

func (c *counter) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = c.next
		c.next++
	}
	return len(b), nil
}

// The server answers both farewells, and its log records the end at once.
func (s interop) testOrderlyEnd(t *testing.T) {
	c := s.up(t)
	before := s.logText(t)
	c.down(t)
	for _, farewell := range []string{"Terminate-Ack", "CallDisconnectAck"} {
		if line, _ := c.stderr.find(farewell); line == "" {
			t.Errorf("no %s from the server in the log:\n%s", farewell, c.stderr)
		}
	}
	if s.log == "" {
		t.Log("the server's log is not looked at: SSTPROXY_INTEROP_LOG is not set")
		return
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for {
		if line := s.logEnd.FindString(strings.TrimPrefix(s.logText(t), before)); line != "" {
			t.Logf("the server's log: %s", strings.TrimSpace(line))
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("no line that matches %v was added to the server's log within %v", s.logEnd, patience)
		}
	}
}

// logText is the newest of the server's log files.
func (s interop) logText(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(s.log)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		return ""
	}
	slices.Sort(files)
	b, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// shell runs a command in the repository's folder.
func shell(t *testing.T, command string) {
	t.Helper()
	sh := exec.Command("sh", "-c", command)
	sh.Dir = filepath.Join("..", "..")
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// A server that dies is a failure with its cause.
func (s interop) testServerKilled(t *testing.T) {
	if s.kill == "" {
		t.Skip("the server is left alive: SSTPROXY_INTEROP_KILL is not set")
	}
	c := s.up(t, "--give-up-after", "0")
	shell(t, s.kill)
	wantFailure(t, c.end(t), exitFailed, "the connection to the server was lost", "connect again")
}
