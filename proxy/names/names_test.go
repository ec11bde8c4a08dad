package names

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// zone is a fake of servers: what each says to a question, nil if it is silent.
type zone struct {
	says func(server, network string, q *dns.Msg) *dns.Msg

	mu    sync.Mutex
	asked []string   // server, network and name
	saw   []*dns.Msg // the same
}

func (z *zone) dial(_ context.Context, network, address string) (net.Conn, error) {
	near, far := net.Pipe()
	go z.serve(far, network, address) // ends when near is closed
	return near, nil
}

func (z *zone) serve(c net.Conn, network, server string) {
	defer c.Close()
	buf := make([]byte, dns.MaxMsgSize)
	if network == "tcp" {
		io.ReadFull(c, buf[:2])
	}
	n, err := c.Read(buf)
	q := new(dns.Msg)
	if err != nil || q.Unpack(buf[:n]) != nil {
		return
	}
	z.mu.Lock()
	z.asked = append(z.asked, server+" "+network+" "+q.Question[0].Name)
	z.saw = append(z.saw, q.Copy())
	z.mu.Unlock()
	m := z.says(server, network, q)
	if m == nil {
		c.Read(buf) // until it is closed
		return
	}
	wire, err := m.Pack()
	if err != nil {
		panic(err)
	}
	if network == "tcp" {
		wire = append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	}
	c.Write(wire)
	c.Read(buf)
}

func (z *zone) count() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.asked)
}

func (z *zone) upstream(servers ...string) *Upstream {
	var list []netip.AddrPort
	for _, s := range servers {
		list = append(list, netip.MustParseAddrPort(s))
	}
	return &Upstream{Dial: z.dial, Servers: func(context.Context) ([]netip.AddrPort, error) { return list, nil }}
}

const ns1, ns2 = "10.0.0.1:53", "10.0.0.2:53"

// server is a forwarder to a zone with one server.
func (z *zone) server(cfg Config) *Server {
	u := z.upstream(ns1)
	cfg.Choose = func(string) Choice { return Choice{Upstream: u} }
	return New(cfg)
}

// says answers with records in the form of a zone file; those of type SOA go to
// the authority section.
func says(q *dns.Msg, rcode int, text ...string) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, rcode)
	m.RecursionAvailable = true
	for _, line := range text {
		rr, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		if rr.Header().Rrtype == dns.TypeSOA {
			m.Ns = append(m.Ns, rr)
		} else {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

func question(name string, qtype uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, qtype) }

// text is what an answer says, in one line.
func text(m *dns.Msg) string {
	words := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		words = append(words, strings.Join(strings.Fields(rr.String()), " "))
	}
	return strings.Join(words, "; ")
}

// wantText asks and compares.
func wantText(t *testing.T, s *Server, q *dns.Msg, want string) *dns.Msg {
	t.Helper()
	m := s.reply(t.Context(), q, true)
	if got := text(m); got != want {
		t.Errorf("%s: got %s, want %s", q.Question[0].Name, got, want)
	}
	if m.Id != q.Id || !m.Response || len(m.Question) != 1 || m.Question[0] != q.Question[0] {
		t.Errorf("%s: got the header %v and question %v", q.Question[0].Name, m.MsgHdr, m.Question)
	}
	if _, err := m.Pack(); err != nil {
		t.Error(err)
	}
	return m
}

