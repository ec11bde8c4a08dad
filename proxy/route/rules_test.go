package route

import (
	"net/netip"
	"strings"
	"testing"
)

// parse reads rules that a test knows to be right.
func parse(t *testing.T, otherwise string, list ...string) *Rules {
	t.Helper()
	r, err := Parse(list, otherwise)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMatch(t *testing.T) {
	corp := []string{"10.0.0.0/8,*.corp.example,!public.corp.example"}
	for _, tt := range []struct {
		otherwise string
		rules     []string
		host      string
		port      uint16
		want      Decision
	}{
		{"", nil, "anything.example", 80, Tunnel},
		{"direct", nil, "anything.example", 80, Direct},
		{"block", nil, "192.0.2.1", 80, Block},

		{"direct", corp, "db.corp.example", 5432, Tunnel},
		{"direct", corp, "DB.Corp.Example.", 5432, Tunnel},
		{"direct", corp, "a.b.corp.example", 80, Tunnel},
		{"direct", corp, "corp.example", 80, Direct}, // a star before a dot is below only
		{"direct", corp, "notcorp.example", 80, Direct},
		{"direct", corp, "public.corp.example", 80, Direct},
		{"direct", corp, "www.public.corp.example", 80, Direct},
		{"direct", corp, "10.255.0.1", 80, Tunnel},
		{"direct", corp, "::ffff:10.0.0.1", 80, Tunnel},
		{"direct", corp, "11.0.0.1", 80, Direct},
		{"block", corp, "example.org", 80, Block},

		{"direct", []string{"corp.example"}, "corp.example", 80, Tunnel},
		{"direct", []string{"corp.example"}, "a.corp.example", 80, Tunnel},
		{"direct", []string{"corp.example"}, "acorp.example", 80, Direct},
		{"direct", []string{".corp.example"}, "corp.example", 80, Direct},
		{"direct", []string{".corp.example"}, "a.corp.example", 80, Tunnel},
		{"direct", []string{"db*.example"}, "db12.example", 80, Tunnel},
		{"direct", []string{"db*.example"}, "db.x.example", 80, Tunnel},
		{"direct", []string{"db*.example"}, "db.exampleexample", 80, Direct},
		{"direct", []string{"a*a.example"}, "a.example", 80, Direct},
		{"direct", []string{"*ab*ab*"}, "ab", 80, Direct},
		{"direct", []string{"*ab*ab*"}, "xabxabx", 80, Tunnel},
		{"direct", []string{"Bücher.example"}, "www.xn--bcher-kva.example", 80, Tunnel},

		{"tunnel", []string{"!192.168.0.0/16"}, "192.168.1.1", 80, Direct},
		{"tunnel", []string{"!192.168.0.0/16", "192.168.7.0/24"}, "192.168.7.1", 80, Tunnel},
		{"tunnel", []string{"192.168.7.0/24", "!192.168.0.0/16"}, "192.168.7.1", 80, Direct}, // the last one
		{"tunnel", []string{"2001:db8::/32=block"}, "2001:db8::1", 80, Block},
		{"tunnel", []string{"2001:db8::1=direct"}, "2001:db8::1", 80, Direct},
		{"tunnel", []string{"2001:db8::1=direct"}, "2001:db8::2", 80, Tunnel},

		{"tunnel", []string{"*:25=block"}, "mx.example", 25, Block},
		{"tunnel", []string{"*:25=block"}, "192.0.2.1", 25, Block},
		{"tunnel", []string{"*:25=block"}, "192.0.2.1", 26, Tunnel},
		{"tunnel", []string{"corp.example:8000-8999=direct"}, "corp.example", 8500, Direct},
		{"tunnel", []string{"corp.example:8000-8999=direct"}, "corp.example", 9000, Tunnel},
		{"tunnel", []string{"10.0.0.0/8:443=direct"}, "10.1.1.1", 443, Direct},
		{"tunnel", []string{"[2001:db8::/32]:443=direct"}, "2001:db8::1", 443, Direct},
		{"tunnel", []string{"[2001:db8::/32]:443=direct"}, "2001:db8::1", 80, Tunnel},
		{"tunnel", []string{"[2001:db8::1]=direct"}, "2001:db8::1", 80, Direct},
	} {
		r := parse(t, tt.otherwise, tt.rules...)
		if got := r.Match(tt.host, tt.port); got != tt.want {
			t.Errorf("%q, else %q: %s port %d: got %v, want %v", tt.rules, tt.otherwise, tt.host, tt.port, got, tt.want)
		}
	}
}

// TestNone: no rules are rules.
func TestNone(t *testing.T) {
	for _, r := range []*Rules{nil, {}} {
		if d, ruled := r.Lookup("a.example"); d != Tunnel || ruled || !r.Trivial() || r.Match("a.example", 1) != Tunnel || !r.Settled("a.example", 1) {
			t.Errorf("%v: not all goes into the tunnel", r)
		}
	}
	for _, list := range []string{"!a.example", "*:25=block"} {
		if parse(t, "", list).Trivial() {
			t.Errorf("%q: trivial", list)
		}
	}
	if parse(t, "direct", "*").Trivial() {
		t.Error("else direct: trivial")
	}
}

// TestMatchFound: a rule by address fits a name by what was found for it.
func TestMatchFound(t *testing.T) {
	for _, tt := range []struct {
		otherwise, rules, name, found string
		want                          Decision
		settled                       bool
	}{
		{"direct", "10.0.0.0/8", "a.example", "10.1.1.1:80", Tunnel, false},
		{"direct", "10.0.0.0/8", "a.example", "192.0.2.1:80", Direct, false},
		{"direct", "10.0.0.0/8,!a.example", "a.example", "10.1.1.1:80", Direct, true},
		{"direct", "!a.example,10.0.0.0/8", "a.example", "10.1.1.1:80", Tunnel, false},
		{"direct", "!10.0.0.0/8", "a.example", "10.1.1.1:80", Direct, true},
		{"direct", "10.0.0.0/8:443", "a.example", "10.1.1.1:80", Direct, true},
		{"tunnel", "*.corp.example,10.9.0.0/16=block", "x.corp.example", "10.9.0.1:80", Block, false},
		{"tunnel", "10.9.0.0/16=block,*.corp.example", "x.corp.example", "10.9.0.1:80", Tunnel, true},
		{"tunnel", "10.9.0.0/16=block", "x.example", "[::ffff:10.9.0.1]:80", Block, false},
	} {
		r := parse(t, tt.otherwise, tt.rules)
		found := netip.MustParseAddrPort(tt.found)
		if got := r.MatchFound(tt.name, found); got != tt.want {
			t.Errorf("%s, else %s: %s at %s: got %v, want %v", tt.rules, tt.otherwise, tt.name, tt.found, got, tt.want)
		}
		if got := r.Settled(tt.name, found.Port()); got != tt.settled {
			t.Errorf("%s, else %s: %s: got settled %t, want %t", tt.rules, tt.otherwise, tt.name, got, tt.settled)
		}
	}
}

// TestLookup: where a name is asked, before a port counts.
func TestLookup(t *testing.T) {
	for _, tt := range []struct {
		otherwise, rules, name string
		want                   Decision
		ruled                  bool
	}{
		{"direct", "10.0.0.0/8", "a.example", Direct, false},
		{"direct", "*.corp.example", "a.corp.example", Tunnel, true},
		{"direct", "*.corp.example:443", "a.corp.example", Tunnel, true}, // one port suffices
		{"direct", "*.corp.example:443,!a.corp.example", "a.corp.example", Direct, true},
		{"direct", "*.corp.example,a.corp.example:80=direct", "a.corp.example", Tunnel, true},
		{"tunnel", "*:25=block", "a.example", Tunnel, false},
		{"tunnel", "ads.example=block", "x.ads.example", Block, true},
		{"block", "a.example", "b.example", Block, false},
		{"block", "10.0.0.0/8", "b.example", Tunnel, false}, // its address may be one of those
		{"block", "!10.0.0.0/8", "b.example", Direct, false},
		{"block", "a.example:80=direct", "a.example", Direct, false},
		{"tunnel", "10.0.0.0/8,a.example=block", "a.example", Block, true},
		{"tunnel", "a.example=block,!10.0.0.0/8", "a.example", Direct, true},
	} {
		d, ruled := parse(t, tt.otherwise, tt.rules).Lookup(tt.name)
		if d != tt.want || ruled != tt.ruled {
			t.Errorf("%s, else %s: %s: got %v, %t, want %v, %t", tt.rules, tt.otherwise, tt.name, d, ruled, tt.want, tt.ruled)
		}
	}
	r := parse(t, "direct", "10.0.0.0/8,10.9.0.0/16=block,192.0.2.1:80=block")
	for addr, want := range map[string]Decision{"10.1.1.1": Tunnel, "10.9.1.1": Block, "192.0.2.1": Direct} {
		if got, _ := r.LookupAddr(netip.MustParseAddr(addr)); got != want {
			t.Errorf("name of %s: got %v, want %v", addr, got, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for rule, want := range map[string]string{
		"":                             "want an address, a name or *",
		"a.example,":                   "want an address, a name or *",
		"!":                            "want an address, a name or *",
		":25":                          "want an address, a name or *",
		"10.0.0.1/8":                   "want 10.0.0.0/8",
		"10.0.0.0/33":                  "want ADDRESS/BITS",
		"10.0.0/8":                     "want ADDRESS/BITS",
		"10.0.0":                       "ends in a number",
		"10.*":                         "ends in a number",
		"::ffff:10.0.0.0/104":          "IPv4 address as such",
		"fe80::1%eth0":                 "zone",
		"a..example":                   "0 characters",
		"a b":                          `' ' can't be`,
		"http://a.example":             "want PORT",
		"a.example:0":                  "want PORT",
		"a.example:":                   "want PORT",
		"a.example:70000":              "want PORT",
		"a.example:9-8":                "want PORT",
		"a.example=proxy":              "want PATTERN",
		"!a.example=block":             "want PATTERN",
		"[2001:db8::":                  "not closed",
		"[10.0.0.1]:80":                "brackets are for IPv6",
		"[2001:db8::]80":               "want :PORT",
		"2001:db8::/32:443":            "want ADDRESS/BITS",
		"\xff.example":                 "not valid",
		strings.Repeat("x", 64) + ".y": "64 characters",
	} {
		if _, err := Parse([]string{rule}, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want it to say %q", rule, err, want)
		}
	}
	if _, err := Parse(nil, "proxy"); err == nil || !strings.Contains(err.Error(), "want tunnel, direct or block") {
		t.Errorf("else proxy: got %v", err)
	}
	if _, err := Parse([]string{strings.Repeat("a.example,", maxRules) + "b.example"}, ""); err == nil {
		t.Error("too many rules: no error")
	}
}

func TestDecisionString(t *testing.T) {
	for d, want := range map[Decision]string{Tunnel: "tunnel", Direct: "direct", Block: "block", 9: "Decision(0x9)"} {
		if got := d.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzParse: what is taken decides on everything, and what it says of a name
// before and after its address is known fits together.
func FuzzParse(f *testing.F) {
	f.Add("10.0.0.0/8,*.corp.example,!public.example", "direct", "db.corp.example", uint16(443))
	f.Add("[2001:db8::/32]:1-9=block,*", "block", "2001:db8::1", uint16(5))
	f.Add("*a*b*:25=block", "", "ab", uint16(25))
	f.Fuzz(func(t *testing.T, list, otherwise, host string, port uint16) {
		r, err := Parse([]string{list}, otherwise)
		if err != nil {
			return
		}
		found := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), port)
		d := r.Match(host, port)
		if r.Trivial() && d != Tunnel {
			t.Errorf("%v of %q, but all is to go into the tunnel", d, host)
		}
		if _, ok := literal(host); !ok && r.Settled(host, port) && r.MatchFound(host, found) != d {
			// Only a rule by address that agrees may fit before the name's.
			t.Errorf("%q is settled as %v, and then %v", host, d, r.MatchFound(host, found))
		}
		if where, _ := r.Lookup(host); d != Block && where == Block {
			if _, ok := literal(host); !ok {
				t.Errorf("%q port %d is %v, but its name is blocked", host, port, d)
			}
		}
	})
}
