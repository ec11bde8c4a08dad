package main

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"sstproxy/proxy"
	"sstproxy/proxy/names"
	"sstproxy/tunnel/tunneltest"
)

// dnsAt waits for the forwarder and returns where it listens.
func (c *command) dnsAt(t *testing.T) string {
	t.Helper()
	_, at, _ := strings.Cut(c.stderr.wait(t, `msg="dns listening"`), "addr=")
	return at
}

// askAt asks one question and returns the code and the data of the records.
func askAt(t *testing.T, at, network, name string, qtype uint16) string {
	t.Helper()
	client := dns.Client{Net: network, Timeout: patience}
	q := new(dns.Msg).SetQuestion(name, qtype)
	q.SetEdns0(1232, false)
	m, _, err := client.Exchange(q, at)
	if err != nil {
		t.Fatal(err)
	}
	words := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		words = append(words, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	for _, rr := range m.IsEdns0().Option {
		words = append(words, rr.String())
	}
	return strings.Join(words, " ")
}

// TestForwarder: names asked through a session, by both transports, and by dig.
func TestForwarder(t *testing.T) {
	server := startDemoServer(t)
	c := start(t, withPassword, connectArgs(server.Addr().String(), caFile(t, server.CA()),
		"--dns-listen", "127.0.0.1:0", "--host", "alias=10.99.0.7", "--search", "demo", "--route", "ads.example=block,demo", "--else", "block")...)
	at := c.dnsAt(t)
	for _, tt := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"Intranet.Demo.", dns.TypeA, "NOERROR " + demoWeb.String()},
		{"intranet.demo.", dns.TypeAAAA, "NOERROR"},
		{"nowhere.demo.", dns.TypeA, "NXDOMAIN"},
		{"intranet.", dns.TypeA, "NOERROR intranet.demo. " + demoWeb.String()},
		{"alias.", dns.TypeA, "NOERROR 10.99.0.7"},
		{"7.0.99.10.in-addr.arpa.", dns.TypePTR, "NOERROR alias."},
		{"www.ads.example.", dns.TypeA, "NXDOMAIN"},
		{"www.example.", dns.TypeA, "REFUSED"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := askAt(t, at, network, tt.name, tt.qtype); got != tt.want {
				t.Errorf("%s over %s: got %s, want %s", tt.name, network, got, tt.want)
			}
		}
	}
	dig, err := exec.LookPath("dig")
	if err != nil {
		t.Log("dig is not installed, so it does not ask")
		return
	}
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range []string{"+notcp", "+tcp", "+noedns", "+dnssec"} {
		out, err := exec.CommandContext(t.Context(), dig, "@"+host, "-p", port, "+short", option, demoHost).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != demoWeb.String() {
			t.Errorf("dig %s: got %q, %v", option, got, err)
		}
	}
}

// TestForwarderWhileDown: a name of the tunnel's is asked nowhere else while
// there is none, and who asks is told why.
func TestForwarderWhileDown(t *testing.T) {
	site := startSite(t)
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()), "--dns-listen", "127.0.0.1:0", "--wait-for-tunnel", "0s")...)
	at := c.dnsAt(t)
	site.Line().Welcome(tunneltest.WelcomeReset, 0)
	site.Line().Reset()
	c.stderr.wait(t, "not connected")
	if got := askAt(t, at, "udp", demoHost+".", dns.TypeA); !strings.HasPrefix(got, "SERVFAIL ") || !strings.Contains(got, "the tunnel is down") {
		t.Errorf("got %s", got)
	}
	site.Line().Welcome(tunneltest.WelcomeServed, 0)
	c.down(t)
}

// TestForwarderInUse: a port in use is known before anybody types a password.
func TestForwarderInUse(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	got := try(t.Context(), nil, "connect", "vpn.example.com", "-u", "alice", "--listen", "127.0.0.1:0", "--dns-listen", pc.LocalAddr().String())
	wantFailure(t, got, exitFailed, pc.LocalAddr().String(), "")
}

// TestChooser: who is asked for which name.
func TestChooser(t *testing.T) {
	r := routerFor(t, nameOptions{route: []string{"192.0.2.0/24", "corp.example:443", "ads.example=block", "198.51.100.0/24=block"}, otherwise: "direct"}, &notes{})
	choose := chooser(r, &gate{}, nil)
	inside, outside := choose("corp.example.").Upstream, choose("www.example.").Upstream
	if inside == nil || outside == nil || inside == outside {
		t.Fatalf("got %p and %p", inside, outside)
	}
	for name, want := range map[string]names.Choice{
		"a.corp.example.":            {Upstream: inside},
		"1.2.0.192.in-addr.arpa.":    {Upstream: inside},
		"notcorp.example.":           {Upstream: outside},
		"1.113.0.203.in-addr.arpa.":  {Upstream: outside},
		"a.ads.example.":             {Refusal: dns.RcodeNameError},
		"1.100.51.198.in-addr.arpa.": {Refusal: dns.RcodeNameError},
	} {
		if got := choose(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	refusing := chooser(routerFor(t, nameOptions{otherwise: "block"}, &notes{}), &gate{}, nil)
	if got := refusing("a.example."); got != (names.Choice{Refusal: dns.RcodeRefused}) {
		t.Errorf("else block: got %v", got)
	}
}

// placed is a listener that only has an address.
type placed struct{ at net.Addr }

func (p *placed) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (p *placed) Close() error              { return nil }
func (p *placed) Addr() net.Addr            { return p.at }

// TestSystemServers: this machine's servers, without ourselves.
func TestSystemServers(t *testing.T) {
	endpoint, err := proxy.ParseEndpoint("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := openForwarder(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("# comment\nsearch corp.example\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := systemServers(file, []*forwarder{f})(t.Context())
	if err != nil || len(list) != 2 || list[0].String() != "192.0.2.1:53" || list[1].String() != "[fe80::1%eth0]:53" {
		t.Errorf("got %v, %v", list, err)
	}
	if list, err := systemServers(file+"x", nil)(t.Context()); len(list) > 0 || err == nil {
		t.Errorf("without a file: got %v, %v", list, err)
	}
	at := netip.MustParseAddrPort(f.address())
	if !isOurs(at, []*forwarder{f}) || isOurs(netip.AddrPortFrom(at.Addr(), at.Port()-1), []*forwarder{f}) || isOurs(netip.AddrPortFrom(netip.IPv6Loopback(), at.Port()), []*forwarder{f}) {
		t.Error("our own address is not known as such, or another is")
	}
	everywhere := &forwarder{listener: &placed{&net.TCPAddr{IP: net.IPv6unspecified, Port: int(at.Port())}}}
	if isOurs(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), at.Port()), []*forwarder{everywhere}) {
		t.Error("another machine's address is taken for ours")
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		addr := netip.MustParsePrefix(a.String()).Addr()
		if !addr.IsLinkLocalUnicast() && !isOurs(netip.AddrPortFrom(addr, at.Port()), []*forwarder{everywhere}) {
			t.Errorf("who listens everywhere would ask itself at %v", addr)
		}
	}
}
