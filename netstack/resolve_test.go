package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serveDNS answers on b's port 53, by UDP and TCP.
func serveDNS(t *testing.T, s *Stack, address string, handler dns.HandlerFunc) {
	t.Helper()
	pc, err := s.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: l, Handler: handler}} {
		started, stopped := make(chan struct{}), make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(stopped)
			srv.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() { srv.Shutdown(); <-stopped })
	}
}

// zone answers like a recursive server with a few records.
func zone(records ...string) dns.HandlerFunc {
	var rrs []dns.RR
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			panic(err)
		}
		rrs = append(rrs, rr)
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name, found := q.Question[0].Name, false
		for again := true; again; {
			again = false
			for _, rr := range rrs {
				if !strings.EqualFold(rr.Header().Name, name) {
					continue
				}
				found = true
				if c, ok := rr.(*dns.CNAME); ok {
					m.Answer = append(m.Answer, rr)
					name, again = c.Target, len(m.Answer) < 30
					break
				}
				if rr.Header().Rrtype == q.Question[0].Qtype {
					m.Answer = append(m.Answer, rr)
				}
			}
		}
		if !found {
			m.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(m)
	}
}

func addrs(s ...string) (a []netip.Addr) {
	for _, s := range s {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

func TestLookupAddr(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	serveDNS(t, w.b, ":53", zone(
		"2.0.9.10.in-addr.arpa. PTR host.test.", "7.0.9.10.in-addr.arpa. CNAME 7.0-31.0.9.10.in-addr.arpa.",
		"7.0-31.0.9.10.in-addr.arpa. PTR Small.Test.", "8.0.9.10.in-addr.arpa. CNAME 8.0.9.10.in-addr.arpa.",
		"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.9.0.0.0.0.0.d.f.ip6.arpa. PTR six.test.",
		"9.0.9.10.in-addr.arpa. TXT none", "10.0.9.10.in-addr.arpa. PTR evil\\010.test.", "11.0.9.10.in-addr.arpa. PTR .",
		"12.0.9.10.in-addr.arpa. CNAME nowhere.test.",
	))
	for _, tt := range []struct {
		addr, want string
		notFound   bool
	}{
		{"10.9.0.2", "host.test", false},
		{"::ffff:10.9.0.2", "host.test", false},
		{"fd00:9::2", "six.test", false},
		{"10.9.0.7", "Small.Test", false},
		{"10.9.0.8", "", false}, // a loop
		{"10.9.0.9", "", true},
		{"10.9.0.10", "", true},
		{"10.9.0.11", "", true},
		{"10.9.0.12", "", true},
		{"10.9.0.99", "", true},
	} {
		got, err := w.a.LookupAddr(t.Context(), netAddr(tt.addr))
		e, _ := errors.AsType[*net.DNSError](err)
		if got != tt.want || (err == nil) != (tt.want != "") || e != nil && e.IsNotFound != tt.notFound || err != nil && e == nil {
			t.Errorf("%s: got %q, %v, want %q", tt.addr, got, err, tt.want)
		}
	}
	if _, err := w.a.LookupAddr(t.Context(), netip.Addr{}); err == nil {
		t.Error("no error for no address")
	}
	w.a.LinkDown()
	if _, err := w.a.LookupAddr(t.Context(), addrB); !errors.Is(err, ErrDown) {
		t.Errorf("got %v, want ErrDown", err)
	}
}

func TestAddrs(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	if got := s.Addrs(); len(got) > 0 {
		t.Errorf("got %v before SetLink", got)
	}
	setLink(t, s, Link{Addrs: hosts(addrA6, addrA), InterfaceID: [8]byte{7: 1}, MTU: 1400})
	if got := s.Addrs(); !slices.Equal(got, addrs("10.9.0.1", "fd00:9::1")) {
		t.Errorf("got %v", got)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	serveDNS(t, w.b, ":53", zone(
		"host.test. A 10.9.0.2", "host.test. AAAA fd00:9::2", "single. A 10.0.0.9", "v4.test. A 10.0.0.1", "v4.test. A 10.0.0.2",
		"v6.test. AAAA fd00::6", "text.test. TXT hello", "alias.test. CNAME second.test.", "second.test. CNAME host.test.",
		strings.Repeat("a.", 127)+" A 10.0.0.8", "loop.test. CNAME pool.test.", "pool.test. CNAME loop.test.", "dangling.test. CNAME nowhere.test.", "mapped.test. AAAA ::ffff:1.2.3.4",
	))
	for _, tt := range []struct {
		network, host string
		want          []netip.Addr
		notFound      bool
	}{
		{"ip", "host.test", addrs("10.9.0.2", "fd00:9::2"), false},
		{"ip", "HOST.test.", addrs("10.9.0.2", "fd00:9::2"), false},
		{"ip4", "host.test", addrs("10.9.0.2"), false},
		{"ip6", "host.test", addrs("fd00:9::2"), false},
		{"ip", "single", addrs("10.0.0.9"), false},
		{"ip4", strings.Repeat("a.", 127), addrs("10.0.0.8"), false}, // as long as can be
		{"ip", "v4.test", addrs("10.0.0.1", "10.0.0.2"), false},
		{"ip", "v6.test", addrs("fd00::6"), false},
		{"ip", "alias.test", addrs("10.9.0.2", "fd00:9::2"), false},
		{"ip4", "v6.test", nil, true},
		{"ip", "text.test", nil, true},
		{"ip", "nowhere.test", nil, true},
		{"ip", "dangling.test", nil, true},
		{"ip", "mapped.test", nil, true},
		{"ip", "loop.test", nil, false},
		{"ip", "10.1.2.3", addrs("10.1.2.3"), false},
		{"ip", "fd00::1%eth0", addrs("fd00::1"), false},
		{"ip4", "::ffff:10.1.2.3", addrs("10.1.2.3"), false},
		{"ip", "", nil, true},
		{"ip", "a b", nil, true},
		{"ip", `a\.b`, nil, true},
		{"ip", "a..b", nil, true},
		{"ip", strings.Repeat("a", 64) + ".test", nil, true},
		{"ip", strings.Repeat("a.", 130), nil, true},
		{"ip", strings.Repeat("a.", 127) + "a", nil, true}, // one label more than fits
		{"ip", strings.Repeat("a.", 126) + "bc", nil, true},
	} {
		got, err := w.a.LookupNetIP(t.Context(), tt.network, tt.host)
		if !slices.Equal(got, tt.want) && !slices.Equal(got, inTime(tt.want)) || (err == nil) != (tt.want != nil) {
			t.Errorf("lookup %s %q = %v, %v; want %v", tt.network, tt.host, got, err, tt.want)
		}
		if err != nil {
			e, ok := errors.AsType[*net.DNSError](err)
			if !ok || e.IsNotFound != tt.notFound || e.IsTimeout || e.Name != tt.host {
				t.Errorf("lookup %s %q: %#v, want not found = %v", tt.network, tt.host, err, tt.notFound)
			}
		}
	}
	if _, err := w.a.LookupNetIP(t.Context(), "tcp", "host.test"); err == nil {
		t.Error("network tcp accepted")
	}
	if _, err := w.a.LookupNetIP(t.Context(), "ip4", "fd00::1"); err == nil {
		t.Error("IPv6 literal accepted for ip4")
	}
}

// inTime is what a lookup returns of these when the server is slow with the rest:
// the IPv4 addresses, unless there are none.
func inTime(want []netip.Addr) []netip.Addr {
	n := slices.IndexFunc(want, func(a netip.Addr) bool { return !a.Is4() })
	if n <= 0 {
		return want
	}
	return want[:n]
}

// Both families' addresses are there, IPv4 first, whichever came first.
func TestMergeAnswers(t *testing.T) {
	t.Parallel()
	four := answer{addrs: addrs("10.9.0.2", "10.9.0.1"), first: true}
	six := answer{addrs: addrs("fd00:9::2")}
	for _, answers := range [][]answer{{four, six}, {six, four}} {
		got, err := merge("host.test", answers)
		if want := addrs("10.9.0.2", "10.9.0.1", "fd00:9::2"); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
}

// A server may have to fetch A when it knows AAAA, or that there is none.
func TestLateA(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	serveDNS(t, w.b, ":53", func(rw dns.ResponseWriter, q *dns.Msg) {
		if q.Question[0].Qtype == dns.TypeAAAA {
			zone("host.test. AAAA fd00:9::2")(rw, q)
			return
		}
		<-time.After(3 * resolutionDelay)
		zone("host.test. A 10.9.0.2", "four.test. A 10.9.0.4")(rw, q)
	})
	for host, want := range map[string]string{"host.test": "10.9.0.2", "four.test": "10.9.0.4"} {
		got, err := w.a.LookupNetIP(t.Context(), "ip", host)
		if err != nil || got[0] != netAddr(want) {
			t.Errorf("%s: got %v, %v, want %s first", host, got, err, want)
		}
	}
}

func TestDialByName(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	serveDNS(t, w.b, ":53", zone("intranet. A 10.9.0.2", "intranet. AAAA fd00:9::2"))
	_, port, _ := net.SplitHostPort(w.serve(t, "tcp", ":0", echo))
	roundTrip(t, w.dial(t, "tcp", "intranet:"+port))
	roundTrip(t, w.dial(t, "tcp6", "intranet:"+port))
	_, err := w.a.DialContext(t.Context(), "tcp", "nowhere:80")
	if e, ok := errors.AsType[*net.DNSError](err); !ok || !e.IsNotFound {
		t.Errorf("dial nowhere = %v", err)
	}
}

// TestLookupFamilies: only families the link has are asked for.
func TestLookupFamilies(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	var asked atomic.Int32
	serveDNS(t, w.b, ":53", func(rw dns.ResponseWriter, q *dns.Msg) {
		if q.Question[0].Qtype == dns.TypeAAAA {
			asked.Add(1)
		}
		zone("host.test. A 10.9.0.2")(rw, q)
	})
	setLink(t, w.a, Link{Addrs: hosts(addrA), DNS: []netip.Addr{addrB}})
	if _, err := w.a.LookupNetIP(t.Context(), "ip", "host.test"); err != nil {
		t.Error(err)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d questions for AAAA", n)
	}
	if _, err := w.a.LookupNetIP(t.Context(), "ip6", "host.test"); !errors.Is(err, ErrNetUnreachable) {
		t.Errorf("ip6 = %v, want network unreachable", err)
	}
}

// TestSilentAAAA: addresses of one family do not wait for the other's timeout.
func TestSilentAAAA(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	serveDNS(t, w.b, ":53", func(rw dns.ResponseWriter, q *dns.Msg) {
		if q.Question[0].Qtype == dns.TypeA {
			zone("host.test. A 10.9.0.2")(rw, q)
		}
	})
	start := time.Now()
	got, err := w.a.LookupNetIP(t.Context(), "ip", "host.test")
	if err != nil || !slices.Equal(got, addrs("10.9.0.2")) || time.Since(start) > dnsTries[1] {
		t.Errorf("got %v, %v after %v", got, err, time.Since(start))
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	var records []string
	for i := range 100 {
		records = append(records, fmt.Sprintf("big.test. A 10.1.0.%d", i))
	}
	full := zone(records...)
	serveDNS(t, w.b, ":53", func(rw dns.ResponseWriter, q *dns.Msg) {
		if rw.RemoteAddr().Network() == "udp" {
			m := new(dns.Msg).SetReply(q)
			m.Truncated = true
			rw.WriteMsg(m)
			return
		}
		full(rw, q)
	})
	got, err := w.a.LookupNetIP(t.Context(), "ip4", "big.test")
	if err != nil || len(got) != maxAddrs {
		t.Errorf("got %d addresses, %v; want %d", len(got), err, maxAddrs)
	}
}

// secondServer adds 10.9.0.3 to b, as another DNS server.
func secondServer(t *testing.T, w *wires) {
	t.Helper()
	third := netip.MustParseAddr("10.9.0.3")
	setLink(t, w.b, Link{Addrs: hosts(addrB, third)})
	l := linkA()
	l.DNS = []netip.Addr{addrB, third}
	setLink(t, w.a, l)
}

func TestFailover(t *testing.T) {
	t.Parallel()
	refuse := func(rcode int) dns.HandlerFunc {
		return func(rw dns.ResponseWriter, q *dns.Msg) { rw.WriteMsg(new(dns.Msg).SetRcode(q, rcode)) }
	}
	for name, first := range map[string]dns.HandlerFunc{
		"silent":   func(dns.ResponseWriter, *dns.Msg) {},
		"refused":  refuse(dns.RcodeRefused),
		"servfail": refuse(dns.RcodeServerFailure),
		"lying id": func(rw dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Id++
			rr, _ := dns.NewRR("host.test. A 6.6.6.6")
			m.Answer = []dns.RR{rr}
			rw.WriteMsg(m)
		},
		"other question": func(rw dns.ResponseWriter, q *dns.Msg) {
			q.Question[0].Name = "other.test."
			zone("other.test. A 6.6.6.6")(rw, q)
		},
		"garbage": func(rw dns.ResponseWriter, _ *dns.Msg) { rw.Write([]byte("garbage")) },
		"closed":  nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWires(t)
			secondServer(t, w)
			if first != nil {
				serveDNS(t, w.b, "10.9.0.2:53", first)
			}
			serveDNS(t, w.b, "10.9.0.3:53", zone("host.test. A 10.9.0.2"))
			got, err := w.a.LookupNetIP(t.Context(), "ip4", "host.test")
			if err != nil || !slices.Equal(got, addrs("10.9.0.2")) {
				t.Fatalf("got %v, %v", got, err)
			}
			// From now on the server that answers goes first.
			start := time.Now()
			if _, err := w.a.LookupNetIP(t.Context(), "ip4", "host.test"); err != nil || time.Since(start) > 900*time.Millisecond {
				t.Errorf("second lookup: %v after %v", err, time.Since(start))
			}
			// "No such name" is a verdict, not a reason to ask the next.
			_, err = w.a.LookupNetIP(t.Context(), "ip4", "nowhere.test")
			if e, ok := errors.AsType[*net.DNSError](err); !ok || !e.IsNotFound || e.Server != "10.9.0.3:53" {
				t.Errorf("nowhere = %#v", err)
			}
		})
	}
}

func TestAllServersFail(t *testing.T) {
	t.Parallel()
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		w := newWires(t)
		secondServer(t, w)
		serveDNS(t, w.b, "10.9.0.2:53", func(dns.ResponseWriter, *dns.Msg) {})
		serveDNS(t, w.b, "10.9.0.3:53", func(dns.ResponseWriter, *dns.Msg) {})
		_, err := w.a.LookupNetIP(t.Context(), "ip4", "host.test")
		if e, ok := errors.AsType[*net.DNSError](err); !ok || !e.IsTimeout || e.IsNotFound {
			t.Errorf("got %#v, want a timeout", err)
		}
	})
	t.Run("refusing", func(t *testing.T) {
		t.Parallel()
		w := newWires(t)
		serveDNS(t, w.b, ":53", func(rw dns.ResponseWriter, q *dns.Msg) { rw.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeRefused)) })
		_, err := w.a.LookupNetIP(t.Context(), "ip", "host.test")
		if e, ok := errors.AsType[*net.DNSError](err); !ok || e.IsTimeout || e.IsNotFound || !strings.Contains(err.Error(), "REFUSED") {
			t.Errorf("got %#v, want refused", err)
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		w := newWires(t)
		setLink(t, w.a, Link{Addrs: hosts(addrA)})
		_, err := w.a.LookupNetIP(t.Context(), "ip", "host.test")
		if e, ok := errors.AsType[*net.DNSError](err); !ok || e.IsTimeout || e.IsNotFound {
			t.Errorf("got %#v", err)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		t.Parallel()
		w := newWires(t)
		ctx, cancel := context.WithCancel(t.Context())
		serveDNS(t, w.b, ":53", func(dns.ResponseWriter, *dns.Msg) { cancel() })
		start := time.Now()
		_, err := w.a.LookupNetIP(ctx, "ip", "host.test")
		if !errors.Is(err, context.Canceled) || time.Since(start) > 900*time.Millisecond {
			t.Errorf("got %v after %v, want canceled", err, time.Since(start))
		}
	})
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		w := newWires(t)
		serveDNS(t, w.b, ":53", func(dns.ResponseWriter, *dns.Msg) {})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := w.a.LookupNetIP(ctx, "ip", "host.test")
		if e, ok := errors.AsType[*net.DNSError](err); !ok || !e.IsTimeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %#v, want a timeout", err)
		}
	})
	t.Run("link down", func(t *testing.T) {
		t.Parallel()
		w := newWires(t)
		serveDNS(t, w.b, ":53", func(dns.ResponseWriter, *dns.Msg) { w.a.LinkDown() })
		if _, err := w.a.LookupNetIP(t.Context(), "ip", "host.test"); !errors.Is(err, ErrDown) {
			t.Errorf("got %v, want down", err)
		}
	})
}

