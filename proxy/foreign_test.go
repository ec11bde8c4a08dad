package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// pySocks sends a datagram to a name and one to an address, and prints what comes
// back, by PySocks (Debian: python3-socks).
const pySocks = `
import socket, socks, sys
s = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
s.set_proxy(socks.SOCKS5, sys.argv[1], int(sys.argv[2]))
s.settimeout(20)
for to in ("host.test", 53), ("10.1.2.3", 54):
    s.sendto(b"hello " + to[0].encode(), to)
    print(*s.recvfrom(100))
s.close()
`

func TestUDPForeignClient(t *testing.T) {
	python := ""
	for _, p := range []string{"python3", "/usr/bin/python3"} { // the second has Debian's packages
		if err := exec.Command(p, "-c", "import socks").Run(); err == nil {
			python = p
		}
	}
	if python == "" {
		t.Skip("no PySocks (Debian: python3-socks)")
	}
	var n udpNet
	f := serve(t, n.config(), ModeAuto)
	host, port, _ := strings.Cut(f.addr, ":")
	out, err := exec.CommandContext(t.Context(), python, "-c", pySocks, host, port).CombinedOutput()
	const answers = "b'hello host.test' ('10.9.9.9', 53)\nb'hello 10.1.2.3' ('10.1.2.3', 54)\n"
	if err != nil || string(out) != answers {
		t.Errorf("got %q, %v, want %q", out, err, answers)
	}
}

// TestSOCKSCurl uses curl, which speaks both forms of both versions. It looks
// names up itself for the forms without them, so these get an address.
func TestSOCKSCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl:", err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer web.Close()
	for scheme, host := range map[string]string{"socks4": "10.1.2.3", "socks4a": "host.test", "socks5": "10.1.2.3", "socks5h": "host.test"} {
		d := &dials{to: web.Listener.Addr().String()}
		f := serve(t, Config{Dial: d.dial}, ModeAuto)
		cmd := exec.CommandContext(t.Context(), "curl", "-sS", "--noproxy", "", "-m", "20", "-x", scheme+"://me@"+f.addr, "http://"+host+":8080/")
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "hello" {
			t.Errorf("%s: got %q, %v", scheme, out, err)
		}
		if got := d.list(); !slices.Equal(got, []string{"tcp " + host + ":8080"}) {
			t.Errorf("%s: got dials %q", scheme, got)
		}
	}
}
