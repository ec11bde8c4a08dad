package main

import (
	"slices"
	"testing"

	"github.com/miekg/dns"
)

func TestParseServices(t *testing.T) {
	got, err := parseServices([]string{"80=127.0.0.1:8080", "5201=[::1]:5000/udp"})
	want := []service{{"tcp", 80, "127.0.0.1:8080"}, {"udp", 5201, "[::1]:5000"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, arg := range []string{"", "80", "80=", "80=host", "0=host:1", "65536=host:1", "x=host:1", "80=host:1/tcp6:2"} {
		if got, err := parseServices([]string{arg}); err == nil {
			t.Errorf("%q: got %v, want an error", arg, got)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, tt := range []struct {
		name   string
		qtype  uint16
		rcode  int
		answer string // what its record ends with; "" is no record
	}{
		{"host.intranet.test.", dns.TypeA, dns.RcodeSuccess, "10.98.0.80"},
		{"Any.Name.Intranet.Test.", dns.TypeA, dns.RcodeSuccess, "10.98.0.80"},
		{"ns.intranet.test.", dns.TypeA, dns.RcodeSuccess, "10.98.0.1"},
		{"host.intranet.test.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"80.0.98.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, "host.intranet.test."},
		{"80.0.98.10.in-addr.arpa.", dns.TypeA, dns.RcodeSuccess, ""},
		{"81.0.98.10.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, ""},
		{"notintranet.test.", dns.TypeA, dns.RcodeNameError, ""},
	} {
		records, rcode := lookup(dns.Question{Name: tt.name, Qtype: tt.qtype, Qclass: dns.ClassINET})
		got := ""
		if len(records) == 1 {
			got = dns.Field(records[0], 1)
		}
		if rcode != tt.rcode || got != tt.answer || len(records) > 1 {
			t.Errorf("%s %s: got %v, %s, want %q, %s", tt.name, dns.TypeToString[tt.qtype],
				records, dns.RcodeToString[rcode], tt.answer, dns.RcodeToString[tt.rcode])
		}
	}
}
