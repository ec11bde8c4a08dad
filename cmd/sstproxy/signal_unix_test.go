//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel/tunneltest"
)

// SIGHUP makes a new session, SIGUSR1 tells the state.
func TestReconnectSignal(t *testing.T) {
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
