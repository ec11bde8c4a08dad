package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	xproxy "golang.org/x/net/proxy"
)

// TestSOCKSForeignClient uses the client of golang.org/x/net.
func TestSOCKSForeignClient(t *testing.T) {
	d := &dials{to: listen(t, echo)}
	f := serve(t, Config{Dial: d.dial}, ModeSOCKS5)
	client, err := xproxy.SOCKS5("tcp", f.addr, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	addresses := []string{"intranet:80", "MiXed.Case.Test.:65535", "10.1.2.3:22", "[2001:db8::1]:443", "[::ffff:10.0.0.1]:1"}
	for _, address := range addresses {
		c, err := client.Dial("tcp", address)
		if err != nil {
			t.Fatal(address, err)
		}
		write(t, c, "hello")
		want(t, c, "hello")
		c.Close()
	}
	asked := []string{"tcp intranet:80", "tcp MiXed.Case.Test.:65535", "tcp 10.1.2.3:22", "tcp [2001:db8::1]:443", "tcp 10.0.0.1:1"}
	if got := d.list(); !slices.Equal(got, asked) {
		t.Errorf("got dials %q, want %q", got, asked)
	}
}

func TestSOCKSAuthForeignClient(t *testing.T) {
	d := &dials{to: listen(t, echo)}
	f := serve(t, Config{Dial: d.dial, User: "alice", Password: "correct horse"}, ModeAuto)
	for _, tt := range []struct {
		auth *xproxy.Auth
		ok   bool
	}{
		{&xproxy.Auth{User: "alice", Password: "correct horse"}, true},
		{&xproxy.Auth{User: "alice", Password: "correct hors"}, false},
		{&xproxy.Auth{User: "alicf", Password: "correct horse"}, false},
		{&xproxy.Auth{User: "correct horse", Password: "alice"}, false},
		{nil, false},
	} {
		client, err := xproxy.SOCKS5("tcp", f.addr, tt.auth, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.Dial("tcp", "intranet:80")
		if (err == nil) != tt.ok {
			t.Errorf("%+v: got %v, want ok %t", tt.auth, err, tt.ok)
		}
		if err == nil {
			c.Close()
		}
	}
	if got := len(d.list()); got != 1 {
		t.Errorf("got %d dials, want 1", got)
	}
}

// TestSOCKSBytes holds dialogues against RFC 1928 and RFC 1929.
func TestSOCKSBytes(t *testing.T) {
	d := &dials{to: listen(t, echo)}
	open := serve(t, Config{Dial: d.dial}, ModeAuto)
	locked := serve(t, Config{Dial: d.dial, User: "u", Password: "p"}, ModeAuto)
	const refused = "\x00\x01\x00\x00\x00\x00\x00\x00"
	for _, tt := range []struct {
		name, send, want string
		f                *fixture
	}{
		{"BIND", "\x05\x01\x00" + socksRequestTo(2, "h", 1), "\x05\x00\x05\x07" + refused, open},
		{"UDP ASSOCIATE", "\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x00\x05\x07" + refused, open},
		{"RESOLVE of Tor", "\x05\x01\x00" + socksRequestTo(0xf0, "h", 0), "\x05\x00\x05\x07" + refused, open},
		{"command 0", "\x05\x01\x00" + socksRequestTo(0, "h", 0), "\x05\x00\x05\x07" + refused, open},
		{"address type", "\x05\x01\x00\x05\x01\x00\x02\x00", "\x05\x00\x05\x08" + refused, open},
		{"empty name", "\x05\x01\x00" + socksRequestTo(1, "", 80), "\x05\x00\x05\x01" + refused, open},
		{"name with a NUL", "\x05\x01\x00" + socksRequestTo(1, "a\x00b", 80), "\x05\x00\x05\x01" + refused, open},
		{"no methods", "\x05\x00", "\x05\xff", open},
		{"GSSAPI only", "\x05\x01\x01", "\x05\xff", open},
		{"password though none is asked for", "\x05\x01\x02\x01\x01x\x01y" + socksRequestTo(2, "h", 1), "\x05\x02\x01\x00\x05\x07" + refused, open},
		{"no password", "\x05\x01\x00", "\x05\xff", locked},
		{"right password", "\x05\x02\x00\x02\x01\x01u\x01p" + socksRequestTo(2, "h", 1), "\x05\x02\x01\x00\x05\x07" + refused, locked},
		{"wrong password", "\x05\x02\x00\x02\x01\x01u\x01q" + socksRequestTo(1, "h", 1), "\x05\x02\x01\x01", locked},
		{"empty password", "\x05\x02\x00\x02\x01\x00\x00", "\x05\x02\x01\x01", locked},
		{"version of RFC 1929", "\x05\x01\x02\x05\x01u\x01p", "\x05\x02", locked},
		{"version in the request", "\x05\x01\x00\x04\x01\x00\x01", "\x05\x00", open},
		{"RESOLVE_PTR of Tor", "\x05\x01\x00\x05\xf1\x00\x01\x0a\x01\x02\x03\x00\x00", "\x05\x00\x05\x07" + refused, open},
		{"SOCKS4 on a locked port", "\x04\x01\x00\x50\x0a\x00\x00\x01me\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00", locked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, tt.f.addr)
			write(t, c, tt.send)
			want(t, c, tt.want)
			wantEOF(t, c)
		})
	}
	if got := d.list(); len(got) > 0 {
		t.Errorf("got dials %q, want none", got)
	}
}

