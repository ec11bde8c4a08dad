package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
)

// joined starts a server that joins what comes to a loopback port with what
// dial opens.
func joined(t *testing.T, dial func(context.Context) (net.Conn, error)) *net.TCPConn {
	t.Helper()
	notUsed := func(context.Context, string, string) (net.Conn, error) {
		t.Error("Config.Dial was used")
		return nil, errors.ErrUnsupported
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, done := New(Config{Dial: notUsed}), make(chan error, 1)
	go func() { done <- srv.Join(l, dial) }()
	closeAtEnd(t, srv, done)
	return connect(t, l.Addr().String())
}

// TestJoin: what the client sent before the dial was done, even its end, comes
// through, and the answer too.
func TestJoin(t *testing.T) {
	for _, text := range []string{"", "hello", strings.Repeat("x", 1<<20)} {
		far := listen(t, func(c *net.TCPConn) {
			b, _ := io.ReadAll(c)
			c.Write(append([]byte("got "), b...))
		})
		ready := make(chan struct{})
		c := joined(t, func(ctx context.Context) (net.Conn, error) {
			<-ready
			return new(net.Dialer).DialContext(ctx, "tcp", far)
		})
		sent := make(chan struct{})
		go func() { // ends with the connection
			defer close(sent)
			io.WriteString(c, text)
			c.CloseWrite()
		}()
		close(ready)
		b, err := io.ReadAll(c)
		if err != nil || string(b) != "got "+text {
			t.Errorf("%d octets: got %d, %v", len(text), len(b), err)
		}
		<-sent
	}
}

// TestJoinFails: the client of a dial that failed sees a reset, not an end.
func TestJoinFails(t *testing.T) {
	connected := make(chan struct{})
	c := joined(t, func(context.Context) (net.Conn, error) {
		<-connected
		return nil, syscall.ECONNREFUSED
	})
	close(connected)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

// TestJoinClientGone: a client's reset ends its dial.
func TestJoinClientGone(t *testing.T) {
	ended, began := make(chan error, 1), make(chan struct{})
	c := joined(t, func(ctx context.Context) (net.Conn, error) {
		close(began)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, ctx.Err()
	})
	<-began
	c.SetLinger(0)
	c.Close()
	if err := wait(t, ended, "the end of the dial"); !errors.Is(err, errClientGone) {
		t.Errorf("the dial ended with %v", err)
	}
}

// TestDestination: what a user may type, and what he is told.
func TestDestination(t *testing.T) {
	for in, want := range map[string]string{
		"Intranet:80": "Intranet:80", "10.0.0.1:1": "10.0.0.1:1", "[FD00::1]:22": "[fd00::1]:22", "[::ffff:10.0.0.1]:22": "10.0.0.1:22",
	} {
		if got, err := Destination(in); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"intranet": "want HOST:PORT", "fd00::1:22": "want HOST:PORT", ":80": "no host", "a:0": "port", "a:ssh": "port",
		"localhost:80": "is this machine", "127.0.0.1:80": "loopback", "0.0.0.0:80": "no destination", "127.1:80": "no IPv4 address",
	} {
		if got, err := Destination(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %s, %v; want %q", in, got, err, want)
		}
	}
}
