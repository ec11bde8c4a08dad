package proxy

import (
	"net"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	for _, tt := range []struct {
		spec    string
		want    Endpoint
		exposed bool
	}{
		{"127.0.0.1:1080", Endpoint{ModeAuto, "tcp", "127.0.0.1:1080"}, false},
		{"127.9.9.9:0", Endpoint{ModeAuto, "tcp", "127.9.9.9:0"}, false},
		{"localhost:1080", Endpoint{ModeAuto, "tcp", "localhost:1080"}, false},
		{"[::1]:1080", Endpoint{ModeAuto, "tcp", "[::1]:1080"}, false},
		{"[::ffff:127.0.0.1]:1080", Endpoint{ModeAuto, "tcp", "[::ffff:127.0.0.1]:1080"}, false},
		{":1080", Endpoint{ModeAuto, "tcp", ":1080"}, true},
		{"0.0.0.0:1080", Endpoint{ModeAuto, "tcp", "0.0.0.0:1080"}, true},
		{"[::]:1080", Endpoint{ModeAuto, "tcp", "[::]:1080"}, true},
		{"192.168.1.1:65535", Endpoint{ModeAuto, "tcp", "192.168.1.1:65535"}, true},
		{"[fe80::1%eth0]:1080", Endpoint{ModeAuto, "tcp", "[fe80::1%eth0]:1080"}, true},
		{"myhost:1080", Endpoint{ModeAuto, "tcp", "myhost:1080"}, true},
		{"localhost.example.com:1", Endpoint{ModeAuto, "tcp", "localhost.example.com:1"}, true},
		{"socks5://127.0.0.1:1080", Endpoint{ModeSOCKS5, "tcp", "127.0.0.1:1080"}, false},
		{"http://[::1]:8080/", Endpoint{ModeHTTP, "tcp", "[::1]:8080"}, false},
		{"HTTP://0.0.0.0:8080", Endpoint{ModeHTTP, "tcp", "0.0.0.0:8080"}, true},
		{"unix:/run/user/1000/p.sock", Endpoint{ModeAuto, "unix", "/run/user/1000/p.sock"}, false},
		{"unix:relative", Endpoint{ModeAuto, "unix", "relative"}, false},
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
		"http://127.0.0.1:8080/path", "http://u:p@127.0.0.1:8080", "unix:", "unix:@abstract", "unix:a\x00b", "a b:1", "a\n:1",
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
