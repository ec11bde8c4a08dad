package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// exchange sends octets to a server over a pipe, in a bubble, and returns the
// answer and the dials.
func exchange(t *testing.T, cfg Config, in []byte) (out []byte, dialled []string) {
	cfg.Dial = func(_ context.Context, network, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		if network != "tcp" {
			t.Errorf("dialled network %q", network)
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			t.Errorf("dialled %q: %v", address, err)
		}
		return nil, ErrBlocked
	}
	cfg.HandshakeTimeout = time.Second
	cfg.KeepAliveTimeout = time.Second
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		srv := New(cfg)
		done := make(chan error, 1)
		go func() { done <- srv.Serve(p, ModeAuto) }()
		c := p.dial()
		go func() { _, _ = c.Write(in) }() // ends when either side closes
		out, _ = io.ReadAll(io.LimitReader(c, 1<<20))
		c.Close()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
	return out, dialled
}

// FuzzSOCKS sends anything after the first octet of SOCKS5.
func FuzzSOCKS(f *testing.F) {
	for _, s := range []string{
		"", "\x00", "\x01\x00", "\x02\x00\x02", "\xff\x00",
		"\x01\x00" + socksRequestTo(1, "host.test", 80),
		"\x01\x00" + socksRequestTo(1, "", 0),
		"\x01\x00" + socksRequestTo(1, "a\x00\n b", 1) + "early data",
		"\x01\x00" + socksRequestTo(2, "host.test", 80),
		"\x01\x00" + socksRequestTo(3, "0.0.0.0", 0),
		"\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50",
		"\x01\x00\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50",
		"\x01\x00\x05\x01\x00\x02\x00\x00",
		"\x01\x02\x01\x01u\x01p" + socksRequestTo(1, "host.test", 80),
		"\x01\x02\x01\x01u\x01q" + socksRequestTo(1, "host.test", 80),
		"\x01\x02\x02\x00\x00",
	} {
		f.Add([]byte(s), strings.Contains(s, "\x01p"))
	}
	f.Fuzz(func(t *testing.T, in []byte, locked bool) {
		cfg := Config{}
		if locked {
			cfg = Config{User: "u", Password: "p"}
		}
		out, dialled := exchange(t, cfg, append([]byte{5}, in...))
		if len(dialled) > 1 {
			t.Errorf("dialled %q", dialled)
		}
		if len(dialled) == 1 && locked && !bytes.Contains(in, []byte("\x01\x01u\x01p")) {
			t.Errorf("dialled %q without the password", dialled)
		}
		if len(dialled) == 1 && !bytes.HasSuffix(out, []byte("\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00")) {
			t.Errorf("got % x, want a reply at the end", out)
		}
		if len(out) > 2+2+10 || len(out) > 0 && out[0] != 5 {
			t.Errorf("got % x", out)
		}
	})
}

// FuzzHTTPFirstBytes sends anything that is not SOCKS.
func FuzzHTTPFirstBytes(f *testing.F) {
	for _, s := range []string{
		"", "\x16\x03\x01\x02\x00\x01\x00",
		"GET http://host.test/ HTTP/1.1\r\nHost: host.test\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n", "GET http://[::1]:0/ HTTP/1.1\r\nHost:\r\n\r\n",
		"CONNECT host.test:443 HTTP/1.1\r\nHost: x\r\n\r\n\x16\x03\x01", "CONNECT [::1]:x HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT a:1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST http://h/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\nGET http://i/ HTTP/1.1\r\nHost: i\r\n\r\n",
		"POST http://h/ HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"TRACE http://h/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 0 && (in[0] == socksVersion4 || in[0] == socksVersion5) {
			return
		}
		out, dialled := exchange(t, Config{}, in)
		checkAnswers(t, out, len(dialled))
	})
}

// checkAnswers reads a series of answers: each well-formed, one for each dial
// at least.
func checkAnswers(t *testing.T, out []byte, dialled int) {
	t.Helper()
	br := bufio.NewReader(bytes.NewReader(out))
	n := 0
	for {
		if _, err := br.Peek(1); err != nil {
			break
		}
		// The answers to HEAD have no body: they are all read as if they had
		// one, and what does not fit is left.
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("answer %d: %v in %q", n, err, out)
		}
		n++
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return
		}
	}
	if n < dialled {
		t.Errorf("%d dials and %d answers: %q", dialled, n, out)
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"127.0.0.1:1080", ":0", "[::1]:1080", "socks5://127.0.0.1:1", "http://localhost:8080/", "unix:/tmp/x", "unix:@x", "unix:/tmp/x,mode=660", "socks5://", "1080", "[::1%lo]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		e, err := ParseEndpoint(spec)
		if err != nil {
			if e != (Endpoint{}) {
				t.Errorf("got %+v with an error", e)
			}
			return
		}
		again, err := ParseEndpoint(e.String())
		if err != nil || again != e {
			t.Errorf("%q: %+v is written %q and read as %+v, %v", spec, e, e.String(), again, err)
		}
	})
}

// FuzzCanonicalHost: what comes out is ASCII without a port or a path in it, and
// comes out of itself.
func FuzzCanonicalHost(f *testing.F) {
	for _, tt := range hosts {
		f.Add(strings.Trim(tt.written, "[]"))
	}
	f.Fuzz(func(t *testing.T, host string) {
		got, err := canonicalHost(host)
		if err != nil {
			return
		}
		if again, err := canonicalHost(got); again != got || err != nil {
			t.Errorf("%q: got %q, and of that %q and %v", host, got, again, err)
		}
		if h, p, err := net.SplitHostPort(net.JoinHostPort(got, "80")); h != got || p != "80" || err != nil || printable(got) != got || strings.ContainsAny(got, " /@%") {
			t.Errorf("%q: got %q", host, got)
		}
	})
}
