package names

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Upstream is a set of servers that know the same names. It must not be copied
// once used.
type Upstream struct {
	// Servers returns the servers to ask. It may wait for them to be known; its
	// error becomes SERVFAIL.
	Servers func(ctx context.Context) ([]netip.AddrPort, error)

	// Dial opens a connection to one of them; network is udp or tcp.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Lookup, if set, finds addresses where there are no servers to ask: network
	// is ip4 or ip6.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

	last atomic.Uint32 // index of the server that answered last
}

// tries is how long a server may take, in each round over all of them: the first
// is short, so that a dead one costs little, the second gives a slow one time to
// fetch the name.
var tries = [...]time.Duration{2 * time.Second, 5 * time.Second}

// maxUDPReply is the largest datagram that a server is asked for: what goes
// through every network in one piece (dnsflagday.net/2020).
const maxUDPReply = 1232

// ask puts a question to the servers, beginning with the one that answered last,
// until one says what it knows of the name. If none does, the answer is that of
// one that failed or refused, if there was any.
func (s *Server) ask(ctx context.Context, u *Upstream, q *dns.Msg) (*dns.Msg, error) {
	var said *dns.Msg
	failed := errSilent
	for _, patience := range tries {
		servers, err := u.Servers(ctx)
		if len(servers) == 0 {
			if u.Lookup != nil {
				return u.lookup(ctx, q)
			}
			return nil, cmp.Or(err, errNoServer)
		}
		first := int(u.last.Load()) % len(servers)
		for i := range servers {
			n := (first + i) % len(servers)
			m, err := u.exchange(ctx, servers[n], patience, q)
			switch {
			case err == nil && decides(m):
				u.last.Store(uint32(n))
				return m, nil
			case err == nil:
				said = m
				err = fmt.Errorf("names: code %d", m.Rcode)
			case ctx.Err() != nil:
				return nil, ctx.Err()
			default:
				failed = err
			}
			s.cfg.Logger.Debug("dns server failed", "peer", servers[n], "err", err)
		}
		if said != nil {
			return said, nil
		}
	}
	return nil, failed
}

// decides reports whether another server would say the same. One that does not
// know EDNS says FORMERR or NOTIMP (RFC 6891, section 7), which is for the client.
func decides(m *dns.Msg) bool {
	switch m.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeBadVers:
		return true
	}
	return false
}

// exchange asks one server by UDP, and by TCP if the answer is truncated.
func (u *Upstream) exchange(ctx context.Context, server netip.AddrPort, patience time.Duration, q *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	wire, err := q.Pack()
	if err != nil {
		return nil, err
	}
	m, err := u.converse(ctx, "udp", server, wire, q, overUDP)
	if err != nil || !m.Truncated {
		return m, err
	}
	return u.converse(ctx, "tcp", server, wire, q, overTCP)
}

// converse opens a connection and exchanges a question for an answer, as long as
// ctx lasts.
func (u *Upstream) converse(ctx context.Context, network string, server netip.AddrPort, wire []byte, q *dns.Msg,
	over func(net.Conn, []byte, *dns.Msg) (*dns.Msg, error),
) (*dns.Msg, error) {
	conn, err := u.Dial(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	m, err := over(conn, wire, q)
	if err != nil && ctx.Err() != nil {
		err = errSilent
	}
	return m, err
}

// overUDP waits for a datagram that answers q; others are ignored, as anybody
// could have sent them.
func overUDP(conn net.Conn, wire []byte, q *dns.Msg) (*dns.Msg, error) {
	if _, err := conn.Write(wire); err != nil {
		return nil, err
	}
	buf := make([]byte, 2*maxUDPQuery)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if m, ok := parse(buf[:n], q); ok {
			return m, nil
		}
	}
}

// overTCP exchanges one message, each way with two octets of length before it
// (RFC 1035, section 4.2.2).
func overTCP(conn net.Conn, wire []byte, q *dns.Msg) (*dns.Msg, error) {
	framed := dns.Conn{Conn: conn}
	if _, err := framed.Write(wire); err != nil {
		return nil, err
	}
	buf, err := framed.ReadMsgHeader(nil)
	if err != nil {
		return nil, err
	}
	m, ok := parse(buf, q)
	if !ok {
		return nil, errors.New("names: the answer does not match the question")
	}
	m.Truncated = false // there is no longer way to ask
	return m, nil
}

// parse accepts an answer to q: the same identifier, and the question repeated. A
// truncated one may end anywhere.
func parse(b []byte, q *dns.Msg) (*dns.Msg, bool) {
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil && !m.Truncated {
		return nil, false
	}
	// Nobody was asked for a signature of the message (RFC 8945, section 5.3.2),
	// and miekg/dns does not cut one that has it.
	if m.Id != q.Id || !m.Response || m.Opcode != dns.OpcodeQuery || m.IsTsig() != nil {
		return nil, false
	}
	if len(m.Question) != 1 { // some leave it out when they refuse
		return m, len(m.Question) == 0 && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError
	}
	got, want := m.Question[0], q.Question[0]
	return m, got.Qtype == want.Qtype && got.Qclass == want.Qclass && strings.EqualFold(got.Name, want.Name)
}

// lookup asks a system that only knows addresses of names.
func (u *Upstream) lookup(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	network, ok := map[uint16]string{dns.TypeA: "ip4", dns.TypeAAAA: "ip6"}[q.Question[0].Qtype]
	if !ok {
		return failure(q, dns.RcodeNotImplemented, nil), nil
	}
	addrs, err := u.Lookup(ctx, network, strings.TrimSuffix(q.Question[0].Name, "."))
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return failure(q, dns.RcodeNameError, nil), nil
	}
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	m := own(q, addrRecords(q.Question[0], addrs))
	m.Authoritative = false
	return m, nil
}
