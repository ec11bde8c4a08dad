package tunnel

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestEndpoint(t *testing.T) {
	for _, tt := range []struct{ server, name, address, serverName string }{
		{"vpn.example.com", "", "vpn.example.com:443", "vpn.example.com"},
		{"vpn.example.com:4443", "", "vpn.example.com:4443", "vpn.example.com"},
		{"192.0.2.1", "", "192.0.2.1:443", "192.0.2.1"},
		{"2001:db8::1", "", "[2001:db8::1]:443", "2001:db8::1"},
		{"[2001:db8::1]", "", "[2001:db8::1]:443", "2001:db8::1"},
		{"[2001:db8::1]:444", "", "[2001:db8::1]:444", "2001:db8::1"},
		{"192.0.2.1:8443", "x.vpnazure.net", "192.0.2.1:8443", "x.vpnazure.net"},
		{"my_host", "", "my_host:443", "my_host"},
		{"[fe80::1%eth0]:444", "", "[fe80::1%eth0]:444", "fe80::1"},
		{"fe80::1%eth0", "", "[fe80::1%eth0]:443", "fe80::1"},
	} {
		address, serverName, err := Config{Server: tt.server, ServerName: tt.name}.endpoint()
		if err != nil || address != tt.address || serverName != tt.serverName {
			t.Errorf("endpoint(%q, %q) = %q, %q, %v, want %q, %q", tt.server, tt.name, address, serverName, err, tt.address, tt.serverName)
		}
	}
	for _, server := range []string{"", ":443", "https://vpn.example.com", "vpn.example.com/", "a b", "a\r\nX: y",
		"host:0", "host:65536", "host:https", "host:", "user@host", "[::1", "[::1]:x", "fe80::1%a\r\nX: y", "vpn%eth0"} {
		if address, _, err := (Config{Server: server}).endpoint(); err == nil {
			t.Errorf("endpoint(%q) = %q, want an error", server, address)
		}
	}
	if _, _, err := (Config{Server: "a", ServerName: "b:443"}).endpoint(); err == nil {
		t.Error("server name with a port accepted")
	}
}

func TestHostHeader(t *testing.T) {
	for _, tt := range []struct{ name, address, want string }{
		{"vpn.example.com", "192.0.2.1:443", "vpn.example.com"},
		{"vpn.example.com", "192.0.2.1:444", "vpn.example.com:444"},
		{"2001:db8::1", "[2001:db8::1]:443", "[2001:db8::1]"},
		{"2001:db8::1", "[2001:db8::1]:444", "[2001:db8::1]:444"},
	} {
		if got := hostHeader(tt.name, tt.address); got != tt.want {
			t.Errorf("hostHeader(%q, %q) = %q, want %q", tt.name, tt.address, got, tt.want)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	for name, c := range map[string]Config{
		"MTU 575":              {MTU: 575},
		"MTU 1501":             {MTU: 1501},
		"requested address":    {RequestAddress: netip.MustParseAddr("::1")},
		"user too long":        {User: strings.Repeat("u", 256)},
		"password is too long": {Password: strings.Repeat("p", 256)},
	} {
		if err := c.check(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := (Config{MTU: 1400, RequestAddress: netip.MustParseAddr("10.0.0.1")}).check(); err != nil {
		t.Error(err)
	}
}

func TestParsePin(t *testing.T) {
	want := [32]byte{0: 0xfc, 31: 1} // its base64 starts with a slash
	for _, s := range []string{FormatPin(want), strings.Replace(FormatPin(want), "sha256/", "sha256//", 1)} {
		if got, err := ParsePin(s); err != nil || got != want {
			t.Errorf("ParsePin(%q) = %x, %v, want %x", s, got, err, want)
		}
	}
	for _, s := range []string{"", "sha256/", "sha1/AAAA", "sha256/AAAA", FormatFingerprint(want), "sha256/!"} {
		if _, err := ParsePin(s); err == nil {
			t.Errorf("ParsePin(%q): no error", s)
		}
	}
}

func TestParseFingerprint(t *testing.T) {
	want := [32]byte{1, 2, 30: 0xab, 31: 0xcd}
	s := FormatFingerprint(want)
	var colons []string
	for i := 0; i < len(s); i += 2 {
		colons = append(colons, strings.ToUpper(s[i:i+2]))
	}
	for _, s := range []string{s, strings.ToUpper(s), strings.Join(colons, ":"), strings.Join(colons, " ")} {
		if got, err := ParseFingerprint(s); err != nil || got != want {
			t.Errorf("ParseFingerprint(%q) = %x, %v, want %x", s, got, err, want)
		}
	}
	for _, s := range []string{"", s[2:], s + "00", "zz" + s[2:]} {
		if _, err := ParseFingerprint(s); err == nil {
			t.Errorf("ParseFingerprint(%q): no error", s)
		}
	}
}

func TestCorrelationID(t *testing.T) {
	id := correlationID()
	if len(id) != 38 || id[0] != '{' || id[37] != '}' || id == correlationID() || id[15] != '4' {
		t.Errorf("correlationID() = %q, want a new GUID in braces each time", id)
	}
}

func TestFirstRestart(t *testing.T) {
	for rtt, want := range map[time.Duration]time.Duration{
		0: 250 * time.Millisecond, 100 * time.Millisecond: 400 * time.Millisecond, 2 * time.Second: 3 * time.Second,
	} {
		if got := firstRestart(rtt); got != want {
			t.Errorf("round trip %v: got %v, want %v", rtt, got, want)
		}
	}
}

// Of several addresses the one to avoid is the last resort.
func TestDialAddresses(t *testing.T) {
	var addrs []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	for _, tt := range []struct{ avoid, dial string }{{"", addrs[0]}, {addrs[1], addrs[0]}, {addrs[0], addrs[0]}} {
		conn, err := Config{avoid: tt.avoid}.dialAddresses(t.Context(), "tcp", tt.dial)
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.RemoteAddr().String(); got != tt.dial {
			t.Errorf("avoiding %s: connected to %s, want %s", tt.avoid, got, tt.dial)
		}
		conn.Close()
	}
}

// localhost has two addresses on most machines: with one to avoid it is the other.
func TestDialAvoidsAddress(t *testing.T) {
	six, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 on this machine: %v", err)
	}
	defer six.Close()
	_, port, _ := net.SplitHostPort(six.Addr().String())
	four, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Skipf("port %s is not free for both families: %v", port, err)
	}
	defer four.Close()
	name := net.JoinHostPort("localhost", port)
	first, err := Config{}.dialAddresses(t.Context(), "tcp", name)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	second, err := Config{avoid: first.RemoteAddr().String()}.dialAddresses(t.Context(), "tcp", name)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if a, b := first.RemoteAddr().String(), second.RemoteAddr().String(); a == b {
		if ips, _ := net.LookupIP("localhost"); len(ips) < 2 {
			t.Skipf("localhost has the addresses %v only", ips)
		}
		t.Errorf("connected to %s again", a)
	}
}
