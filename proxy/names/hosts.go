package names

import (
	"context"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// hostTTL is the time to live of what the server says itself, in seconds: it
// holds as long as the program runs.
const hostTTL = 60

// fromHosts answers from the table of hosts, and for the names that mean the
// machine that asks (RFC 6761, section 6.3).
func (s *Server) fromHosts(q *dns.Msg) *dns.Msg {
	name := strings.TrimSuffix(strings.ToLower(q.Question[0].Name), ".")
	addrs, ok := s.cfg.Hosts[name]
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		addrs, ok = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, true
	}
	if ok {
		return own(q, addrRecords(q.Question[0], addrs))
	}
	if addr, reverse := AddrOf(name); reverse && q.Question[0].Qtype == dns.TypePTR {
		if records := s.pointers(q.Question[0], addr); len(records) > 0 {
			return own(q, records)
		}
	}
	return nil
}

// own is an answer of this server's.
func own(q *dns.Msg, records []dns.RR) *dns.Msg {
	m := failure(q, dns.RcodeSuccess, nil)
	m.Authoritative = true
	m.Answer = records
	return m
}

// addrRecords are the records of the type that was asked for.
func addrRecords(q dns.Question, addrs []netip.Addr) (records []dns.RR) {
	for _, addr := range addrs {
		h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: hostTTL}
		switch {
		case q.Qtype == dns.TypeA && addr.Is4():
			records = append(records, &dns.A{Hdr: h, A: addr.AsSlice()})
		case q.Qtype == dns.TypeAAAA && addr.Is6():
			records = append(records, &dns.AAAA{Hdr: h, AAAA: addr.AsSlice()})
		}
	}
	return records
}

// pointers are the names of an address in the table.
func (s *Server) pointers(q dns.Question, addr netip.Addr) (records []dns.RR) {
	for host, addrs := range s.cfg.Hosts {
		for _, a := range addrs {
			if a == addr {
				h := dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: hostTTL}
				records = append(records, &dns.PTR{Hdr: h, Ptr: dns.Fqdn(host)})
			}
		}
	}
	return records
}

// AddrOf is the address of which a name below in-addr.arpa (RFC 1035, section
// 3.5) or ip6.arpa (RFC 3596, section 2.5) is the name.
func AddrOf(name string) (netip.Addr, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if text, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(text, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		addr, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return addr, err == nil && addr.Is4()
	}
	text, ok := strings.CutSuffix(name, ".ip6.arpa")
	labels := strings.Split(text, ".")
	if !ok || len(labels) != 32 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := range labels {
		if len(labels[31-i]) != 1 {
			return netip.Addr{}, false
		}
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteString(labels[31-i])
	}
	addr, err := netip.ParseAddr(b.String())
	return addr, err == nil
}

// completed answers for a name of one label with that of one of the domains, as
// an alias; nil if the name does not exist in any of them.
func (s *Server) completed(ctx context.Context, q *dns.Msg) *dns.Msg {
	asked := q.Question[0]
	if dns.CountLabel(asked.Name) != 1 || asked.Qtype != dns.TypeA && asked.Qtype != dns.TypeAAAA {
		return nil
	}
	for _, domain := range s.cfg.Search {
		full := q.Copy()
		full.Question[0].Name = asked.Name + dns.Fqdn(domain)
		if _, ok := dns.IsDomainName(full.Question[0].Name); !ok {
			continue
		}
		m := s.fromHosts(full)
		if m == nil {
			m = s.resolve(ctx, full)
		}
		switch m.Rcode {
		case dns.RcodeNameError:
			continue
		case dns.RcodeSuccess:
			ttl := uint32(hostTTL)
			for _, rr := range m.Answer {
				ttl = min(ttl, rr.Header().Ttl)
			}
			m.Answer = append([]dns.RR{&dns.CNAME{
				Hdr: dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ttl}, Target: full.Question[0].Name,
			}}, m.Answer...)
			m.AuthenticatedData = false // nobody signed the alias
		}
		m.Question = []dns.Question{asked}
		return m
	}
	return nil
}
