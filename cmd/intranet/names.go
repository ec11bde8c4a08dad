package main

import (
	"context"
	"net/netip"

	"github.com/miekg/dns"
)

// domain is the one that the name server knows; every name below it is the
// host's but that of the name server itself.
const (
	domain     = "intranet.test."
	nameServer = "ns." + domain
)

// serveNames starts the name server, over UDP and TCP, until ctx ends.
func (s *site) serveNames(ctx context.Context, at netip.Addr) error {
	address := netip.AddrPortFrom(at, 53).String()
	pc, err := s.stack.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	l, err := s.stack.Listen("tcp", address)
	if err != nil {
		pc.Close()
		return err
	}
	for _, server := range []*dns.Server{{PacketConn: pc}, {Listener: l}} {
		server.Handler = dns.HandlerFunc(answerName)
		context.AfterFunc(ctx, func() { server.Shutdown() })
		s.wg.Go(func() { server.ActivateAndServe() }) // ends with ctx
	}
	return nil
}

// answerName knows addresses and their names; of every other name it says that
// it does not exist.
func answerName(w dns.ResponseWriter, q *dns.Msg) {
	answer := new(dns.Msg).SetReply(q)
	answer.Authoritative = true
	answer.Rcode = dns.RcodeNameError
	if len(q.Question) == 1 {
		answer.Answer, answer.Rcode = lookup(q.Question[0])
	}
	w.WriteMsg(answer)
}

func lookup(q dns.Question) (records []dns.RR, rcode int) {
	name := dns.CanonicalName(q.Name)
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 60}
	pointer, _ := dns.ReverseAddr(host.String())
	switch {
	case name == pointer && q.Qtype == dns.TypePTR:
		return []dns.RR{&dns.PTR{Hdr: header, Ptr: "host." + domain}}, dns.RcodeSuccess
	case name != pointer && !dns.IsSubDomain(domain, name):
		return nil, dns.RcodeNameError
	case name != pointer && q.Qtype == dns.TypeA:
		return []dns.RR{&dns.A{Hdr: header, A: addressOf(name).AsSlice()}}, dns.RcodeSuccess
	}
	return nil, dns.RcodeSuccess
}

func addressOf(name string) netip.Addr {
	if name == nameServer {
		return gateway
	}
	return host
}
