package route

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/dop251/goja"
)

// browser runs a PAC file as a browser does.
func browser(t *testing.T, p PAC) func(url, host string) string {
	t.Helper()
	script := string(p.Script())
	if strings.IndexFunc(script, func(c rune) bool { return c > '~' }) >= 0 {
		t.Error("the script is not ASCII")
	}
	vm := goja.New()
	if _, err := vm.RunString(script); err != nil {
		t.Fatal(err)
	}
	find, ok := goja.AssertFunction(vm.Get("FindProxyForURL"))
	if !ok {
		t.Fatal("no FindProxyForURL")
	}
	return func(url, host string) string {
		t.Helper()
		v, err := find(goja.Undefined(), vm.ToValue(url), vm.ToValue(host))
		if err != nil {
			t.Fatal(err)
		}
		return v.String()
	}
}

const viaProxy = "PROXY 127.0.0.1:1080"

// TestPAC: on every host and port the file says what the rules say.
func TestPAC(t *testing.T) {
	hosts := []string{
		"corp.example", "db.corp.example", "DB.Corp.Example", "a.b.corp.example", "public.corp.example", "x.public.corp.example",
		"notcorp.example", "example", "intranet", "db1.example", "dbx.example", "example.org", "corp.example.evil.test",
		"xn--bcher-kva.example", "a_b.example", "corpxexample", "10.example",
		"10.0.0.1", "10.255.255.255", "11.0.0.0", "9.255.255.255", "10.127.0.1", "10.128.0.1", "192.0.2.1", "192.0.2.2", "172.16.5.4", "172.32.0.1",
		"2001:db8::1", "2001:db8:0:1::1", "2001:db9::", "2001:DB8::1", "::ffff:10.0.0.1", "::ffff:a00:1", "fe80::1", "::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:0.1.2.3",
	}
	for _, tt := range []struct {
		otherwise string
		rules     []string
	}{
		{"", nil}, {"direct", nil}, {"block", nil},
		{"direct", []string{"10.0.0.0/8,*.corp.example,!public.corp.example"}},
		{"direct", []string{"*.corp.example,!public.corp.example,10.0.0.0/9:443"}},
		{"direct", []string{"10.0.0.0/8", "!*.corp.example"}},
		{"direct", []string{"corp.example:8000-8999", "db*.example", "Bücher.example", "2001:db8::/48"}},
		{"direct", []string{"0.0.0.0/0", "!10.128.0.0/9", "::/0", "![2001:db8::/32]:443"}},
		{"direct", []string{"*", "!192.0.2.1", "!172.16.0.0/12", "::ffff:10.0.0.1=block"}},
		{"tunnel", []string{"!10.0.0.0/8", "!public.corp.example", "*:25=block", "!1:2:3:4:5:6:7:8", "!1:2:3:4:5:6:0:203"}},
		{"block", []string{"!example", "corp.example", "!*b*.corp.example:443", "!fe80::/10"}},
	} {
		rules := parse(t, tt.otherwise, tt.rules...)
		find := browser(t, PAC{Rules: rules, Proxies: []string{viaProxy}})
		for _, host := range hosts {
			for _, port := range []uint16{25, 80, 443, 8500} {
				want := viaProxy
				if rules.Match(host, port) == Direct && rules.Settled(host, port) {
					want = "DIRECT"
				}
				url := "http://" + net.JoinHostPort(host, strconv.Itoa(int(port))) + "/path?a=b:1"
				if got := find(url, host); got != want {
					t.Errorf("%q, else %q: %s: got %s, want %s", tt.rules, tt.otherwise, url, got, want)
				}
			}
		}
	}
}

// TestPACURLs: ports that are not written, brackets, and what only the proxy or
// only this machine knows.
func TestPACURLs(t *testing.T) {
	rules := parse(t, "direct", "*:80", "[2001:db8::1]:9443", "*:8443=block")
	find := browser(t, PAC{Rules: rules, Proxies: []string{"PROXY [::1]:1080", "SOCKS5 127.0.0.1:1080"}, Names: []string{"Db.Example"}, Plain: true})
	const proxies = "PROXY [::1]:1080; SOCKS5 127.0.0.1:1080"
	for _, tt := range [][3]string{
		{"http://a.example/", "a.example", proxies},
		{"https://a.example/", "a.example", "DIRECT"},
		{"ws://a.example/", "a.example", proxies},
		{"wss://a.example/", "a.example", "DIRECT"},
		{"HTTP://a.example", "a.example", proxies},
		{"http://user:99@a.example/", "a.example", proxies},
		{"https://a.example:80?x:443", "a.example", proxies},
		{"https://a.example:8443/", "a.example", proxies},
		{"https://[2001:db8::1]:9443/", "[2001:db8::1]", proxies},
		{"https://[2001:db8::1]:9443/", "2001:db8::1", proxies},
		{"https://[2001:db8::2]:9443/", "2001:db8::2", "DIRECT"},
		{"https://db.example/", "db.example", proxies},
		{"https://db.example./", "db.example.", proxies},
		{"https://intranet/", "intranet", proxies},
		{"http://localhost/", "localhost", "DIRECT"},
		{"http://a.localhost/", "a.localhost", "DIRECT"},
		{"http://127.1.2.3/", "127.1.2.3", "DIRECT"},
		{"http://[::1]/", "::1", "DIRECT"},
		{"nonsense", "a.example", "DIRECT"},
	} {
		if got := find(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%s: got %s, want %s", tt[0], got, tt[2])
		}
	}
}

// TestPACQuotes: nothing that gets in can end a string.
func TestPACQuotes(t *testing.T) {
	find := browser(t, PAC{Proxies: []string{`"; throw 1; "</script>` + "\u2028\n"}, Names: []string{`\"'`}})
	if got, want := find("http://a.example/", "a.example"), `"; throw 1; "</script>`+"\u2028\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