// TestPassedOn: what a server gets of a question, and a client of the answer.
func TestPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{says: func(_, _ string, q *dns.Msg) *dns.Msg {
			m := says(q, dns.RcodeSuccess, strings.ToLower(q.Question[0].Name)+" 60 IN A 192.0.2.1")
			m.Question[0].Name = strings.ToLower(m.Question[0].Name)
			if q.IsEdns0() != nil && q.Question[0].Name != "old.example." {
				m.SetEdns0(1232, q.IsEdns0().Do())
			}
			return m
		}}
		s := z.server(Config{})
		q := question("Db.CoRp.example.", dns.TypeA)
		q.SetEdns0(4096, true)
		q.CheckingDisabled = true
		q.IsEdns0().Option = []dns.EDNS0{
			&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"},
			&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(192, 0, 2, 0).To4()},
		}
		for range 2 { // with a client's subnet each is asked anew
			m := wantText(t, s, q, "NOERROR; Db.CoRp.example. 60 IN A 192.0.2.1")
			if opt := m.IsEdns0(); opt == nil || !opt.Do() {
				t.Errorf("got EDNS %v", opt)
			}
		}
		if len(z.saw) != 2 {
			t.Fatalf("got %d questions, want 2", len(z.saw))
		}
		saw := z.saw[0]
		if saw.Question[0].Name != "Db.CoRp.example." || saw.Id == q.Id && z.saw[1].Id == q.Id || !saw.RecursionDesired || !saw.CheckingDisabled {
			t.Errorf("the server saw %v", saw)
		}
		if opt := saw.IsEdns0(); opt == nil || !opt.Do() || opt.UDPSize() != maxUDPReply || len(opt.Option) != 1 || opt.Option[0].Option() != dns.EDNS0SUBNET {
			t.Errorf("the server saw %v", opt)
		}
		old := question("old.example.", dns.TypeA).SetEdns0(1232, false)
		if m := wantText(t, s, old, "NOERROR; old.example. 60 IN A 192.0.2.1"); m.IsEdns0() == nil {
			t.Error("no EDNS, as the server knows none")
		}
		if m := wantText(t, s, question("plain.example.", dns.TypeA), "NOERROR; plain.example. 60 IN A 192.0.2.1"); m.IsEdns0() != nil || z.saw[3].IsEdns0() != nil {
			t.Error("EDNS that was not asked for")
		}
	})
}

// TestCache: what is kept, for how long, and for whom.
func TestCache(t *testing.T) {
	const soa = "example. 600 IN SOA ns.example. root.example. 1 2 3 4 30"
	for name, tt := range map[string]struct {
		rcode int
		text  []string
		keeps time.Duration
	}{
		"address":                {dns.RcodeSuccess, []string{"a.example. 60 IN A 192.0.2.1", "a.example. 90 IN A 192.0.2.2"}, time.Minute},
		"alias":                  {dns.RcodeSuccess, []string{"a.example. 5 IN CNAME b.example.", "b.example. 90 IN A 192.0.2.2"}, 5 * time.Second},
		"no time to live":        {dns.RcodeSuccess, []string{"a.example. 0 IN A 192.0.2.1"}, 0},
		"more than the field":    {dns.RcodeSuccess, []string{"a.example. 2147483648 IN A 192.0.2.1"}, 0},
		"a very long time":       {dns.RcodeSuccess, []string{"a.example. 2147483647 IN A 192.0.2.1"}, maxTTL},
		"no such name":           {dns.RcodeNameError, []string{soa}, 30 * time.Second},
		"no such name, no SOA":   {dns.RcodeNameError, nil, 0},
		"no address":             {dns.RcodeSuccess, []string{soa}, 30 * time.Second},
		"no address, no SOA":     {dns.RcodeSuccess, nil, 0},
		"alias to nothing":       {dns.RcodeSuccess, []string{"a.example. 600 IN CNAME b.example.", soa}, 30 * time.Second},
		"alias to nothing known": {dns.RcodeSuccess, []string{"a.example. 600 IN CNAME b.example."}, 0},
		"failure":                {dns.RcodeServerFailure, []string{soa}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				z := &zone{says: func(_, _ string, q *dns.Msg) *dns.Msg { return says(q, tt.rcode, tt.text...) }}
				s := z.server(Config{})
				ask := func() *dns.Msg { return s.reply(t.Context(), question("A.example.", dns.TypeA), true) }
				first := text(ask())
				if tt.keeps == 0 {
					ask()
					if z.count() != 2 {
						t.Error("kept")
					}
					return
				}
				if got := text(ask()); z.count() != 1 || got != first {
					t.Errorf("not kept, or changed: %s, %s", first, got)
				}
				time.Sleep(tt.keeps - time.Second)
				m := ask()
				if z.count() != 1 {
					t.Errorf("not kept for %v", tt.keeps)
				}
				for _, rr := range append(m.Answer, m.Ns...) {
					if was := rr.Header().Ttl + uint32((tt.keeps-time.Second)/time.Second); !slices.ContainsFunc(tt.text, func(l string) bool {
						rr2, _ := dns.NewRR(l)
						return rr2.Header().Ttl == was
					}) {
						t.Errorf("%v: the time left is not what it should be", rr)
					}
				}
				time.Sleep(time.Second)
				if ask(); z.count() != 2 {
					t.Errorf("kept for longer than %v", tt.keeps)
				}
			})
		})
	}
}

