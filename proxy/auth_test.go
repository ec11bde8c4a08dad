package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func tcpAddr(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 4711} }

// TestGuessesWait: each wrong guess makes the next one of its source wait
// longer, be it wrong or right.
func TestGuessesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(credentials{"alice", "right"})
		for _, tt := range []struct {
			from, password string
			ok, guess      bool
			wait           time.Duration
		}{
			{"127.0.0.1", "right", true, false, 0},
			{"127.0.0.1", "wrong 1", false, true, 0},
			{"127.0.0.1", "wrong 1", false, false, 0}, // some program has an old password
			{"127.0.0.2", "right", true, false, 0},
			{"127.0.0.1", "right", true, false, 250 * time.Millisecond},
			{"127.0.0.1", "right", true, false, 0},
			{"127.0.0.1", "wrong 1", false, true, 0},
			{"127.0.0.1", "wrong 2", false, true, 250 * time.Millisecond},
			{"127.0.0.1", "wrong 3", false, true, 500 * time.Millisecond},
			{"127.0.0.1", "wrong 4", false, true, time.Second},
			{"127.0.0.1", "wrong 5", false, true, 2 * time.Second},
			{"127.0.0.1", "wrong 2", false, false, 0},
			{"127.0.0.1", "wrong 1", false, true, 4 * time.Second},
			{"::ffff:127.0.0.1", "wrong 6", false, true, 4 * time.Second},
			{"127.0.0.1", "right", true, false, 4 * time.Second},
			{"2001:db8::1", "wrong 1", false, true, 0},
			{"2001:db8::ffff:0:0:2", "right", true, false, 250 * time.Millisecond},
			{"2001:db8:0:1::1", "right", true, false, 0},
		} {
			begin := time.Now()
			ok, guess := g.check(t.Context(), tcpAddr(tt.from), "alice", tt.password)
			if wait := time.Since(begin); ok != tt.ok || guess != tt.guess || wait != tt.wait {
				t.Errorf("%s %s: got %t, %t after %v; want %t, %t after %v", tt.from, tt.password, ok, guess, wait, tt.ok, tt.guess, tt.wait)
			}
		}
	})
}

// TestGuessesForgotten: a source that stays quiet begins anew.
func TestGuessesForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, from := newGate(credentials{"alice", "right"}), tcpAddr("127.0.0.1")
		for i := range 10 {
			g.check(t.Context(), from, "alice", fmt.Sprint(i))
		}
		<-time.After(forgetAfter + maxDelay + 1) // of the bubble's clock
		begin := time.Now()
		g.check(t.Context(), from, "alice", "wrong")
		g.check(t.Context(), from, "alice", "wrong too")
		if got := time.Since(begin); got != firstDelay {
			t.Errorf("waited %v, want %v", got, firstDelay)
		}
	})
}

// TestGuessersInParallel: more connections do not guess faster.
func TestGuessersInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(credentials{"alice", "right"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		guesses := make(chan bool, 1000)
		for i := range cap(guesses) {
			go func() { // ends with ctx
				_, guess := g.check(ctx, tcpAddr("192.0.2.1"), "alice", fmt.Sprint(i))
				guesses <- guess
			}()
		}
		n := 0
		for range cap(guesses) {
			if <-guesses {
				n++
			}
		}
		if n < 5 || n > 20 {
			t.Errorf("got %d guesses in a minute, want about one in four seconds", n)
		}
	})
}

// TestGuessersBounded: many sources take no more memory than some do.
func TestGuessersBounded(t *testing.T) {
	g := newGate(credentials{"alice", "right"})
	for i := range 3 * maxSources {
		g.check(t.Context(), tcpAddr(fmt.Sprintf("10.0.%d.%d", i/256, i%256)), "alice", "wrong")
	}
	if len(g.sources) != maxSources {
		t.Errorf("got %d sources, want %d", len(g.sources), maxSources)
	}
	from := tcpAddr("10.9.9.9")
	synctest.Test(t, func(t *testing.T) {
		for i := range 20 {
			g.check(t.Context(), from, "alice", fmt.Sprint(i))
		}
	})
	if n := len(g.sources[sourceOf(from)].last); n != maxRepeats {
		t.Errorf("got %d guesses kept, want %d", n, maxRepeats)
	}
}

// TestGuessesEndToEnd: both protocols share one count, the right pair is
// accepted after the wait, a connection that had shown it does not wait, and no
// password gets into the log.
func TestGuessesEndToEnd(t *testing.T) {
	var log bytes.Buffer
	cfg := failing(ErrBlocked)
	cfg.User, cfg.Password = "alice", "right-secret"
	cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	inBubble(t, cfg, ModeAuto, func(t *testing.T, p *pipes) {
		trusted := p.dial()
		br := bufio.NewReader(trusted)
		loginStep(t, trusted, br, "right-secret", 403, 0)
		loginStep(t, p.dial(), nil, "wrong-secret-1", 407, 0)
		socksStep(t, p.dial(), "wrong-secret-2", 1, firstDelay)
		loginStep(t, trusted, br, "right-secret", 403, 0)
		loginStep(t, p.dial(), nil, "wrong-secret-3", 407, 2*firstDelay)
		socksStep(t, p.dial(), "wrong-secret-3", 1, 0)
		socksStep(t, p.dial(), "right-secret", 0, 4*firstDelay)
		loginStep(t, p.dial(), nil, "right-secret", 403, 0)
	})
	if strings.Contains(log.String(), "secret") || strings.Count(log.String(), "wrong proxy credentials") != 3 {
		t.Errorf("the log is\n%s", log.String())
	}
}

func loginStep(t *testing.T, c net.Conn, br *bufio.Reader, password string, status int, wait time.Duration) {
	t.Helper()
	if br == nil {
		br = bufio.NewReader(c)
		defer c.Close()
	}
	begin := time.Now()
	r, _ := http.NewRequest("GET", "http://h.test/", nil)
	r.SetBasicAuth("alice", password)
	write(t, c, "GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\nProxy-Authorization: "+r.Header.Get("Authorization")+"\r\n\r\n")
	res, _ := answer(t, br, "GET")
	if got := time.Since(begin); res.StatusCode != status || got != wait {
		t.Errorf("HTTP %s: got %d after %v, want %d after %v", password, res.StatusCode, got, status, wait)
	}
}

func socksStep(t *testing.T, c net.Conn, password string, status byte, wait time.Duration) {
	t.Helper()
	defer c.Close()
	begin := time.Now()
	write(t, c, "\x05\x01\x02")
	want(t, c, "\x05\x02")
	write(t, c, "\x01\x05alice"+string(rune(len(password)))+password)
	var reply [2]byte
	if _, err := io.ReadFull(c, reply[:]); err != nil {
		t.Fatal(err)
	}
	if got := time.Since(begin); reply[1] != status || got != wait {
		t.Errorf("SOCKS %s: got %d after %v, want %d after %v", password, reply[1], got, status, wait)
	}
}
