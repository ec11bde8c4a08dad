//go:build unix

package main

import (
	"io"
	"log"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/armon/go-socks5"
)

// serving serves connections until the end of the test.
func serving(t *testing.T, handle func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return l.Addr().String()
}

// TestChurn: each connection goes through SOCKS to the service and back, and is
// counted once.
func TestChurn(t *testing.T) {
	var answered atomic.Int64
	service := serving(t, func(c net.Conn) {
		answer(c)
		answered.Add(1)
	})
	server, err := socks5.New(&socks5.Config{Logger: log.New(io.Discard, "", 0)})
	if err != nil {
		t.Fatal(err)
	}
	s := &side{name: "plain", proxy: serving(t, func(c net.Conn) { server.ServeConn(c) }), service: service}
	n, took, err := s.churn(50*time.Millisecond, 4)
	if err != nil || n < 4 || took < 50*time.Millisecond {
		t.Fatalf("%d connections in %v, %v", n, took, err)
	}
	for end := time.Now().Add(10 * time.Second); answered.Load() < int64(n); {
		if time.Now().After(end) {
			t.Fatalf("%d connections of %d came to the service", answered.Load(), n)
		}
		<-time.After(time.Millisecond)
	}
}

// TestChurnFails: a proxy that ends, or answers something else, ends the load
// with the reason.
func TestChurnFails(t *testing.T) {
	for answer, want := range map[string]string{
		"":             "the connection was closed",
		"\x05\xff":     "octet 1 of answer 0 is 0xff, want 0x0",
		"\x05\x00\x05": "the connection was closed",
	} {
		s := &side{name: "plain", service: "127.0.0.1:1", proxy: serving(t, func(c net.Conn) {
			io.ReadFull(c, make([]byte, 3))
			io.WriteString(c, answer)
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
		})}
		n, _, err := s.churn(time.Second, 2)
		if n != 0 || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("answer %q: %d connections, %v, want %q", answer, n, err, want)
		}
	}
}