// TestCacheKeys: an answer is not given to who asked otherwise.
func TestCacheKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{says: func(_, _ string, q *dns.Msg) *dns.Msg {
			return says(q, dns.RcodeSuccess, "a.example. 60 IN A 192.0.2.1")
		}}
		s := z.server(Config{})
		for i, change := range []func(*dns.Msg){
			func(*dns.Msg) {},
			func(q *dns.Msg) { q.SetEdns0(1232, false) },
			func(q *dns.Msg) { q.SetEdns0(1232, true) },
			func(q *dns.Msg) { q.CheckingDisabled = true },
			func(q *dns.Msg) { q.AuthenticatedData = true },
			func(q *dns.Msg) { q.RecursionDesired = false },
			func(q *dns.Msg) { q.Question[0].Name = "b.example." },
		} {
			q := question("a.example.", dns.TypeA)
			change(q)
			if s.reply(t.Context(), q, true); z.count() != i+1 {
				t.Errorf("case %d: got %d questions, want %d", i, z.count(), i+1)
			}
		}
	})
}

// TestCacheIsBounded: what was not used goes first.
func TestCacheIsBounded(t *testing.T) {
	c := newCache(10 * (entryOverhead + 60))
	now := time.Now()
	k := func(i int) key { return key{name: string(rune('a' + i)), qtype: dns.TypeA} }
	for i := range 26 {
		q := question(k(i).name+".", dns.TypeA)
		c.put(k(i), says(q, dns.RcodeSuccess, k(i).name+". 60 IN A 192.0.2.1"), now)
		if c.get(k(0), now) == nil {
			t.Fatalf("the one in use is gone after %d", i)
		}
	}
	if n := len(c.entries); n != c.used.Len() || n < 8 || n > 12 || c.get(k(1), now) != nil || c.get(k(25), now) == nil {
		t.Errorf("got %d entries", n)
	}
	c.put(k(25), says(question("z.", dns.TypeA), dns.RcodeSuccess, "z. 60 IN A 192.0.2.9"), now)
	if m := c.get(k(25), now); !strings.Contains(text(m), "192.0.2.9") || len(c.entries) != c.used.Len() {
		t.Errorf("got %s", text(m))
	}
}

// TestMerged: who asks the same at the same time waits for one answer.
func TestMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{says: func(_, _ string, q *dns.Msg) *dns.Msg {
			time.Sleep(time.Second)
			return says(q, dns.RcodeSuccess, "a.example. 0 IN A 192.0.2.1")
		}}
		s := z.server(Config{MaxQueries: 50})
		var wg sync.WaitGroup
		var busy int
		var mu sync.Mutex
		for i := range 60 {
			q := question([]string{"a.example.", "A.Example."}[i%2], dns.TypeA)
			wg.Go(func() {
				m := s.reply(t.Context(), q, true)
				mu.Lock()
				defer mu.Unlock()
				if m.Rcode == dns.RcodeServerFailure {
					busy++
				} else if got, want := text(m), "NOERROR; "+q.Question[0].Name+" 0 IN A 192.0.2.1"; got != want || m.Id != q.Id {
					t.Errorf("got %s, want %s", got, want)
				}
			})
		}
		wg.Wait()
		if z.count() != 1 || busy != 10 || len(s.flights) != 0 {
			t.Errorf("got %d questions, %d refused, %d under way", z.count(), busy, len(s.flights))
		}
	})
}

