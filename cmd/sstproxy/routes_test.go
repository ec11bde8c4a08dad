package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sstproxy/proxy"
)

// notes are what passed a router, in order. Nothing that is dialled answers, but
// what listens.
type notes struct {
	net.PacketConn
	list  []string
	names map[string]string // in the tunnel and outside: "tunnel a.example" to addresses
}

func (n *notes) dial(where string) proxy.DialFunc {
	return func(_ context.Context, _, address string) (net.Conn, error) {
		n.list = append(n.list, where+" "+address)
		return nil, syscall.ECONNREFUSED
	}
}

func (n *notes) lookup(where string) lookupFunc {
	return func(_ context.Context, _, host string) (addrs []netip.Addr, err error) {
		n.list = append(n.list, where+" asks "+host)
		found, ok := n.names[where+" "+host]
		if !ok {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		for text := range strings.FieldsSeq(found) {
			addrs = append(addrs, netip.MustParseAddr(text))
		}
		return addrs, nil
	}
}

// WriteTo is that of a socket in the tunnel.
func (n *notes) WriteTo(b []byte, to net.Addr) (int, error) {
	n.list = append(n.list, "tunnel "+to.String())
	return len(b), nil
}

// routerFor is a router with the options of a command line.
func routerFor(t *testing.T, o nameOptions, n *notes) *router {
	t.Helper()
	if o.otherwise == "" {
		o.otherwise = "tunnel"
	}
	names, err := o.naming()
	if err != nil {
		t.Fatal(err)
	}
	return &router{
		names:         names,
		tunnel:        network{dial: n.dial("tunnel"), lookup: n.lookup("tunnel")},
		outside:       network{dial: n.dial("direct"), lookup: n.lookup("direct")},
		listenTunnel:  func(context.Context, string, string) (net.PacketConn, error) { return n, nil },
		reverseTunnel: n.reverse("tunnel"), reverseOutside: n.reverse("direct"),
	}
}

// reverse finds names of addresses.
func (n *notes) reverse(where string) func(context.Context, netip.Addr) (string, error) {
	return func(_ context.Context, addr netip.Addr) (string, error) {
		n.list = append(n.list, where+" asks "+addr.String())
		return where + ".example", nil
	}
}

// TestRouterLookupAddr: where the name of an address is asked.
func TestRouterLookupAddr(t *testing.T) {
	split := nameOptions{route: []string{"10.0.0.0/8", "10.9.0.0/16=block", "192.0.2.0/24:80"}, otherwise: "direct"}
	for _, tt := range []struct {
		o          nameOptions
		addr, want string
		err        error
	}{
		{nameOptions{}, "192.0.2.1", "tunnel", nil},
		{split, "10.0.0.1", "tunnel", nil},
		{split, "::ffff:10.0.0.1", "tunnel", nil},
		{split, "10.9.0.1", "", proxy.ErrBlocked},
		{split, "192.0.2.1", "tunnel", nil}, // one port suffices
		{split, "203.0.113.1", "direct", nil},
		{split, "127.0.0.1", "", proxy.ErrBlocked},
		{nameOptions{otherwise: "block"}, "192.0.2.1", "", proxy.ErrBlocked},
	} {
		var n notes
		r := routerFor(t, tt.o, &n)
		got, err := r.lookupAddr(t.Context(), netip.MustParseAddr(tt.addr))
		if !errors.Is(err, tt.err) || tt.want != "" && (got != tt.want+".example" || !slices.Equal(n.list, []string{tt.want + " asks " + tt.addr})) || tt.want == "" && n.list != nil {
			t.Errorf("%v: got %q, %v, asked %q; want %q, %v", tt.addr, got, err, n.list, tt.want, tt.err)
		}
	}
}

// TestWhole: only names without a dot are this machine's to complete.
func TestWhole(t *testing.T) {
	var n notes
	for _, host := range []string{"printer", "www.example", "db.corp.example."} {
		_, _ = whole(n.lookup("direct"))(t.Context(), "ip", host)
	}
	if want := []string{"direct asks printer", "direct asks www.example.", "direct asks db.corp.example."}; !slices.Equal(n.list, want) {
		t.Errorf("got %q, want %q", n.list, want)
	}
}

// TestRouterDial: where a name is asked and where it is dialled.
func TestRouterDial(t *testing.T) {
	names := map[string]string{
		"tunnel db.corp.example": "10.0.0.5", "direct db.corp.example": "203.0.113.5",
		"tunnel mixed.example": "192.0.2.1 10.0.0.6 2001:db8::6", "direct mixed.example": "2001:db8::6 ::ffff:10.0.0.6 192.0.2.1",
		"direct rebound.example": "127.0.0.1 ::1 0.0.0.0", "direct www.example": "192.0.2.80", "tunnel www.example": "192.0.2.81",
	}
	split := []string{"10.0.0.0/8", "*.corp.example"}
	for name, tt := range map[string]struct {
		o       nameOptions
		address string
		want    string // what passes, divided by commas
		err     error
	}{
		"as ever":                {nameOptions{}, "db.corp.example:80", "tunnel db.corp.example:80", syscall.ECONNREFUSED},
		"address":                {nameOptions{}, "192.0.2.1:80", "tunnel 192.0.2.1:80", syscall.ECONNREFUSED},
		"IPv6":                   {nameOptions{}, "[2001:db8::1]:80", "tunnel [2001:db8::1]:80", syscall.ECONNREFUSED},
		"by name":                {nameOptions{route: []string{"*.corp.example"}, otherwise: "direct"}, "db.corp.example:80", "tunnel db.corp.example:80", syscall.ECONNREFUSED},
		"by name, not settled":   {nameOptions{route: []string{"*.corp.example", "!10.1.0.0/16"}, otherwise: "direct"}, "db.corp.example:80", "tunnel asks db.corp.example, tunnel 10.0.0.5:80", syscall.ECONNREFUSED},
		"else direct":            {nameOptions{route: split, otherwise: "direct"}, "www.example:80", "direct asks www.example, direct 192.0.2.80:80", syscall.ECONNREFUSED},
		"else direct, address":   {nameOptions{route: split, otherwise: "direct"}, "192.0.2.1:80", "direct 192.0.2.1:80", syscall.ECONNREFUSED},
		"by address found":       {nameOptions{route: split, otherwise: "direct"}, "mixed.example:80", "direct asks mixed.example, tunnel 10.0.0.6:80, direct 192.0.2.1:80, direct [2001:db8::6]:80", syscall.ECONNREFUSED},
		"another port's rule":    {nameOptions{route: []string{"www.example:443"}, otherwise: "direct"}, "www.example:80", "tunnel asks www.example, direct 192.0.2.81:80", syscall.ECONNREFUSED},
		"blocked name":           {nameOptions{route: []string{"www.example=block"}}, "www.example:80", "", proxy.ErrBlocked},
		"blocked port":           {nameOptions{route: []string{"*:25=block"}}, "www.example:25", "", proxy.ErrBlocked},
		"blocked address":        {nameOptions{route: []string{"192.0.2.0/24=block"}}, "192.0.2.1:80", "", proxy.ErrBlocked},
		"blocked address found":  {nameOptions{route: []string{"192.0.2.0/24=block"}}, "www.example:80", "tunnel asks www.example", proxy.ErrBlocked},
		"else block":             {nameOptions{route: []string{"corp.example"}, otherwise: "block"}, "www.example:80", "", proxy.ErrBlocked},
		"else block, by address": {nameOptions{route: split, otherwise: "block"}, "www.example:80", "tunnel asks www.example", proxy.ErrBlocked},
		"this machine":           {nameOptions{otherwise: "direct"}, "rebound.example:80", "direct asks rebound.example", proxy.ErrBlocked},
		"no such name":           {nameOptions{otherwise: "direct"}, "nowhere.example:80", "direct asks nowhere.example", &net.DNSError{}},
		"search":                 {nameOptions{search: []string{"lab.example", "corp.example."}}, "db:80", "tunnel asks db.lab.example, tunnel asks db.corp.example, tunnel 10.0.0.5:80", syscall.ECONNREFUSED},
		"search, rules":          {nameOptions{search: []string{"lab.example", "corp.example"}, route: split, otherwise: "direct"}, "db:80", "direct asks db.lab.example, tunnel asks db.corp.example, tunnel 10.0.0.5:80", syscall.ECONNREFUSED},
		"search, in vain":        {nameOptions{search: []string{"lab.example"}}, "x:80", "tunnel asks x.lab.example, tunnel asks x", &net.DNSError{}},
		"search, with a dot":     {nameOptions{search: []string{"corp.example"}}, "db.:80", "tunnel db.:80", syscall.ECONNREFUSED},
		"host":                   {nameOptions{hosts: []string{"Db=10.0.0.9", "db=2001:db8::9"}}, "dB:80", "tunnel 10.0.0.9:80, tunnel [2001:db8::9]:80", syscall.ECONNREFUSED},
		"host, direct":           {nameOptions{hosts: []string{"db=10.0.0.9"}, otherwise: "direct"}, "db.:80", "direct 10.0.0.9:80", syscall.ECONNREFUSED},
		"host before search":     {nameOptions{hosts: []string{"db=10.0.0.9"}, search: []string{"corp.example"}}, "db:80", "tunnel 10.0.0.9:80", syscall.ECONNREFUSED},
		"searched host":          {nameOptions{hosts: []string{"x.corp.example=10.0.0.9"}, search: []string{"corp.example"}}, "x:80", "tunnel 10.0.0.9:80", syscall.ECONNREFUSED},
	} {
		t.Run(name, func(t *testing.T) {
			n := &notes{names: names}
			conn, err := routerFor(t, tt.o, n).dialContext(t.Context(), "tcp", tt.address)
			if got := strings.Join(n.list, ", "); conn != nil || got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if _, dns := errors.AsType[*net.DNSError](err); !errors.Is(err, tt.err) && !dns {
				t.Errorf("got error %v, want %v", err, tt.err)
			}
		})
	}
}

// TestRouterLookup: the addresses of a name, of one family.
func TestRouterLookup(t *testing.T) {
	n := &notes{names: map[string]string{"tunnel a.example": "192.0.2.1", "direct b.example": "::ffff:192.0.2.2"}}
	r := routerFor(t, nameOptions{hosts: []string{"h=10.0.0.1", "h=2001:db8::1"}, route: []string{"b.example=direct", "c.example=block"}}, n)
	for _, tt := range []struct{ network, host, want string }{
		{"ip", "h", "10.0.0.1 2001:db8::1"}, {"ip4", "H", "10.0.0.1"}, {"ip6", "h.", "2001:db8::1"},
		{"ip", "a.example", "192.0.2.1"}, {"ip4", "b.example", "192.0.2.2"},
	} {
		addrs, err := r.lookup(t.Context(), tt.network, tt.host)
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s %s: got %v, %v, want %s", tt.network, tt.host, got, err, tt.want)
		}
	}
	if _, err := r.lookup(t.Context(), "ip", "c.example"); !errors.Is(err, proxy.ErrBlocked) {
		t.Errorf("a blocked name: got %v", err)
	}
	if want := []string{"tunnel asks a.example", "direct asks b.example"}; !slices.Equal(n.list, want) {
		t.Errorf("got %q, want %q", n.list, want)
	}
}

