package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// binds is a Listen that counts what it opens, on loopback.
type binds struct {
	networks chan string
	opened   chan net.Listener
}

func newBinds() *binds { return &binds{make(chan string, 10), make(chan net.Listener, 10)} }

func (b *binds) listen(_ context.Context, network, address string) (net.Listener, error) {
	b.networks <- network
	if address != "" {
		return nil, errors.New("asked for " + address)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err == nil {
		b.opened <- l
	}
	return l, err
}

func (b *binds) config() Config {
	n := &udpNet{}
	return Config{Dial: (&dials{}).dial, Listen: b.listen, Lookup: n.lookup}
}

// bound reads a reply that says yes, and returns its address.
func bound(t testing.TB, r io.Reader) string {
	t.Helper()
	var b [10]byte
	if _, err := io.ReadFull(r, b[:]); err != nil || b[0] != 5 || b[1] != 0 || b[3] != 1 {
		t.Fatalf("got reply % x, %v", b, err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), binary.BigEndian.Uint16(b[8:])).String()
}

// bound4 is bound for SOCKS4.
func bound4(t testing.TB, r io.Reader) string {
	t.Helper()
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil || b[0] != 0 || b[1] != 90 {
		t.Fatalf("got reply % x, %v", b, err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), binary.BigEndian.Uint16(b[2:])).String()
}

// TestBind: two replies, then octets both ways; nobody else gets in.
func TestBind(t *testing.T) {
	for name, tt := range map[string]struct {
		request string
		reply   func(testing.TB, io.Reader) string
	}{
		"SOCKS5":         {"\x05\x01\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", bound},
		"SOCKS5, a peer": {"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x15", bound},
		"SOCKS4":         {"\x04\x02\x00\x00\x00\x00\x00\x00me\x00", bound4},
		"SOCKS4, a peer": {"\x04\x02\x00\x15\x7f\x00\x00\x01me\x00", bound4},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBinds()
			c := connect(t, serve(t, b.config(), ModeAuto).addr)
			write(t, c, tt.request)
			if tt.request[0] == 5 {
				want(t, c, "\x05\x00")
			}
			at := tt.reply(t, c)
			write(t, c, "early")
			peer := connect(t, at)
			if got := tt.reply(t, c); got != peer.LocalAddr().String() {
				t.Errorf("got peer %v, want %v", got, peer.LocalAddr())
			}
			want(t, peer, "early")
			write(t, peer, "hello")
			want(t, c, "hello")
			if second, err := net.Dial("tcp", at); err == nil {
				second.Close()
				t.Error("the listener is still open")
			}
			peer.CloseWrite()
			wantEOF(t, c)
			write(t, c, "after")
			c.CloseWrite()
			want(t, peer, "after")
			wantEOF(t, peer)
			if got := <-b.networks; got != "tcp4" {
				t.Errorf("got network %q", got)
			}
		})
	}
}

// TestBindStranger: somebody else than the named peer is sent away.
func TestBindStranger(t *testing.T) {
	b := newBinds()
	cfg := b.config()
	cfg.Lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.2")}, nil
	}
	c := connect(t, serve(t, cfg, ModeAuto).addr)
	write(t, c, "\x05\x01\x00"+socksRequestTo(2, "ftp.test", 21))
	want(t, c, "\x05\x00")
	at := bound(t, c)
	if stranger, err := net.Dial("tcp", at); err == nil { // from 127.0.0.1; else it was reset at once
		defer stranger.Close()
		stranger.SetDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, stranger); isTimeout(err) {
			t.Fatal("a stranger stays connected")
		}
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	peer, err := d.Dial("tcp", at)
	if err != nil {
		t.Skip("127.0.0.2 is not this machine's:", err)
	}
	defer peer.Close()
	if got := bound(t, c); got != peer.LocalAddr().String() {
		t.Errorf("got peer %v, want %v", got, peer.LocalAddr())
	}
}

// TestBindNowhere: a name that leads nowhere, as name servers say of those that
// they block, lets nobody in. 0.0.0.0 itself is anybody.
func TestBindNowhere(t *testing.T) {
	for _, nowhere := range []string{"0.0.0.0", "::", "::ffff:0.0.0.0"} {
		b := newBinds()
		cfg := b.config()
		cfg.Lookup = func(context.Context, string, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(nowhere)}, nil
		}
		c := connect(t, serve(t, cfg, ModeAuto).addr)
		write(t, c, "\x05\x01\x00"+socksRequestTo(2, "ftp.test", 21))
		want(t, c, "\x05\x00")
		if got := readReply(t, c); got != replyNotAllowed {
			t.Errorf("%s: got reply %d, want %d", nowhere, got, replyNotAllowed)
		}
	}
}

// TestBindEnds: what ends the wait, and what the client is told.
func TestBindEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		limit time.Duration
		end   func(c *net.TCPConn, l net.Listener)
		reply byte
	}{
		"nobody comes":     {time.Millisecond, func(*net.TCPConn, net.Listener) {}, replyTTLExpired},
		"address changed":  {time.Hour, func(_ *net.TCPConn, l net.Listener) { l.Close() }, replyNetworkUnreachable},
		"client goes away": {time.Hour, func(c *net.TCPConn, _ net.Listener) { c.Close() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBinds()
			cfg := b.config()
			cfg.BindTimeout = tt.limit
			c := connect(t, serve(t, cfg, ModeAuto).addr)
			write(t, c, "\x05\x01\x00\x05\x02\x00\x01\xc0\x00\x02\x01\x00\x15") // not who probes below
			want(t, c, "\x05\x00")
			at := bound(t, c)
			tt.end(c, <-b.opened)
			if tt.reply != 0 {
				if got := readReply(t, c); got != tt.reply {
					t.Errorf("got reply %d, want %d", got, tt.reply)
				}
				wantEOF(t, c)
				return
			}
			for end := time.Now().Add(patience); ; {
				probe, err := net.Dial("tcp", at)
				if err != nil {
					return
				}
				probe.Close()
				if time.Now().After(end) {
					t.Fatal("the listener stays open")
				}
			}
		})
	}
}

func TestBindFailures(t *testing.T) {
	for _, tt := range replies {
		cfg := failing(nil)
		cfg.Listen = func(context.Context, string, string) (net.Listener, error) { return nil, tt.err }
		c := connect(t, serve(t, cfg, ModeAuto).addr)
		write(t, c, "\x05\x01\x00\x05\x02\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x15")
		want(t, c, "\x05\x00")
		if got := readReply(t, c); got != tt.reply {
			t.Errorf("%s: got reply %d, want %d", tt.name, got, tt.reply)
		}
	}
}

// TestBindFamily: the listener is of the peer's family.
func TestBindFamily(t *testing.T) {
	b := newBinds()
	f := serve(t, b.config(), ModeAuto)
	for request, network := range map[string]string{
		"\x05\x02\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x15": "tcp6",
		"\x05\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x15": "tcp6",
		"\x05\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x01\x00\x15": "tcp4",
		socksRequestTo(2, "host.test", 21): "tcp4",
	} {
		c := connect(t, f.addr)
		write(t, c, "\x05\x01\x00"+request)
		if got := wait(t, b.networks, "a listener"); got != network {
			t.Errorf("% x: got %s, want %s", request, got, network)
		}
		c.Close()
	}
}
