package main

import (
	"bufio"
	"testing"
	"time"

	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// A thousand sessions, one after the other: a connection through the tunnel
// lives through all of them, and nothing grows.
func TestThousandReconnects(t *testing.T) {
	s := startSoak(t, 1, 15*time.Second, patience)
	c, err := s.load.dial(s.load.proxies[0], s.load.name("echo")+":7")
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	ends := []func(){
		s.site.server.Line().Reset,
		s.site.server.Line().Cut,
		func() {
			for _, c := range s.site.server.Sessions() {
				c.Disconnect(sstp.StatusNoError)
			}
		},
	}
	const reconnects, warm = 1000, 250
	for n := 1; n <= reconnects; n++ {
		ends[n%len(ends)]()
		s.await(n + 1)
		if err := s.load.line(c, in, uint64(n)); err != nil {
			t.Fatalf("after %d reconnects: %v", n, err)
		}
		if n == warm || n == reconnects {
			s.rest()
		}
	}
	c.Close()
	s.end()
	if n := s.site.server.Count(tunneltest.EventIPCPOpened); n != reconnects+1 {
		t.Errorf("%d sessions, want %d", n, reconnects+1)
	}
	begin, end := s.residues[0], s.residues[1]
	if end.goroutines > begin.goroutines+10 || end.files > begin.files+5 {
		t.Errorf("%d goroutines and %d files after %d reconnects, %d and %d after %d",
			end.goroutines, end.files, reconnects, begin.goroutines, begin.files, warm)
	}
	t.Logf("live heap after %d reconnects %d KiB, after %d %d KiB; goroutines %d and %d, files %d and %d", warm, begin.heap>>10,
		reconnects, end.heap>>10, begin.goroutines, end.goroutines, begin.files, end.files)
	s.judge()
}
