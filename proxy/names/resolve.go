package names

import (
	"context"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// key says which questions have the same answer.
type key struct {
	name       string // in lower case
	qtype      uint16
	rd, cd, ad bool
	edns, do   bool
}

// flight is a question under way, which those who ask the same wait for.
type flight struct {
	done chan struct{} // closed when reply is set
	m    *dns.Msg      // nobody changes it
}

// resolve answers from the cache or by asking.
func (s *Server) resolve(ctx context.Context, q *dns.Msg) *dns.Msg {
	choice := s.cfg.Choose(strings.ToLower(q.Question[0].Name))
	if choice.Upstream == nil {
		return failure(q, choice.Refusal, nil)
	}
	up, shared := onward(q)
	k := keyOf(up)
	if shared {
		if m := s.cache.get(k, time.Now()); m != nil {
			return finish(q, m, nil)
		}
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return failure(q, dns.RcodeServerFailure, errBusy)
	}
	if !shared {
		m, err := s.ask(ctx, choice.Upstream, up)
		return finish(q, m, err)
	}
	return s.join(ctx, q, k, func() *dns.Msg {
		m, err := s.ask(ctx, choice.Upstream, up)
		if err == nil {
			s.cache.put(k, m, time.Now())
		}
		return finish(up, m, err)
	})
}

// join has a question asked, or waits for the one who asks it already.
func (s *Server) join(ctx context.Context, q *dns.Msg, k key, ask func() *dns.Msg) *dns.Msg {
	s.mu.Lock()
	f, ok := s.flights[k]
	if !ok {
		f = &flight{done: make(chan struct{})}
		s.flights[k] = f
	}
	s.mu.Unlock()
	if !ok {
		f.m = ask()
		s.mu.Lock()
		delete(s.flights, k)
		s.mu.Unlock()
		close(f.done)
	}
	select {
	case <-f.done:
		return finish(q, f.m.Copy(), nil)
	case <-ctx.Done():
		return failure(q, dns.RcodeServerFailure, ctx.Err())
	}
}

// onward is the question as it is passed on: EDNS goes through, but for options
// that are between two neighbours (cookies RFC 7873, padding RFC 7830,
// keep-alive RFC 7828). shared is false if the rest may make the answer one for
// this client only.
func onward(q *dns.Msg) (up *dns.Msg, shared bool) {
	up = &dns.Msg{Question: []dns.Question{q.Question[0]}}
	up.Id = dns.Id()
	up.RecursionDesired, up.CheckingDisabled = q.RecursionDesired, q.CheckingDisabled
	up.AuthenticatedData = q.AuthenticatedData
	opt := q.IsEdns0()
	if opt == nil {
		return up, true
	}
	up.SetEdns0(maxUDPReply, opt.Do())
	for _, o := range opt.Option {
		switch o.Option() {
		case dns.EDNS0COOKIE, dns.EDNS0PADDING, dns.EDNS0TCPKEEPALIVE:
		default:
			up.IsEdns0().Option = append(up.IsEdns0().Option, o)
		}
	}
	return up, len(up.IsEdns0().Option) == 0
}

func keyOf(up *dns.Msg) key {
	k := key{
		name: strings.ToLower(up.Question[0].Name), qtype: up.Question[0].Qtype,
		rd: up.RecursionDesired, cd: up.CheckingDisabled, ad: up.AuthenticatedData,
	}
	if opt := up.IsEdns0(); opt != nil {
		k.edns, k.do = true, opt.Do()
	}
	return k
}

// finish makes what a server said the answer to a client's question: its
// identifier, and its letters, which may differ from those that were passed on
// for somebody else.
func finish(q, m *dns.Msg, err error) *dns.Msg {
	if err != nil {
		return failure(q, dns.RcodeServerFailure, err)
	}
	asked := q.Question[0]
	for _, rr := range m.Answer {
		if h := rr.Header(); strings.EqualFold(h.Name, asked.Name) {
			h.Name = asked.Name
		}
	}
	m.Id, m.Response, m.RecursionDesired = q.Id, true, q.RecursionDesired
	m.Question = []dns.Question{asked}
	switch asks, has := q.IsEdns0() != nil, m.IsEdns0() != nil; {
	case has && !asks:
		m.Extra = withoutOPT(m.Extra)
	case asks && !has && m.Rcode != dns.RcodeFormatError && m.Rcode != dns.RcodeNotImplemented:
		// "compliant responders MUST include an OPT record", and we are one, if
		// the server is not. RFC 6891, section 6.1.1
		m.SetEdns0(maxUDPQuery, false)
	}
	return m
}

func withoutOPT(extra []dns.RR) (rest []dns.RR) {
	for _, rr := range extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			rest = append(rest, rr)
		}
	}
	return rest
}
