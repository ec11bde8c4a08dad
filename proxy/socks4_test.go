package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const rejected4 = "\x00\x5b\x00\x00\x00\x00\x00\x00"

// TestSOCKS4Bytes holds dialogues against the memos on SOCKS4 and SOCKS4A.
func TestSOCKS4Bytes(t *testing.T) {
	var n udpNet
	d := &dials{to: listen(t, echo)}
	cfg := n.config()
	cfg.Dial = d.dial
	open := serve(t, cfg, ModeAuto)
	only := serve(t, cfg, ModeSOCKS5)
	cfg.User, cfg.Password = "u", "p"
	locked := serve(t, cfg, ModeAuto)
	for _, tt := range []struct {
		name, send, dial string
		f                *fixture
	}{
		{"address", "\x04\x01\x00\x50\x0a\x00\x00\x01me\x00", "tcp 10.0.0.1:80", open},
		{"no user id", "\x04\x01\x00\x50\x0a\x00\x00\x01\x00", "tcp 10.0.0.1:80", open},
		{"name", "\x04\x01\x00\x50\x00\x00\x00\x01me\x00host.test\x00", "tcp host.test:80", open},
		{"name on a SOCKS port", "\x04\x01\xff\xff\x00\x00\x00\xffme\x00host.test\x00", "tcp host.test:65535", only},
		{"address as a name", "\x04\x01\x00\x50\x00\x00\x00\x01me\x0010.1.2.3\x00", "tcp 10.1.2.3:80", open},
		{"locked", "\x04\x01\x00\x50\x0a\x00\x00\x01u\x00", "", locked},
		{"no name", "\x04\x01\x00\x50\x00\x00\x00\x01me\x00\x00", "", open},
		{"no address", "\x04\x01\x00\x50\x00\x00\x00\x00me\x00", "", open},
		{"this machine", "\x04\x01\x00\x50\x7f\x00\x00\x01me\x00", "", open},
		{"this machine by name", "\x04\x01\x00\x50\x00\x00\x00\x01\x00localhost\x00", "", open},
		{"UDP ASSOCIATE", "\x04\x03\x00\x50\x0a\x00\x00\x01me\x00", "", open},
		{"BIND, not served", "\x04\x02\x00\x50\x0a\x00\x00\x01me\x00", "", open},
		{"RESOLVE_PTR", "\x04\xf1\x00\x50\x0a\x00\x00\x01me\x00", "", open},
		{"endless user id", "\x04\x01\x00\x50\x0a\x00\x00\x01" + strings.Repeat("x", 256), "", open},
		{"endless name", "\x04\x01\x00\x50\x00\x00\x00\x01\x00" + strings.Repeat("x", 256), "", open},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(d.list())
			c := connect(t, tt.f.addr)
			write(t, c, tt.send)
			if tt.dial == "" {
				want(t, c, rejected4)
				wantEOF(t, c)
				if len(d.list()) != before {
					t.Error("dialled")
				}
				return
			}
			var reply [8]byte
			if _, err := io.ReadFull(c, reply[:]); err != nil || reply[0] != 0 || reply[1] != 90 || [4]byte(reply[4:]) != [4]byte{127, 0, 0, 1} {
				t.Fatalf("got % x, %v, want 90 and the address the dial came from", reply, err)
			}
			write(t, c, "hello")
			want(t, c, "hello")
			if got := d.list()[before:]; !slices.Equal(got, []string{tt.dial}) {
				t.Errorf("got dials %q, want %q", got, tt.dial)
			}
		})
	}
}

// TestSOCKS4Prefixes: no part of a request is one, and none hangs.
func TestSOCKS4Prefixes(t *testing.T) {
	const whole = "\x04\x01\x00\x50\x00\x00\x00\x01me\x00host.test\x00"
	for n := range len(whole) {
		if req, err := readSOCKS4(bufio.NewReader(strings.NewReader(whole[:n]))); err != io.EOF {
			t.Errorf("prefix %d: got %+v, %v, want EOF", n, req, err)
		}
	}
	req, err := readSOCKS4(bufio.NewReader(strings.NewReader(whole)))
	if err != nil || req != (socksRequest{version: 4, command: 1, host: "host.test", port: 80}) {
		t.Errorf("got %+v, %v", req, err)
	}
}

// TestFailuresSOCKS4: SOCKS4 has one code for all.
func TestFailuresSOCKS4(t *testing.T) {
	for _, tt := range replies {
		c := connect(t, serve(t, failing(tt.err), ModeAuto).addr)
		write(t, c, "\x04\x01\x00\x50\x00\x00\x00\x01\x00host.test\x00")
		want(t, c, rejected4)
		wantEOF(t, c)
	}
}

