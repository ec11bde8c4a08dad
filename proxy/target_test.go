package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var (
	label63 = strings.Repeat("a", 63)
	name253 = label63 + "." + label63 + "." + label63 + "." + strings.Repeat("b", 61)
)

// hosts is what clients may write and what is dialled; "" is refused.
var hosts = []struct{ written, dialled string }{
	{"intranet", "intranet"},
	{"MiXed.Case.Test.", "MiXed.Case.Test."},
	{"_srv.under_score.test", "_srv.under_score.test"},
	{"-x-.test", "-x-.test"},
	{"3com.test", "3com.test"},
	{"xn--bcher-kva.test", "xn--bcher-kva.test"},
	{"bücher.test", "xn--bcher-kva.test"},
	{"BÜCHER.test.", "xn--bcher-kva.test."},
	{"bu\u0308cher.test", "xn--bcher-kva.test"},
	{"straße.test", "xn--strae-oqa.test"},
	{"例え。テスト", "xn--r8jz45g.xn--zckzah"},
	{"ｈｏｓｔ．ｔｅｓｔ", "host.test"},
	{"１０．１．２．３", "10.1.2.3"},
	{"10.1.2.3", "10.1.2.3"},
	{"10.1.2.3.", "10.1.2.3"},
	{"[2001:DB8:0::1]", "[2001:db8::1]"},
	{"[::ffff:10.1.2.3]", "10.1.2.3"},
	{"[fe80::1]", "[fe80::1]"},
	{name253, name253},
	{name253 + ".", name253 + "."},
	{label63 + ".test", label63 + ".test"},

	{name253 + "b", ""},
	{label63 + "a.test", ""},
	{strings.Repeat("ü", 60) + ".test", ""},
	{"a..test", ""},
	{".test", ""},
	{".", ""},
	{"a b.test", ""},
	{"a\x00.test", ""},
	{"a\tb", ""},
	{"a\x7f", ""},
	{"a\xff.test", ""},
	{"a\u00adb\u200d.test", ""},
	{"\u200b", ""},
	{"a／b.test", ""},
	{"a%41.test", ""},
	{"a|b", ""},
	{"127.1", ""},
	{"2130706433", ""},
	{"0x7f000001", ""},
	{"0177.0.0.1", ""},
	{"10.0.0.256", ""},
	{"host.0x", ""},
}

// TestHosts: all protocols dial the same, and refuse the same before they dial.
func TestHosts(t *testing.T) {
	dialled := make(chan string, 10)
	f := serve(t, Config{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		dialled <- address
		return nil, ErrBlocked
	}}, ModeAuto)
	for _, tt := range hosts {
		var want []string
		for name, request := range requestsTo(tt.written, 81) {
			reply := ask1(t, f.addr, name, request)
			if tt.dialled == "" && reply != "1" && reply != "400" {
				t.Errorf("%s %q: got %s, want a refusal", name, tt.written, reply)
			}
			if tt.dialled != "" {
				want = append(want, tt.dialled+":81")
			}
		}
		var got []string
		for len(dialled) > 0 {
			got = append(got, <-dialled)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: dialled %q, want %q", tt.written, got, want)
		}
	}
}

// TestLongHost: a name that fills a header costs no more than others.
func TestLongHost(t *testing.T) {
	host := strings.Repeat("ü", 1<<20)
	if got := testing.AllocsPerRun(10, func() {
		if _, err := canonicalHost(host); err == nil {
			t.Error("the name was taken")
		}
	}); got > 5 {
		t.Errorf("got %v allocations, want an answer without a conversion", got)
	}
}

// requestsTo asks for a host by each protocol.
func requestsTo(host string, port int) map[string]string {
	socks := "\x05\x01\x00" + socksRequestTo(1, strings.Trim(host, "[]"), port)
	if len(host) > 255 {
		socks = "\x05\x01\x00" + socksRequestTo(1, "", port)
	}
	return map[string]string{
		"SOCKS":   socks,
		"CONNECT": fmt.Sprintf("CONNECT %s:%d HTTP/1.1\r\nHost: h.test\r\n\r\n", host, port),
		"GET":     fmt.Sprintf("GET http://%s:%d/ HTTP/1.1\r\nHost: h.test\r\n\r\n", host, port),
	}
}

// ask1 returns the SOCKS reply or the HTTP status.
func ask1(t *testing.T, addr, name, request string) string {
	t.Helper()
	c := connect(t, addr)
	defer c.Close()
	write(t, c, request)
	if name == "SOCKS" {
		want(t, c, "\x05\x00")
		return fmt.Sprint(readReply(t, c))
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(name, err)
	}
	res.Body.Close()
	return fmt.Sprint(res.StatusCode)
}

// TestLocalDestinations: what means this machine is refused in words, and not
// dialled.
func TestLocalDestinations(t *testing.T) {
	f := serve(t, Config{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		t.Errorf("dialled %s", address)
		return nil, errors.New("dialled")
	}}, ModeAuto)
	for _, host := range []string{
		"127.0.0.1", "127.255.255.254", "127.0.0.1.", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0::1]",
		"localhost", "LocalHost.", "a.localhost", "a.b.LOCALHOST.", "ｌｏｃａｌｈｏｓｔ", "１２７.０.０.１",
		"0.0.0.0", "0.1.2.3", "[::]", "[::ffff:0.0.0.0]", "[fe80::1%25eth0]", "[::1%25lo]",
	} {
		for name, request := range requestsTo(host, 81) {
			if got := ask1(t, f.addr, name, request); got != "2" && got != "403" {
				t.Errorf("%s %s: got %s, want 2 or 403", name, host, got)
			}
		}
	}
	res, body := ask(t, f.addr, "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
	const words = "sstproxy: localhost:80: the proxy reaches only the tunnel's network (localhost is this machine)\n"
	if body != words || !strings.Contains(res.Header.Get("Proxy-Status"), "error=destination_ip_prohibited") {
		t.Errorf("got %v %q, want %q", res.Header, body, words)
	}
}

// TestOwnListener: the proxy is no destination of its own, also by an address
// that only the wildcard covers.
func TestOwnListener(t *testing.T) {
	own, other := lanAddr(t), netip.MustParseAddr("192.0.2.1")
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	f := serveOn(t, failing(errors.New("dialled")), ModeAuto, l)
	port := l.Addr().(*net.TCPAddr).Port
	for _, tt := range []struct {
		addr netip.Addr
		port int
		want []string
	}{
		{own, port, []string{"2", "403"}},
		{own, port ^ 1, []string{"1", "502"}},
		{other, port, []string{"1", "502"}},
	} {
		for name, request := range requestsTo(hostIn(tt.addr), tt.port) {
			if got := ask1(t, fmt.Sprint("127.0.0.1:", port), name, request); !slices.Contains(tt.want, got) {
				t.Errorf("%s to %v, port %d: got %s, want one of %v", name, tt.addr, tt.port, got, tt.want)
			}
		}
	}
	if err := f.checkRemote(net.JoinHostPort(own.String(), fmt.Sprint(port))); !errors.Is(err, ErrBlocked) {
		t.Errorf("got %v, want ErrBlocked", err)
	}
}

// hostIn writes an address as the host of a URL.
func hostIn(addr netip.Addr) string {
	if addr.Is6() {
		return "[" + addr.String() + "]"
	}
	return addr.String()
}

// lanAddr returns an address of this machine that is not loopback.
func lanAddr(t *testing.T) netip.Addr {
	t.Helper()
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok && !addr.Unmap().IsLoopback() {
				return addr.Unmap()
			}
		}
	}
	t.Skip("this machine has no address but loopback")
	panic("unreachable")
}