// TestFailover: which server is asked when, and what is said when none helps.
func TestFailover(t *testing.T) {
	good := func(q *dns.Msg) *dns.Msg { return says(q, dns.RcodeSuccess, q.Question[0].Name+" 0 IN A 192.0.2.1") }
	code := func(rcode int) func(*dns.Msg) *dns.Msg { return func(q *dns.Msg) *dns.Msg { return says(q, rcode) } }
	silent := func(*dns.Msg) *dns.Msg { return nil }
	forged := func(q *dns.Msg) *dns.Msg { m := good(q); m.Id++; return m }
	other := func(q *dns.Msg) *dns.Msg { m := good(q); m.Question[0].Name = "evil.example."; return m }
	for name, tt := range map[string]struct {
		one, two func(*dns.Msg) *dns.Msg
		want     string
		asked    int
		took     time.Duration
	}{
		"good":            {good, silent, "NOERROR; a.example. 0 IN A 192.0.2.1", 1, 0},
		"silent, good":    {silent, good, "NOERROR; a.example. 0 IN A 192.0.2.1", 2, tries[0]},
		"forged, good":    {forged, good, "NOERROR; a.example. 0 IN A 192.0.2.1", 2, tries[0]},
		"other, good":     {other, good, "NOERROR; a.example. 0 IN A 192.0.2.1", 2, tries[0]},
		"failing, good":   {code(dns.RcodeServerFailure), good, "NOERROR; a.example. 0 IN A 192.0.2.1", 2, 0},
		"refusing, good":  {code(dns.RcodeRefused), good, "NOERROR; a.example. 0 IN A 192.0.2.1", 2, 0},
		"no such name":    {code(dns.RcodeNameError), good, "NXDOMAIN", 1, 0},
		"no EDNS":         {code(dns.RcodeFormatError), good, "FORMERR", 1, 0},
		"failing, silent": {code(dns.RcodeServerFailure), silent, "SERVFAIL", 2, tries[0]},
		"refusing both":   {code(dns.RcodeRefused), code(dns.RcodeRefused), "REFUSED", 2, 0},
		"silent":          {silent, silent, "SERVFAIL", 4, 2*tries[0] + 2*tries[1]},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				z := &zone{says: func(server, _ string, q *dns.Msg) *dns.Msg {
					if server == ns1 {
						return tt.one(q)
					}
					return tt.two(q)
				}}
				u := z.upstream(ns1, ns2)
				s := New(Config{Choose: func(string) Choice { return Choice{Upstream: u} }})
				begun := time.Now()
				wantText(t, s, question("a.example.", dns.TypeA), tt.want)
				if z.count() != tt.asked || time.Since(begun) != tt.took {
					t.Errorf("asked %q in %v, want %d in %v", z.asked, time.Since(begun), tt.asked, tt.took)
				}
				if strings.HasSuffix(name, ", good") { // now it comes first
					n := z.count()
					wantText(t, s, question("b.example.", dns.TypeA), "NOERROR; b.example. 0 IN A 192.0.2.1")
					if z.count() != n+1 {
						t.Errorf("asked %q", z.asked)
					}
				}
			})
		})
	}
}

// TestReason: who speaks EDNS is told why there is no answer.
func TestReason(t *testing.T) {
	u := &Upstream{Servers: func(context.Context) ([]netip.AddrPort, error) { return nil, io.ErrNoProgress }}
	s := New(Config{Choose: func(string) Choice { return Choice{Upstream: u} }})
	q := question("a.example.", dns.TypeA)
	q.SetEdns0(1232, false)
	m := wantText(t, s, q, "SERVFAIL")
	if !strings.Contains(m.String(), io.ErrNoProgress.Error()) {
		t.Errorf("got %v", m)
	}
}

