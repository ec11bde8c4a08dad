//go:build unix

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInteropFaults does to the connection with a real server what happens to
// connections, while a checksummed transfer runs each way. The commands for it
// come from the environment; what takes minutes runs only if that is asked for.
func TestInteropFaults(t *testing.T) {
	s := interopFromEnv(t)
	env := func(name string) string { return os.Getenv("SSTPROXY_INTEROP_" + name) }
	do := func(name string) func(*testing.T, *command) {
		return func(t *testing.T, _ *command) { shell(t, env(name)) }
	}
	signal := func(sig syscall.Signal) func(*testing.T, *command) {
		return func(_ *testing.T, c *command) { c.process.Signal(sig) }
	}
	for _, f := range []struct {
		name       string
		needs      []string // commands
		begin, end func(*testing.T, *command)
		lasts      time.Duration
		long       bool
	}{
		{"reconnect", nil, signal(syscall.SIGHUP), nil, 0, false},
		{"server restarted", []string{"KILL", "START"}, do("KILL"), do("START"), 2 * time.Second, false},
		{"cut for 5 s", []string{"CUT", "MEND"}, do("CUT"), do("MEND"), 5 * time.Second, false},
		{"cut for 30 s", []string{"CUT", "MEND"}, do("CUT"), do("MEND"), 30 * time.Second, true},
		{"cut for 120 s", []string{"CUT", "MEND"}, do("CUT"), do("MEND"), 120 * time.Second, true},
		{"suspended for 60 s", nil, signal(syscall.SIGSTOP), signal(syscall.SIGCONT), time.Minute, true},
	} {
		t.Run(f.name, func(t *testing.T) {
			for _, name := range f.needs {
				if env(name) == "" {
					t.Skipf("SSTPROXY_INTEROP_%s is not set", name)
				}
			}
			if f.long && env("LONG") == "" {
				t.Skip("takes minutes: SSTPROXY_INTEROP_LONG is not set")
			}
			<-time.After(forget)
			c := s.up(t)
			t.Cleanup(func() { logOf(t, c) })
			transfers := s.startTransfers(t, c, f.lasts+30*time.Second)
			transfers.moved(t, "before")
			f.begin(t, c)
			if f.end != nil {
				<-time.After(f.lasts)
				f.end(t, c)
			}
			over := time.Now()
			transfers.moved(t, "after")
			t.Logf("both transfers moved on %v after the fault's end", time.Since(over).Round(10*time.Millisecond))
			transfers.finish(t)
			c.down(t)
		})
	}
	t.Run("idle for 30 min", func(t *testing.T) { s.testLongIdle(t, env("LONG")) })
}

// forget is how long a server may take to free the address of a session that
// has ended: the next session is to have that address from its beginning.
const forget = 5 * time.Second

// logOf shows what a command that failed has logged, without the packets.
func logOf(t *testing.T, c *command) {
	if !t.Failed() {
		return
	}
	for line := range strings.Lines(c.stderr.String()) {
		if !strings.Contains(line, "level=DEBUG") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// pace is how much a paced transfer moves in a second, in octets.
const pace = 50 * 64 << 10

// paced moves 64 KiB every 20 ms, and what is left without a pause once it is
// told to finish. It tells of each read.
type paced struct {
	io.Reader
	tick *time.Ticker
	done chan struct{}
	news chan struct{} // capacity 1
}

func newPaced(r io.Reader) *paced {
	return &paced{Reader: r, tick: time.NewTicker(20 * time.Millisecond), done: make(chan struct{}), news: make(chan struct{}, 1)}
}

func (p *paced) Read(b []byte) (int, error) {
	select {
	case <-p.tick.C:
	case <-p.done:
	}
	n, err := p.Reader.Read(b[:min(len(b), 64<<10)])
	select {
	case p.news <- struct{}{}:
	default:
	}
	return n, err
}

// transfers are a download and an upload under way.
type transfers struct {
	down, up     *paced
	downed, sent chan error
}

// startTransfers starts both, for a time at least.
func (s interop) startTransfers(t *testing.T, c *command, d time.Duration) *transfers {
	t.Helper()
	client, size := c.client(t, "socks5h://"), int64(d.Seconds())*pace
	resp, err := client.Get(fmt.Sprintf("%s/bytes/%d", s.url, size))
	if err != nil {
		t.Fatal(err)
	}
	tr := &transfers{down: newPaced(resp.Body), up: newPaced(pattern(size)), downed: make(chan error, 1), sent: make(chan error, 1)}
	go func() { // ends with down, or with the connection
		defer resp.Body.Close()
		tr.downed <- checkPattern(tr.down, size)
	}()
	go func() { tr.sent <- s.upload(client, tr.up, size) }() // ends with up, or with the connection
	return tr
}

// checkPattern reads to the end and wants to see [pattern].
func checkPattern(r io.Reader, size int64) error {
	got, want := sha256.New(), sha256.New()
	n, err := io.Copy(got, r)
	if err != nil {
		return err
	}
	io.Copy(want, pattern(size))
	if n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		return fmt.Errorf("got %d octets of %d, or wrong ones", n, size)
	}
	return nil
}

// upload posts what r yields and compares what the target has counted and
// summed with [pattern].
func (s interop) upload(client *http.Client, r io.Reader, size int64) error {
	req, err := http.NewRequest(http.MethodPost, s.url+"/sink", r)
	if err != nil {
		return err
	}
	req.ContentLength = size
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	sum := sha256.New()
	io.Copy(sum, pattern(size))
	if want := fmt.Sprintf("%d %x", size, sum.Sum(nil)); strings.TrimSpace(string(got)) != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// moved waits until much has moved each way from now on: more than any buffer
// on the way holds.
func (tr *transfers) moved(t *testing.T, when string) {
	t.Helper()
	timeout := time.After(3 * time.Minute)
	for _, p := range []*paced{tr.down, tr.up} {
		for range 50 {
			select {
			case <-p.news:
			case err := <-tr.downed:
				t.Fatalf("%s the fault: download ended: %v", when, err)
			case err := <-tr.sent:
				t.Fatalf("%s the fault: upload ended: %v", when, err)
			case <-timeout:
				t.Fatalf("%s the fault: nothing moves", when)
			}
		}
	}
}

// finish ends both and wants every octet right.
func (tr *transfers) finish(t *testing.T) {
	t.Helper()
	close(tr.down.done)
	close(tr.up.done)
	if err := <-tr.downed; err != nil {
		t.Errorf("download: %v", err)
	}
	if err := <-tr.sent; err != nil {
		t.Errorf("upload: %v", err)
	}
}

// Half an hour without a byte of the user's: alive, and at the cost of little
// processor time.
func (s interop) testLongIdle(t *testing.T, long string) {
	if long == "" {
		t.Skip("takes half an hour: SSTPROXY_INTEROP_LONG is not set")
	}
	c := s.up(t)
	s.idle(t, c, 30*time.Minute)
	if line, _ := c.stderr.find("connection lost"); line != "" {
		t.Errorf("the session did not last: %s", line)
	}
	c.down(t)
	t.Logf("processor time: %v user, %v system", c.state.UserTime(), c.state.SystemTime())
}
