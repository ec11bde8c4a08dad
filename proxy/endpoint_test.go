package proxy

import (
	"net"
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	for _, tt := range []struct {
		spec    string
		want    Endpoint
		exposed bool
	}{
		{"127.0.0.1:1080", Endpoint{Mode: ModeAuto, Network: "tcp", Address: "127.0.0.1:1080"}, false},
		{"127.9.9.9:0", Endpoint{Mode: ModeAuto, Network: "tcp", Address: "127.9.9.9:0"}, false},
		{"localhost:1080", Endpoint{Mode: ModeAuto, Network: "tcp", Address: "localhost:1080"}, false},
		{"[::1]:1080", Endpoint{Mode: ModeAuto, Network: "tcp", Address: "[::1]:1080"}, false},
		{"[::ffff:127.0.0.1]:1080", Endpoint{Mode: ModeAuto, Network: "tcp", Address: "[::ffff:127.0.0.1]:1080"}, false},
		{":1080", Endpoint{Mode: ModeAuto, Network: "tcp", Address: ":1080"}, true},
		{"0.0.0.0:1080", Endpoint{Mode: ModeAuto, Network: "tcp", Address: "0.0.0.0:1080"}, true},
		{"[::]:1080", Endpoint{Mode: ModeAuto, Network: "tcp", Address: "[::]:1080"}, true},
		{"192.168.1.1:65535", Endpoint{Mode: ModeAuto, Network: "tcp", Address: "192.168.1.1:65535"}, true},
		{"[fe80::1%eth0]:1080", Endpoint{Mode: ModeAuto, Network: "tcp", Address: "[fe80::1%eth0]:1080"}, true},
		{"myhost:1080", Endpoint{Mode: ModeAuto, Network: "tcp", Address: "myhost:1080"}, true},
		{"localhost.example.com:1", Endpoint{Mode: ModeAuto, Network: "tcp", Address: "localhost.example.com:1"}, true},
		{"socks5://127.0.0.1:1080", Endpoint{Mode: ModeSOCKS5, Network: "tcp", Address: "127.0.0.1:1080"}, false},
		{"http://[::1]:8080/", Endpoint{Mode: ModeHTTP, Network: "tcp", Address: "[::1]:8080"}, false},
		{"HTTP://0.0.0.0:8080", Endpoint{Mode: ModeHTTP, Network: "tcp", Address: "0.0.0.0:8080"}, true},
		{"unix:/run/user/1000/p.sock", Endpoint{Mode: ModeAuto, Network: "unix", Address: "/run/user/1000/p.sock"}, false},
		{"unix:/p,mode=660", Endpoint{Network: "unix", Address: "/p", Perm: 0o660}, false},
		{"unix:/a,mode=600,mode=777", Endpoint{Network: "unix", Address: "/a,mode=600", Perm: 0o777}, false},
		{"unix:relative", Endpoint{Mode: ModeAuto, Network: "unix", Address: "relative"}, false},
	} {
		got, err := ParseEndpoint(tt.spec)
		if err != nil || got != tt.want || got.Exposed() != tt.exposed {
			t.Errorf("%s: got %+v, exposed %t, %v; want %+v, %t", tt.spec, got, got.Exposed(), err, tt.want, tt.exposed)
		}
		if again, err := ParseEndpoint(got.String()); err != nil || again != got {
			t.Errorf("%s: String %q gives %+v, %v", tt.spec, got.String(), again, err)
		}
	}
	for _, spec := range []string{
		"", "1080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:socks", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1:01",
		"::1:1080", "[::1]", "socks5://", "socks5://:", "socks4://127.0.0.1:1", "https://127.0.0.1:1", "://127.0.0.1:1", "tcp://127.0.0.1:1",
		"http://127.0.0.1:8080/path", "http://u:p@127.0.0.1:8080", "unix:", "unix:@abstract", "unix:,mode=660", "unix:@a,mode=660", "unix:p,mode=", "unix:p,mode=060", "unix:p,mode=1777", "unix:p,mode=rw", "unix:p,mode=680", "unix:a\x00b", "unix:/" + strings.Repeat("x", maxSocketPath), "a b:1", "a\n:1",
	} {
		if e, err := ParseEndpoint(spec); err == nil || e != (Endpoint{}) {
			t.Errorf("%q: got %+v and %v, want an error", spec, e, err)
		}
	}
	if !(Endpoint{}).Exposed() {
		t.Error("an address that is not understood counts as not exposed")
	}
}

func TestEndpointListen(t *testing.T) {
	e, err := ParseEndpoint("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Addr().(*net.TCPAddr).Port == 0 {
		t.Error("got port 0")
	}
	if _, err := (Endpoint{Network: "tcp", Address: l.Addr().String()}).Listen(); err == nil {
		t.Error("the same port twice")
	}
}

func TestModeString(t *testing.T) {
	for m, want := range map[Mode]string{ModeAuto: "auto", ModeSOCKS5: "socks5", ModeHTTP: "http", 9: "Mode(0x9)"} {
		if got := m.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