// TestTruncation: a server's truncated answer is fetched by TCP, and a client
// gets what it takes.
func TestTruncation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var records []string
		for range 100 {
			records = append(records, "a.example. 60 IN TXT \"0123456789012345678901234567890123456789"+string(rune('a'+len(records)%26))+string(rune('a'+len(records)/26))+"\"")
		}
		z := &zone{says: func(_, network string, q *dns.Msg) *dns.Msg {
			if network == "udp" {
				m := says(q, dns.RcodeSuccess)
				m.Truncated = true
				return m
			}
			return says(q, dns.RcodeSuccess, records...)
		}}
		s := z.server(Config{})
		for _, tt := range []struct {
			edns uint16
			udp  bool
			size int
			all  bool
		}{{0, true, 512, false}, {100, true, 512, false}, {1232, true, 1232, false}, {65535, true, maxUDPQuery, false}, {0, false, 65535, true}} {
			q := question("a.example.", dns.TypeTXT)
			if tt.edns > 0 {
				q.SetEdns0(tt.edns, false)
			}
			m := s.reply(t.Context(), q, tt.udp)
			wire, err := m.Pack()
			if err != nil || len(wire) > tt.size || m.Truncated == tt.all || tt.all != (len(m.Answer) == 100) {
				t.Errorf("EDNS %d, UDP %t: got %d octets, %d records, truncated %t, %v", tt.edns, tt.udp, len(wire), len(m.Answer), m.Truncated, err)
			}
		}
		if want := []string{ns1 + " udp a.example.", ns1 + " tcp a.example."}; !slices.Equal(z.asked[:2], want) {
			t.Errorf("got %q, want %q", z.asked, want)
		}
	})
}

// TestOwn: what the server says itself, and how it completes names.
func TestOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{says: func(_, _ string, q *dns.Msg) *dns.Msg {
			switch strings.ToLower(q.Question[0].Name) {
			case "db.corp.example.":
				return says(q, dns.RcodeSuccess, "db.corp.example. 7 IN A 10.0.0.5")
			case "six.lab.example.":
				return says(q, dns.RcodeSuccess)
			case "top.":
				return says(q, dns.RcodeSuccess, "top. 7 IN A 10.0.0.6")
			}
			return says(q, dns.RcodeNameError)
		}}
		u := z.upstream(ns1)
		s := New(Config{
			Choose: func(name string) Choice {
				switch name {
				case "ads.example.":
					return Choice{Refusal: dns.RcodeNameError}
				case "1.2.0.192.in-addr.arpa.":
					return Choice{Refusal: dns.RcodeRefused}
				}
				return Choice{Upstream: u}
			},
			Hosts:  map[string][]netip.Addr{"host": {netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("2001:db8::9")}, "x.lab.example": {netip.MustParseAddr("10.0.0.8")}},
			Search: []string{"lab.example", "corp.example"},
		})
		for _, tt := range []struct {
			name  string
			qtype uint16
			want  string
		}{
			{"Host.", dns.TypeA, "NOERROR; Host. 60 IN A 10.0.0.9"},
			{"host.", dns.TypeAAAA, "NOERROR; host. 60 IN AAAA 2001:db8::9"},
			{"host.", dns.TypeMX, "NOERROR"},
			{"9.0.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR; 9.0.0.10.in-addr.arpa. 60 IN PTR host."},
			{"8.0.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR; 8.0.0.10.in-addr.arpa. 60 IN PTR x.lab.example."},
			{"7.0.0.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
			{"localhost.", dns.TypeA, "NOERROR; localhost. 60 IN A 127.0.0.1"},
			{"a.LocalHost.", dns.TypeAAAA, "NOERROR; a.LocalHost. 60 IN AAAA ::1"},
			{"dB.", dns.TypeA, "NOERROR; dB. 7 IN CNAME dB.corp.example.; dB.corp.example. 7 IN A 10.0.0.5"},
			{"x.", dns.TypeA, "NOERROR; x. 60 IN CNAME x.lab.example.; x.lab.example. 60 IN A 10.0.0.8"},
			{"six.", dns.TypeA, "NOERROR; six. 60 IN CNAME six.lab.example."},
			{"top.", dns.TypeA, "NOERROR; top. 7 IN A 10.0.0.6"},
			{"db.", dns.TypeMX, "NXDOMAIN"},
			{"db.nowhere.", dns.TypeA, "NXDOMAIN"},
			{strings.Repeat("x", 63) + ".", dns.TypeA, "NXDOMAIN"},
			{"ads.example.", dns.TypeA, "NXDOMAIN"},
			{"1.2.0.192.in-addr.arpa.", dns.TypePTR, "REFUSED"},
			{".", dns.TypeNS, "NXDOMAIN"},
		} {
			wantText(t, s, question(tt.name, tt.qtype), tt.want)
		}
		for _, q := range z.asked {
			if strings.Contains(strings.ToLower(q), "localhost") || strings.Contains(q, "ads") || strings.Contains(q, "host.") {
				t.Errorf("asked %s", q)
			}
		}
	})
}

