//go:build unix

package main

import (
	"net"
	"testing"
	"time"
)

// TestHost: several guests at a time, who come and go in any order.
func TestHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go host(l.(*net.TCPListener)) // ends with the process
	dial := func() net.Conn {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, gone, last := dial(), dial(), dial()
	guest(t, last, 3)
	gone.Close()
	guest(t, first, 1)
	guest(t, dial(), 4)
}
