package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
)

// pair is both ends of a TCP connection on loopback.
func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(); f.Close() })
	return n.(*net.TCPConn), f.(*net.TCPConn)
}

// The end of input is passed on, and the answer comes after it.
func TestStdioInputEndsFirst(t *testing.T) {
	near, far := pair(t)
	go func() { // ends with the connection
		b, _ := io.ReadAll(far)
		far.Write(bytes.ToUpper(b))
		far.Close()
	}()
	var out bytes.Buffer
	if err := Stdio(t.Context(), near, strings.NewReader("hello"), &out, false); err != nil || out.String() != "HELLO" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

// The peer's end is passed on, and what comes after it on standard input still
// gets there; unless a person is at the other end.
func TestStdioPeerEndsFirst(t *testing.T) {
	for _, untilPeer := range []bool{false, true} {
		near, far := pair(t)
		in, typed := io.Pipe()
		shown, out := io.Pipe()
		done := make(chan error, 1)
		go func() { done <- Stdio(t.Context(), near, in, out, untilPeer) }()
		io.WriteString(far, "bye")
		far.CloseWrite()
		if b, err := io.ReadAll(shown); err != nil || string(b) != "bye" {
			t.Errorf("output: got %q, %v", b, err)
		}
		if !untilPeer {
			io.WriteString(typed, "last words")
			typed.Close()
			if b, err := io.ReadAll(far); err != nil || string(b) != "last words" {
				t.Errorf("peer: got %q, %v", b, err)
			}
		}
		if err := <-done; err != nil {
			t.Errorf("until the peer's end %v: %v", untilPeer, err)
		}
		typed.Close()
	}
}

// A reset is an error, and so is an input that fails: the peer must not take
// the part it got for the whole.
func TestStdioFails(t *testing.T) {
	near, far := pair(t)
	in, typed := io.Pipe()
	defer typed.Close()
	far.SetLinger(0)
	far.Close()
	if err := Stdio(t.Context(), near, in, io.Discard, false); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: got %v", err)
	}
	near, far = pair(t)
	broken, typed := io.Pipe()
	typed.CloseWithError(io.ErrUnexpectedEOF)
	if err := Stdio(t.Context(), near, broken, io.Discard, false); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("broken input: got %v", err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("broken input: the peer got %v, want a reset", err)
	}
	near, _ = pair(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.ErrUnsupported)
	if err := Stdio(ctx, near, in, io.Discard, false); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("cancelled: got %v", err)
	}
}

// What the peer said before it refused to take more is not lost.
func TestStdioPeerTakesNoMore(t *testing.T) {
	near, far := pair(t)
	far.CloseRead()
	go func() { // ends with the connection
		io.WriteString(far, "enough")
		far.CloseWrite()
	}()
	var out bytes.Buffer
	conn := brokenWriter{near}
	if err := Stdio(t.Context(), conn, strings.NewReader("too much"), &out, false); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v, want EPIPE", err)
	}
	if out.String() != "enough" {
		t.Errorf("got %q", out.String())
	}
}

// brokenWriter is a connection whose peer takes nothing.
type brokenWriter struct{ net.Conn }

func (brokenWriter) Write([]byte) (int, error) { return 0, syscall.EPIPE }
