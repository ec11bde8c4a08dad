package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// TestMaxIdle: of connections without a request the oldest goes; one that
// carries something does not.
func TestMaxIdle(t *testing.T) {
	cfg := holding(t)
	cfg.MaxIdle = 3
	f := serve(t, cfg, ModeAuto)
	busy := socksConnected(t, f.addr)
	first := connect(t, f.addr)
	write(t, first, "GET http://h")
	kept := connect(t, f.addr)
	write(t, kept, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	br := bufio.NewReader(kept)
	answer(t, br, "GET")
	var greeted []net.Conn
	for range 2 { // each is met before the next comes
		c := connect(t, f.addr)
		write(t, c, "\x05\x01\x00")
		want(t, c, "\x05\x00")
		greeted = append(greeted, c)
	}
	if b, err := io.ReadAll(first); len(b) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the oldest got %q and %v, want the end", b, err)
	}
	// What was idle in between has its place by when that began.
	write(t, kept, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	answer(t, br, "GET")
	third := connect(t, f.addr)
	write(t, third, "\x05\x01\x00")
	want(t, third, "\x05\x00")
	if b, err := io.ReadAll(greeted[0]); len(b) > 0 || err != nil {
		t.Errorf("the oldest got %q and %v, want the end", b, err)
	}
	write(t, kept, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	answer(t, br, "GET")
	write(t, busy, "x")
	write(t, greeted[1], socksRequestTo(1, "h.test", 80))
	if got := readReply(t, greeted[1]); got != 0 {
		t.Errorf("got reply %d, want 0", got)
	}
}

// TestFieldBombs: many small fields cost more than they have octets.
func TestFieldBombs(t *testing.T) {
	o := &origin{}
	f := serve(t, Config{Dial: (&dials{to: listen(t, o.serve)}).dial}, ModeAuto)
	for n, want := range map[int]int{200: 200, 300: 431, 10_000: 431} {
		res, _ := ask(t, f.addr, fetch+strings.Repeat("A:b\r\n", n)+"\r\n")
		if res.StatusCode != want {
			t.Errorf("%d fields: got %d, want %d", n, res.StatusCode, want)
		}
	}
}

// TestHostileServer: what a server sends without end or measure does not reach
// the client so.
func TestHostileServer(t *testing.T) {
	for name, tt := range map[string]struct {
		head, again, tail string
		times             int
		status            int
	}{
		"fields":          {"HTTP/1.1 200 OK\r\n", "A: b\r\n", "Content-Length: 0\r\n\r\n", 300, 502},
		"1xx flood":       {"", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 33, 502},
		"1xx of large":    {"", "HTTP/1.1 103 Early Hints\r\nX: " + strings.Repeat("x", 300<<10) + "\r\n\r\n", "", 1, 502},
		"100 flood":       {"", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 33, 502},
		"1xx as usual":    {"", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 32, 200},
		"folded for ever": {"HTTP/1.1 200 OK\r\nA: b\r\n", " c\r\n", "", 100_000, 502},
	} {
		t.Run(name, func(t *testing.T) {
			f := raw(t, func(_ *http.Request, _ *bufio.Reader, c *net.TCPConn) {
				io.WriteString(c, tt.head+strings.Repeat(tt.again, tt.times)+tt.tail)
			})
			c := connect(t, f.addr)
			write(t, c, fetch+"\r\n")
			br := bufio.NewReader(c)
			for {
				res, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if res.StatusCode >= 200 {
					if res.StatusCode != tt.status {
						t.Errorf("got %d, want %d", res.StatusCode, tt.status)
					}
					return
				}
			}
		})
	}
}

// TestTrailerBomb: the trailers of an answer are bounded too, and an answer that
// ends in too many does not look whole.
func TestTrailerBomb(t *testing.T) {
	f := raw(t, func(_ *http.Request, _ *bufio.Reader, c *net.TCPConn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n"+strings.Repeat("A: b\r\n", 10_000)+"\r\n")
	})
	c := connect(t, f.addr)
	write(t, c, fetch+"\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("got %q with %d trailers and an orderly end", b, len(res.Trailer))
	}
}

// TestEndlessAnswer: a server that sends for ever is cut off with its client.
func TestEndlessAnswer(t *testing.T) {
	for name, version := range map[string]string{"chunks": "1.1", "to the end": "1.0"} {
		t.Run(name, func(t *testing.T) {
			cut := make(chan error, 1)
			f := raw(t, func(_ *http.Request, _ *bufio.Reader, c *net.TCPConn) {
				fmt.Fprintf(c, "HTTP/%s 200 OK\r\nContent-Type: x\r\n\r\n", version)
				for {
					if _, err := c.Write(make([]byte, 64<<10)); err != nil {
						cut <- err
						return
					}
				}
			})
			c := connect(t, f.addr)
			write(t, c, fetch+"\r\n")
			readUntil(t, c, "\r\n\r\n")
			c.Close()
			wait(t, cut, "the server's end")
		})
	}
}

// TestEndlessUpload: the same the other way round.
func TestEndlessUpload(t *testing.T) {
	f := raw(t, func(_ *http.Request, _ *bufio.Reader, c *net.TCPConn) {
		c.SetLinger(0)
		c.Close()
	})
	c := connect(t, f.addr)
	write(t, c, post+"Transfer-Encoding: chunked\r\n\r\n")
	for {
		if _, err := io.WriteString(c, "5\r\nabcde\r\n"); err != nil {
			return // what connect allows is long over a refusal
		}
	}
}
