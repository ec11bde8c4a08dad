package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sstproxy/cmd/sstproxy/netns"
)

// asCommand makes the test binary behave as the program; see [TestMain].
const asCommand = "SSTPROXY_TEST_AS_COMMAND"

// asClient makes the test binary fetch the URL in it, as an ordinary program
// would: with Go's HTTP client and the proxy that the environment names.
const asClient = "SSTPROXY_TEST_AS_CLIENT"

func TestMain(m *testing.M) {
	netns.Init()
	if url := os.Getenv(asClient); url != "" {
		fetchAndExit(url)
	}
	if os.Getenv(asCommand) != "" {
		main()
	}
	code := m.Run()
	if left := leaked(); left != "" {
		fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// fetchAndExit writes what is at a URL to standard output.
func fetchAndExit(url string) {
	resp, err := http.Get(url)
	if err == nil {
		_, err = io.Copy(os.Stdout, resp.Body)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// leaked waits until no goroutine of a tunnel, a stack or a proxy is left, and
// returns the stacks of those that stay.
func leaked() string {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(10 * time.Second)
	for {
		var left []string
		buf := make([]byte, 1<<22)
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "sstproxy/tunnel") || strings.Contains(stack, "sstproxy/netstack") || strings.Contains(stack, "sstproxy/proxy") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return ""
		}
		select {
		case <-tick.C:
		case <-timeout:
			return strings.Join(left, "\n\n")
		}
	}
}

// patience is how long a test waits for what should come at once.
const patience = 30 * time.Second

// watched collects what a command writes and lets a test wait for a line of it.
type watched struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed and replaced by every write
}

func newWatched() *watched { return &watched{changed: make(chan struct{})} }

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
	return w.text.Write(b)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// find returns the first whole line that contains part, or what changes next.
func (w *watched) find(part string) (string, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(w.text.String()) {
		if strings.HasSuffix(line, "\n") && strings.Contains(line, part) {
			return strings.TrimSpace(line), nil
		}
	}
	return "", w.changed
}

// wait returns the first line that contains part, as soon as there is one.
func (w *watched) wait(t *testing.T, part string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		line, changed := w.find(part)
		if line != "" {
			return line
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no line with %q after %v; there was:\n%s", part, patience, w)
		}
	}
}

// command is a run of the program that is under way: in this process, or in
// one of its own.
type command struct {
	stdout, stderr *watched
	stop           func()           // asks for the end: cancels the context or sends SIGINT
	process        *os.Process      // nil in this process
	state          *os.ProcessState // of a process that has ended
	code           chan int         // gets the exit code
}

// start runs a command line in this process; stop cancels its context.
func start(t *testing.T, env map[string]string, args ...string) *command {
	t.Helper()
	return startWith(t, strings.NewReader(""), env, args...)
}

// startWith is start with something on standard input.
func startWith(t *testing.T, stdin io.Reader, env map[string]string, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &command{stdout: newWatched(), stderr: newWatched(), stop: cancel, code: make(chan int, 1)}
	lookup := func(key string) (string, bool) { v, ok := env[key]; return v, ok }
	go func() { // ends with the command
		c.code <- run(ctx, args, stdin, c.stdout, c.stderr, lookup)
	}()
	t.Cleanup(cancel)
	return c
}

// spawn runs a program, by default this test binary as the command, in a
// process of its own; stop sends it SIGINT.
func spawn(t *testing.T, binary string, env []string, args ...string) *command {
	t.Helper()
	if binary == "" {
		binary, env = os.Args[0], append(env, asCommand+"=1")
	}
	cmd := exec.Command(binary, args...)
	c := &command{stdout: newWatched(), stderr: newWatched(), code: make(chan int, 1)}
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = c.stdout, c.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.process = cmd.Process
	c.stop = func() { c.process.Signal(os.Interrupt) }
	go func() { // ends with the process
		cmd.Wait()
		c.state = cmd.ProcessState
		c.code <- cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() { c.process.Kill() })
	return c
}

// end waits for the command to end.
func (c *command) end(t *testing.T) outcome {
	t.Helper()
	select {
	case code := <-c.code:
		return outcome{code, c.stdout.String(), c.stderr.String()}
	case <-time.After(patience):
		t.Fatalf("not ended after %v; stderr:\n%s", patience, c.stderr)
		panic("unreachable")
	}
}

// down stops the program and expects an orderly end.
func (c *command) down(t *testing.T) {
	t.Helper()
	c.stop()
	if got := c.end(t); got.code != exitOK {
		t.Errorf("got code %d:\n%s", got.code, got.stderr)
	}
}

// shortDir is a directory for socket files. Their paths must be short, which that
// of t.TempDir is not, nor is what some systems have in TMPDIR.
func shortDir(t *testing.T) string {
	t.Helper()
	parent := os.TempDir()
	if len(parent) > 64 {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// proxyURL waits for the listener of a scheme and returns its URL, from the
// text log.
func (c *command) proxyURL(t *testing.T, scheme string) string {
	t.Helper()
	_, url, _ := strings.Cut(c.stderr.wait(t, "url="+scheme), "url=")
	return url
}
