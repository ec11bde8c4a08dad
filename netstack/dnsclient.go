package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// dnsTries is how long a server may take, in each round over all servers. The
// first round is short, so that a dead server costs a second; the second gives
// a slow one the time to fetch the name.
var dnsTries = [...]time.Duration{time.Second, 4 * time.Second}

// maxUDPReply is the largest datagram looked at. We do not offer EDNS0: small
// servers (a VPN's own forwarder) get it wrong, and truncation leads to TCP.
const maxUDPReply = 4096

const dnsPort = 53

// ask puts one question to the servers, beginning with the one that answered
// last, until one gives a verdict: an answer or "no such name". A server that
// is silent, refuses or lies is passed over.
func (s *Stack) ask(ctx context.Context, st *linkState, name string, qtype uint16) (reply *dns.Msg, server string, err error) {
	servers := st.link.DNS
	if len(servers) == 0 {
		return nil, "", errNoServer
	}
	first := int(s.nextDNS.Load()) % len(servers)
	err = errSilent
	for _, patience := range dnsTries {
		for i := range servers {
			n := (first + i) % len(servers)
			at := netip.AddrPortFrom(servers[n], dnsPort)
			server = at.String()
			var terr error
			if reply, terr = s.exchange(ctx, st, at, patience, question(name, qtype)); terr == nil {
				s.nextDNS.Store(uint32(n))
				return reply, server, nil
			}
			if err2 := s.interrupted(ctx, st); err2 != nil {
				return nil, server, err2
			}
			s.log.Debug("dns server failed", "peer", server, "err", terr)
			if rcode, ok := errors.AsType[rcodeError](terr); ok {
				err = rcode // tells more than another server's silence
			}
		}
		if err != errSilent {
			break // an explicit refusal does not become better by waiting
		}
	}
	return nil, server, err
}

// interrupted tells whether and why the lookup as a whole has ended.
func (s *Stack) interrupted(ctx context.Context, st *linkState) error {
	select {
	case <-st.down:
		return s.downError()
	default:
		return ctx.Err()
	}
}

func question(name string, qtype uint16) *dns.Msg {
	// SetQuestion draws the identifier from crypto/rand; the port is random
	// as well, and the answer must match both and the question.
	return new(dns.Msg).SetQuestion(name, qtype)
}

// exchange asks one server by UDP, and by TCP if the answer is truncated.
func (s *Stack) exchange(ctx context.Context, st *linkState, server netip.AddrPort, patience time.Duration, q *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	wire, err := q.Pack()
	if err != nil {
		return nil, err
	}
	conn, err := s.dialUDP(server)
	if err != nil {
		return nil, err
	}
	reply, err := converse(ctx, st, conn, func() (*dns.Msg, error) { return overUDP(conn, wire, q) })
	if err != nil || !reply.Truncated {
		return verdict(reply, err)
	}
	conn, err = s.dialTCP(ctx, server)
	if err != nil {
		return nil, err
	}
	return verdict(converse(ctx, st, conn, func() (*dns.Msg, error) { return overTCP(conn, wire, q) }))
}

// converse runs f on conn, which it closes afterwards, or as soon as ctx ends
// or the link goes down.
func converse(ctx context.Context, st *linkState, conn net.Conn, f func() (*dns.Msg, error)) (*dns.Msg, error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { // ends by cancel, which the end of f calls
		defer close(ended)
		select {
		case <-ctx.Done():
		case <-st.down:
		}
		conn.Close()
	}()
	reply, err := f()
	cancel()
	<-ended
	return reply, err
}

// verdict keeps only replies that decide something.
func verdict(reply *dns.Msg, err error) (*dns.Msg, error) {
	if err != nil {
		return nil, err
	}
	switch reply.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
		return reply, nil
	}
	return nil, rcodeError(reply.Rcode)
}

// overUDP waits for a datagram that answers q; others are ignored, as anybody
// could have sent them.
func overUDP(conn net.Conn, wire []byte, q *dns.Msg) (*dns.Msg, error) {
	if _, err := conn.Write(wire); err != nil {
		return nil, err
	}
	buf := make([]byte, maxUDPReply)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if reply, ok := parseReply(buf[:n], q); ok {
			return reply, nil
		}
	}
}

// overTCP exchanges one message, each way with two octets of length before it
// (RFC 1035 §4.2.2).
func overTCP(conn net.Conn, wire []byte, q *dns.Msg) (*dns.Msg, error) {
	framed := dns.Conn{Conn: conn}
	if _, err := framed.Write(wire); err != nil {
		return nil, err
	}
	buf, err := framed.ReadMsgHeader(nil)
	if err != nil {
		return nil, err
	}
	reply, ok := parseReply(buf, q)
	if !ok {
		return nil, errors.New("reply does not match the question")
	}
	reply.Truncated = false // there is no longer way to ask
	return reply, nil
}

// parseReply accepts a reply to q: same identifier and the question repeated.
// A truncated one may end anywhere, so its header and question suffice.
func parseReply(b []byte, q *dns.Msg) (*dns.Msg, bool) {
	reply := new(dns.Msg)
	if err := reply.Unpack(b); err != nil && !reply.Truncated {
		return nil, false
	}
	if reply.Id != q.Id || !reply.Response || reply.Opcode != dns.OpcodeQuery {
		return nil, false
	}
	if len(reply.Question) != 1 {
		// Some servers leave the question out when they refuse.
		return reply, len(reply.Question) == 0 && reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError
	}
	got, want := reply.Question[0], q.Question[0]
	return reply, got.Qtype == want.Qtype && got.Qclass == want.Qclass &&
		dns.CanonicalName(got.Name) == dns.CanonicalName(want.Name)
}