// TestOneProtocol: a client of another protocol, be it TLS, is not kept waiting.
func TestOneProtocol(t *testing.T) {
	for _, tt := range []struct {
		m     Mode
		first string
	}{
		{ModeSOCKS5, "G"}, {ModeHTTP, "\x05\x01\x00"}, {ModeAuto, "\x16\x03\x01"}, {ModeHTTP, "\x16\x03\x01"},
	} {
		f := serve(t, Config{Dial: (&dials{}).dial}, tt.m)
		c := connect(t, f.addr)
		write(t, c, tt.first)
		wantEOF(t, c)
	}
}

// TestSOCKSPrefixes closes after every part of a request, and sends the whole
// octet by octet.
func TestSOCKSPrefixes(t *testing.T) {
	d := &dials{to: listen(t, echo)}
	f := serve(t, Config{Dial: d.dial, User: "u", Password: "p"}, ModeAuto)
	whole := "\x05\x01\x02\x01\x01u\x01p" + socksRequestTo(1, "host.test", 80)
	for n := range len(whole) {
		c := connect(t, f.addr)
		write(t, c, whole[:n])
		c.CloseWrite()
		answer, err := io.ReadAll(c)
		if err != nil || len(answer) > 4 {
			t.Errorf("prefix %d: got % x and %v", n, answer, err)
		}
		c.Close()
	}
	c := connect(t, f.addr)
	c.SetNoDelay(true)
	for i := range len(whole) {
		write(t, c, whole[i:i+1])
	}
	want(t, c, "\x05\x02\x01\x00")
	if got := readReply(t, c); got != 0 {
		t.Errorf("got reply %d, want 0", got)
	}
	if got := len(d.list()); got != 1 {
		t.Errorf("got %d dials, want 1", got)
	}
}

// TestSOCKSEarlyData sends the payload in the same segment as the request.
func TestSOCKSEarlyData(t *testing.T) {
	d := &dials{to: listen(t, echo)}
	f := serve(t, Config{Dial: d.dial}, ModeAuto)
	for _, size := range []int{1, 100, 4096, 100_000} {
		payload := pattern(size)
		c := connect(t, f.addr)
		go func() { // ends with the connection
			io.WriteString(c, "\x05\x01\x00"+socksRequestTo(1, "host.test", 80)+payload)
			c.CloseWrite()
		}()
		want(t, c, "\x05\x00")
		if got := readReply(t, c); got != 0 {
			t.Fatalf("got reply %d, want 0", got)
		}
		want(t, c, payload)
		wantEOF(t, c)
	}
}