// TestRouterPackets: datagrams go through the tunnel or nowhere; a name's rule
// holds for the address that was found for it.
func TestRouterPackets(t *testing.T) {
	n := &notes{names: map[string]string{"tunnel db.corp.example": "192.0.2.5"}}
	r := routerFor(t, nameOptions{route: []string{"*.corp.example", "10.0.0.0/8:53"}, otherwise: "direct"}, n)
	c, err := r.listenPacket(t.Context(), "udp4", "")
	if err != nil {
		t.Fatal(err)
	}
	send := func(to string) error {
		_, err := c.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		return err
	}
	for to, want := range map[string]error{"10.0.0.1:53": nil, "[::ffff:10.0.0.1]:53": nil, "10.0.0.1:54": proxy.ErrBlocked, "192.0.2.5:53": proxy.ErrBlocked} {
		if err := send(to); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", to, err, want)
		}
	}
	if _, err := r.lookup(t.Context(), "ip", "db.corp.example"); err != nil {
		t.Fatal(err)
	}
	if err := send("192.0.2.5:53"); err != nil {
		t.Errorf("to the address of a name: %v", err)
	}
	if _, err := c.WriteTo(nil, &net.IPAddr{}); err == nil {
		t.Error("to no UDP address: no error")
	}
	for i := range 2 * maxFound {
		r.remember("x", []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})})
	}
	if len(r.found) > maxFound {
		t.Errorf("%d names remembered", len(r.found))
	}
	if c, err := routerFor(t, nameOptions{}, n).listenPacket(t.Context(), "udp4", ""); err != nil || c != net.PacketConn(n) {
		t.Errorf("without rules: got %v, %v", c, err)
	}
}