// TestAliasWithoutTarget: a server that does not follow aliases is asked again.
func TestAliasWithoutTarget(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	serveDNS(t, w.b, ":53", func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		record := "target.test. A 10.9.0.2"
		if q.Question[0].Name == "alias.test." {
			record = "alias.test. CNAME target.test."
		}
		rr, _ := dns.NewRR(record)
		m.Answer = []dns.RR{rr}
		rw.WriteMsg(m)
	})
	got, err := w.a.LookupNetIP(t.Context(), "ip4", "alias.test")
	if err != nil || !slices.Equal(got, addrs("10.9.0.2")) {
		t.Errorf("got %v, %v", got, err)
	}
}

// FuzzParseReply: whatever a server sends, the answer is bounded.
func FuzzParseReply(f *testing.F) {
	q := question("host.test.", dns.TypeA)
	q.Id = 1
	for _, records := range [][]string{{"host.test. A 1.2.3.4"}, {"host.test. CNAME a.test.", "a.test. A 1.2.3.4"}, {"host.test. CNAME host.test."}} {
		m := new(dns.Msg).SetReply(q)
		for _, r := range records {
			rr, err := dns.NewRR(r)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		reply, ok := parseReply(b, q)
		if !ok {
			return
		}
		if addrs, _, _ := readAnswer(reply, "host.test.", dns.TypeA); len(addrs) > maxAddrs {
			t.Errorf("%d addresses", len(addrs))
		}
	})
}