// pattern returns n octets in which no two neighbourhoods are alike.
func pattern(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

// hanging returns a DialFunc that waits for its context, and what it saw.
func hanging() (dial DialFunc, begun chan struct{}, ended chan error) {
	begun, ended = make(chan struct{}, 1), make(chan error, 1)
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, ctx.Err()
	}, begun, ended
}

func TestClientGoneCancelsDial(t *testing.T) {
	for name, request := range map[string]string{
		"SOCKS5":  "\x05\x01\x00" + socksRequestTo(1, "host.test", 80),
		"CONNECT": "CONNECT host.test:80 HTTP/1.1\r\nHost: host.test:80\r\n\r\n",
		"GET":     "GET http://host.test/ HTTP/1.1\r\nHost: host.test\r\n\r\n",
	} {
		for how, leave := range map[string]func(*net.TCPConn){
			"close": func(c *net.TCPConn) { c.Close() },
			"reset": func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				dial, begun, ended := hanging()
				f := serve(t, Config{Dial: dial}, ModeAuto)
				c := connect(t, f.addr)
				write(t, c, request)
				wait(t, begun, "the dial")
				leave(c)
				if err := wait(t, ended, "the dial's end"); errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want a cancellation", err)
				}
			})
		}
	}
}

// TestEarlyDataThenEOF: a client that said all it has to say is still there.
func TestEarlyDataThenEOF(t *testing.T) {
	proceed := make(chan struct{})
	d := &dials{to: listen(t, echo)}
	f := serve(t, Config{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		select {
		case <-proceed:
			return d.dial(ctx, network, address)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}, ModeAuto)
	c := connect(t, f.addr)
	write(t, c, "\x05\x01\x00"+socksRequestTo(1, "host.test", 80)+"ping")
	c.CloseWrite()
	want(t, c, "\x05\x00")
	close(proceed)
	if got := readReply(t, c); got != 0 {
		t.Fatalf("got reply %d, want 0", got)
	}
	want(t, c, "ping")
	wantEOF(t, c)
}

func TestAppendReply(t *testing.T) {
	for _, tt := range []struct {
		addr net.Addr
		want string
	}{
		{nil, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		{&net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 0x1234}, "\x05\x00\x00\x01\x0a\x01\x02\x03\x12\x34"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"}, "\x05\x00\x00\x04\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01"},
		{&net.UnixAddr{Name: "/tmp/x", Net: "unix"}, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
	} {
		if got := string(appendReply(nil, 0, tt.addr)); got != tt.want {
			t.Errorf("%v: got % x, want % x", tt.addr, got, tt.want)
		}
	}
}

// pipes is a listener whose connections are made by dial.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	a, b := net.Pipe()
	p.conns <- b
	return a
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// inBubble runs f with a server on pipes, in a bubble with its own clock.
func inBubble(t *testing.T, cfg Config, m Mode, f func(t *testing.T, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		srv := New(cfg)
		done := make(chan error, 1)
		go func() { done <- srv.Serve(p, m) }()
		f(t, p)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = srv.Shutdown(ctx)
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

// TestSlowHandshake: a client gets so much time and no more, whatever it drips.
func TestSlowHandshake(t *testing.T) {
	dial, _, _ := hanging()
	for name, drip := range map[string]string{
		"nothing":   "",
		"SOCKS5":    "\x05\x01",
		"HTTP":      "GET http://host.test/ HT",
		"HTTP only": "",
	} {
		t.Run(name, func(t *testing.T) {
			m := ModeAuto
			if name == "HTTP only" {
				m = ModeHTTP
			}
			inBubble(t, Config{Dial: dial, HandshakeTimeout: 10 * time.Second}, m, func(t *testing.T, p *pipes) {
				begin := time.Now()
				c := p.dial()
				for i, b := range []byte(drip) {
					if i == 0 {
						<-time.After(9 * time.Second) // of the bubble's clock
					}
					if _, err := c.Write([]byte{b}); err != nil {
						t.Fatal(err)
					}
				}
				_, err := io.ReadAll(c)
				if d := time.Since(begin); err != nil || d < 10*time.Second || d > 12*time.Second {
					t.Errorf("got %v after %v, want the end after 10 s", err, d)
				}
			})
		})
	}
}