// TestRoutes: the rules in a session: what goes past the tunnel, what nowhere,
// and the file that says so.
func TestRoutes(t *testing.T) {
	server := startDemoServer(t)
	c := start(t, withPassword, connectArgs(server.Addr().String(), caFile(t, server.CA()),
		"--route", "intranet.demo,10.99.0.0/24,blocked.demo=block", "--else", "direct", "--host", "alias="+demoWeb.String(), "--search", "demo")...)
	via := c.proxyURL(t, "http://")
	for target, want := range map[string]int{
		"http://" + demoHost + "/":         http.StatusOK,
		"http://" + demoWeb.String() + "/": http.StatusOK,
		"http://alias/":                    http.StatusOK,
		"http://intranet/":                 http.StatusOK,
		"http://blocked.demo/":             http.StatusForbidden,
	} {
		if status, header, body := get(t, via, target); status != want {
			t.Errorf("%s: got %d, %v, %q, want %d", target, status, header, body, want)
		}
	}
	_, header, pac := fetch(t, via+pacPath)
	for _, want := range []string{"FindProxyForURL", strings.Replace(via, "http://", "PROXY ", 1), `"intranet.demo"`, `["alias"]`, "plain = true"} {
		if !strings.Contains(pac, want) {
			t.Errorf("%s is not in the file", want)
		}
	}
	if got := header.Get("Content-Type"); got != "application/x-ns-proxy-autoconfig" {
		t.Errorf("got type %s", got)
	}
}