// TestNoQuestion: what is refused without asking anybody.
func TestNoQuestion(t *testing.T) {
	z := &zone{}
	s := z.server(Config{})
	for name, tt := range map[string]struct {
		change func(*dns.Msg)
		want   int
	}{
		"transfer":      {func(q *dns.Msg) { q.Question[0].Qtype = dns.TypeAXFR }, dns.RcodeNotImplemented},
		"another class": {func(q *dns.Msg) { q.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		"update":        {func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		"no question":   {func(q *dns.Msg) { q.Question = nil }, dns.RcodeFormatError},
		"two questions": {func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) }, dns.RcodeFormatError},
		"EDNS 1":        {func(q *dns.Msg) { q.SetEdns0(1232, false); q.IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
	} {
		q := question("a.example.", dns.TypeA)
		tt.change(q)
		m := s.reply(t.Context(), q, true)
		if wire, err := m.Pack(); err != nil || m.Rcode != tt.want || m.Unpack(wire) != nil || m.Rcode != tt.want {
			t.Errorf("%s: got %v, %v", name, m, err)
		}
	}
	if z.count() != 0 {
		t.Errorf("asked %q", z.asked)
	}
}

// TestLookup: where there are only addresses of names.
func TestLookup(t *testing.T) {
	u := &Upstream{
		Servers: func(context.Context) ([]netip.AddrPort, error) { return nil, nil },
		Lookup: func(_ context.Context, network, host string) ([]netip.Addr, error) {
			switch network + " " + host {
			case "ip4 a.example":
				return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")}, nil
			case "ip6 a.example":
				return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
			}
			return nil, io.ErrNoProgress
		},
	}
	s := New(Config{Choose: func(string) Choice { return Choice{Upstream: u} }})
	wantText(t, s, question("a.example.", dns.TypeA), "NOERROR; a.example. 60 IN A 192.0.2.1")
	wantText(t, s, question("a.example.", dns.TypeAAAA), "NXDOMAIN")
	wantText(t, s, question("a.example.", dns.TypeMX), "NOTIMP")
	wantText(t, s, question("b.example.", dns.TypeA), "SERVFAIL")
}

func TestAddrOf(t *testing.T) {
	for name, want := range map[string]string{
		"4.3.2.10.in-addr.arpa.":                "10.2.3.4",
		"4.3.2.10.IN-ADDR.ARPA":                 "10.2.3.4",
		"3.2.10.in-addr.arpa.":                  "",
		"256.3.2.10.in-addr.arpa.":              "",
		"x.4.3.2.10.in-addr.arpa.":              "",
		"a.example.":                            "",
		"1.0.0.0.ip6.arpa.":                     "",
		strings.Repeat("g.", 32) + "ip6.arpa.":  "",
		strings.Repeat("00.", 32) + "ip6.arpa.": "",
		"1." + strings.Repeat("0.", 23) + "8.b.d.0.1.0.0.2.ip6.arpa.": "2001:db8::1",
	} {
		addr, ok := AddrOf(name)
		if ok != (want != "") || ok && addr.String() != want {
			t.Errorf("%s: got %v, %t, want %q", name, addr, ok, want)
		}
	}
}

// listen opens both sockets of a forwarder on one port.
func listen(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 { // the port of one may be taken for the other
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if l, err := net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			return pc, l
		}
		pc.Close()
	}
	t.Fatal("no port free for both")
	return nil, nil
}

// TestServe: over real sockets, until it is stopped, with a question under way.
func TestServe(t *testing.T) {
	z := &zone{says: func(_, _ string, q *dns.Msg) *dns.Msg {
		if strings.HasPrefix(q.Question[0].Name, "silent") {
			return nil
		}
		return says(q, dns.RcodeSuccess, q.Question[0].Name+" 60 IN A 192.0.2.1")
	}}
	pc, l := listen(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- z.server(Config{}).Serve(ctx, pc, l) }()
	for _, network := range []string{"udp", "tcp"} {
		client := dns.Client{Net: network, Timeout: 10 * time.Second}
		m, _, err := client.Exchange(question("Real.example.", dns.TypeA), pc.LocalAddr().String())
		if err != nil || text(m) != "NOERROR; Real.example. 60 IN A 192.0.2.1" {
			t.Errorf("%s: got %v, %v", network, m, err)
		}
	}
	c, err := net.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wire, err := question("silent.example.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte{1})
	c.Write(wire)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := z.server(Config{}).Serve(t.Context(), pc, l); err == nil {
		t.Error("on closed sockets: no error")
	}
}

// FuzzQuestion: any datagram gets an answer that fits, or none.
func FuzzQuestion(f *testing.F) {
	z := &zone{}
	u := z.upstream(ns1)
	u.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, io.ErrNoProgress }
	s := New(Config{
		Choose: func(string) Choice { return Choice{Upstream: u} },
		Hosts:  map[string][]netip.Addr{"host": {netip.MustParseAddr("10.0.0.9")}}, Search: []string{"corp.example"},
	})
	for _, q := range []*dns.Msg{question("host.", dns.TypeA), question("a.example.", dns.TypeMX), question("9.0.0.10.in-addr.arpa.", dns.TypePTR)} {
		wire, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
		q.SetEdns0(1232, true)
		if wire, err = q.Pack(); err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q := new(dns.Msg)
		if q.Unpack(b) != nil || q.Response {
			return
		}
		m := s.reply(t.Context(), q, true)
		wire, err := m.Pack()
		if err != nil || len(wire) > maxUDPQuery || m.Id != q.Id || !m.Response {
			t.Errorf("%v: got %v, %v", q, m, err)
		}
	})
}

// FuzzReply: whatever a server says, the client gets an answer to its question.
func FuzzReply(f *testing.F) {
	q := question("a.Example.", dns.TypeA)
	q.Id = 1
	for _, m := range []*dns.Msg{
		says(q, dns.RcodeSuccess, "a.example. 60 IN A 192.0.2.1"), says(q, dns.RcodeNameError, "example. 600 IN SOA ns.example. root.example. 1 2 3 4 30"),
		says(q, dns.RcodeSuccess).SetEdns0(1232, true), says(q, dns.RcodeSuccess).SetTsig("k.", dns.HmacSHA256, 1, 1),
	} {
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parse(b, q)
		if !ok {
			return
		}
		c := newCache(1 << 20)
		c.put(key{}, m, time.Unix(0, 0))
		for _, m := range []*dns.Msg{m, c.get(key{}, time.Unix(1, 0))} {
			if m == nil {
				continue
			}
			s := New(Config{Choose: func(string) Choice { return Choice{} }})
			s.flights[key{}] = &flight{done: make(chan struct{}), m: m}
			close(s.flights[key{}].done)
			out := s.join(t.Context(), q, key{}, nil)
			out.Compress = true
			out.Truncate(512)
			if len(out.Question) != 1 || out.Question[0] != q.Question[0] || out.Id != q.Id {
				t.Errorf("got %v", out)
			}
			if wire, err := out.Pack(); err == nil && len(wire) > 512 && len(out.Answer)+len(out.Ns) > 0 {
				t.Errorf("%d octets: %v", len(wire), out)
			}
		}
	})
}
