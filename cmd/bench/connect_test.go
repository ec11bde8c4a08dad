package main

import (
	"strings"
	"testing"
	"time"
)

func TestWatchStart(t *testing.T) {
	lines := make(chan string, 5)
	lines <- `level=INFO msg=connecting peer=127.0.0.1:443 user=bench`
	lines <- `level=INFO msg="tunnel up" peer=127.0.0.1:443 dur=1s phases.tcp=310.5µs phases.tls=12ms`
	lines <- `level=INFO msg="proxy listening" url=socks5h://127.0.0.1:40123`
	close(lines)
	c, err := watchStart(time.Now(), lines)
	if err != nil || c.proxy != "127.0.0.1:40123" || c.first <= 0 || c.ready < c.first {
		t.Fatalf("watchStart = %+v, %v", c, err)
	}
	if c.connect() != 12310500*time.Nanosecond || c.phase("tls") != 12*time.Millisecond || c.phase("lcp") != 0 {
		t.Errorf("connect %v, tls %v, lcp %v", c.connect(), c.phase("tls"), c.phase("lcp"))
	}
	lines = make(chan string, 1)
	lines <- "sstproxy: error: the server refused"
	close(lines)
	if _, err := watchStart(time.Now(), lines); err == nil || !strings.Contains(err.Error(), "the server refused") {
		t.Errorf("watchStart of a failure: %v, want the program's own words", err)
	}
}
