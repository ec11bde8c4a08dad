//go:build unix

package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel/tunneltest"
)

// hangupIgnored: the tests were begun by nohup or its like. The program and what it
// starts stay deaf to SIGHUP then.
var hangupIgnored = signal.Ignored(syscall.SIGHUP)

func needsHangup(t *testing.T) {
	t.Helper()
	if hangupIgnored {
		t.Skip("SIGHUP is ignored since before the tests began, as by nohup")
	}
}

// SIGHUP makes a new session, SIGUSR1 tells the state.
func TestReconnectSignal(t *testing.T) {
	needsHangup(t)
	site := startSite(t)
	c := spawn(t, "", []string{"SSTPROXY_PASSWORD=wonderland"}, connectArgs(site.Addr().String(), caFile(t, site.CA()))...)
	c.proxyURL(t, "http://")
	c.process.Signal(syscall.SIGHUP)
	c.stderr.wait(t, "by=user")
	if err := site.WaitCount(t.Context(), tunneltest.EventIPCPOpened, 2); err != nil {
		t.Fatal(err)
	}
	c.process.Signal(syscall.SIGUSR1)
	c.stderr.wait(t, "state of the tunnel")
	c.down(t)
}

// No signal is lost in a burst of the other.
func TestSignalBurst(t *testing.T) {
	needsHangup(t)
	begun, goOn, reconnects := make(chan struct{}, 10), make(chan struct{}), make(chan struct{}, 1)
	end := onSignals(func() { reconnects <- struct{}{} }, func() { begun <- struct{}{}; <-goOn }, func() {})
	defer end()
	seen := make(chan os.Signal, 3)
	signal.Notify(seen, syscall.SIGUSR1, syscall.SIGHUP)
	defer signal.Stop(seen)
	send := func(s syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		<-seen
	}
	send(syscall.SIGUSR1)
	<-begun // and takes its time
	send(syscall.SIGUSR1)
	send(syscall.SIGHUP)
	close(goOn)
	select {
	case <-reconnects:
	case <-time.After(patience):
		t.Error("SIGHUP was lost")
	}
}

// What timeout(1) sends twice is one request to stop; what comes later is another.
func TestUntilSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals, over := make(chan os.Signal), make(chan struct{})
		go func() { // ends with the second signal
			untilSecond(signals)
			close(over)
		}()
		signals <- syscall.SIGTERM
		synctest.Wait()
		select {
		case <-over:
			t.Error("the same signal twice at once was taken for two")
		default:
		}
		time.Sleep(sameRequest)
		signals <- syscall.SIGTERM
		<-over
	})
}

// TestStoppedAtConfig: the end of a command does not wait for a configuration
// that comes from a pipe without a writer.
func TestStoppedAtConfig(t *testing.T) {
	pipe := mkfifo(t)
	const stopped = exitSignal + int(syscall.SIGINT)
	for args, code := range map[string]int{
		"config check":           stopped,
		"connect work":           exitOK,
		"run work -- true":       stopped,
		"nc host 7 --server w":   exitOK,
		"wait work":              stopped,
		"health work":            stopped,
		"connect vpn.test -u me": exitOK,
	} {
		c := start(t, map[string]string{"SSTPROXY_CONFIG": pipe}, strings.Fields(args)...)
		c.stop()
		if got := c.end(t); got.code != code || got.stdout+got.stderr != "" {
			t.Errorf("%s: got %+v, want code %d without a word", args, got, code)
		}
	}

	pipe = mkfifo(t)
	c := spawn(t, "", nil, "config", "check", pipe)
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for the reader
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	c.process.Signal(syscall.SIGTERM)
	if got := c.end(t); got.code != exitSignal+int(syscall.SIGTERM) || got.stderr != "" {
		t.Errorf("got %+v", got)
	}
}

func mkfifo(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "vpn.toml")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What comes from a pipe is a configuration like any other.
func TestConfigFromPipe(t *testing.T) {
	pipe := mkfifo(t)
	c := start(t, nil, "config", "check", pipe)
	if err := os.WriteFile(pipe, []byte("user = 'alice'\n[work]\nserver = 'vpn.test'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.end(t); got.code != exitOK || !strings.Contains(got.stdout, "1 good: work") {
		t.Errorf("got %+v", got)
	}
}