// FuzzSOCKS4 sends anything after the first octet of SOCKS4.
func FuzzSOCKS4(f *testing.F) {
	for _, s := range []string{"", "\x01\x00\x50\x0a\x00\x00\x01me\x00", "\x01\x00\x50\x00\x00\x00\x01me\x00host.test\x00early", "\x02\x00\x50\x0a\x00\x00\x01\x00", "\xf0\x00\x00\x00\x00\x00\x01\x00a\x00"} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, locked bool) {
		cfg := Config{}
		if locked {
			cfg = Config{User: "u", Password: "p"}
		}
		out, dialled := exchange(t, cfg, append([]byte{4}, in...))
		if len(dialled) > 1 || locked && len(dialled) > 0 {
			t.Errorf("dialled %q", dialled)
		}
		if len(out) > 0 && string(out) != rejected4 {
			t.Errorf("got % x, want one rejection", out)
		}
	})
}

// TestResolve: Tor's commands, and why they fail.
func TestResolve(t *testing.T) {
	var n udpNet
	cfg := n.config()
	cfg.LookupAddr = func(_ context.Context, addr netip.Addr) (string, error) {
		switch addr.String() {
		case "10.1.2.3", "2001:db8::1":
			return "host.test", nil
		case "10.1.2.4":
			return strings.Repeat("x", 256), nil
		case "10.1.2.5":
			return "", ErrBlocked
		}
		return "", &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	f := serve(t, cfg, ModeAuto)
	const refused = "\x00\x01\x00\x00\x00\x00\x00\x00"
	const six = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	for _, tt := range []struct{ name, send, want string }{
		{"name", socksRequestTo(0xf0, "host.test", 0), "\x05\x00\x00\x01\x0a\x09\x09\x09\x00\x00"},
		{"address as a name", socksRequestTo(0xf0, "10.1.2.3", 0), "\x05\x00\x00\x01\x0a\x01\x02\x03\x00\x00"},
		{"address", "\x05\xf0\x00\x04" + six + "\x00\x00", "\x05\x00\x00\x04" + six + "\x00\x00"},
		{"no such name", socksRequestTo(0xf0, "nowhere.test", 0), "\x05\x04" + refused},
		{"this machine", socksRequestTo(0xf0, "localhost", 0), "\x05\x02" + refused},
		{"no name", socksRequestTo(0xf0, "", 0), "\x05\x01" + refused},
		{"name of an address", "\x05\xf1\x00\x01\x0a\x01\x02\x03\x00\x00", "\x05\x00\x00\x03\x09host.test\x00\x00"},
		{"name of IPv6", "\x05\xf1\x00\x04" + six + "\x00\x00", "\x05\x00\x00\x03\x09host.test\x00\x00"},
		{"name without a place", "\x05\xf1\x00\x01\x0a\x01\x02\x04\x00\x00", "\x05\x01" + refused},
		{"name blocked", "\x05\xf1\x00\x01\x0a\x01\x02\x05\x00\x00", "\x05\x02" + refused},
		{"no name of it", "\x05\xf1\x00\x01\x0a\x01\x02\x06\x00\x00", "\x05\x04" + refused},
		{"name of this machine", "\x05\xf1\x00\x01\x7f\x00\x00\x01\x00\x00", "\x05\x02" + refused},
		{"name of a name", socksRequestTo(0xf1, "host.test", 0), "\x05\x08" + refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, f.addr)
			write(t, c, "\x05\x01\x00"+tt.send)
			want(t, c, "\x05\x00"+tt.want)
			wantEOF(t, c)
		})
	}
	c := connect(t, f.addr)
	write(t, c, "\x04\xf0\x00\x00\x00\x00\x00\x01\x00host.test\x00")
	want(t, c, "\x00\x5a\x00\x00\x0a\x09\x09\x09")
	wantEOF(t, c)
	n.mu.Lock()
	defer n.mu.Unlock()
	if asked := strings.Join(n.asked, ","); asked != "ip host.test,ip nowhere.test,ip4 host.test" {
		t.Errorf("got lookups %q", asked)
	}
}

func TestFailuresResolve(t *testing.T) {
	for _, tt := range replies {
		cfg := failing(nil)
		cfg.Lookup = func(context.Context, string, string) ([]netip.Addr, error) { return nil, tt.err }
		c := connect(t, serve(t, cfg, ModeAuto).addr)
		write(t, c, "\x05\x01\x00"+socksRequestTo(0xf0, "host.test", 0))
		want(t, c, "\x05\x00")
		if got := readReply(t, c); got != tt.reply {
			t.Errorf("%s: got reply %d, want %d", tt.name, got, tt.reply)
		}
	}
}

// TestResolveNothing: no address is not a success.
func TestResolveNothing(t *testing.T) {
	s := New(Config{Dial: (&dials{}).dial, Lookup: func(context.Context, string, string) ([]netip.Addr, error) { return nil, nil }})
	_, err := s.lookup(t.Context(), "ip", "host.test")
	if e, ok := errors.AsType[*net.DNSError](err); !ok || !e.IsNotFound {
		t.Errorf("got %v, want no such host", err)
	}
}
