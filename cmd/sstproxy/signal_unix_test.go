//go:build unix

package main

import (
	"syscall"
	"testing"

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
	c.stop()
	if got := c.end(t); got.code != exitOK {
		t.Errorf("got code %d:\n%s", got.code, got.stderr)
	}
}
