package netstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxAddrs bounds the addresses of one name and family that are used.
	maxAddrs = 32
	// maxName bounds a name with its last dot: "255 octets or less" on the wire
	// (RFC 1035 §2.3.4), which is one more. miekg/dns lets two more pass.
	maxName = 254
	// maxChain bounds CNAMEs: within one answer, and as further questions
	// when a server does not follow them itself.
	maxChain = 8
	// resolutionDelay is that of RFC 8305 §3.
	resolutionDelay = 50 * time.Millisecond
)

// Outcomes of a lookup that are not addresses.
var (
	errNoSuchHost = errors.New("no such host")
	errNoData     = errors.New("no address for this name")
	errNoServer   = errors.New("link has no DNS server")
	errLongChain  = errors.New("too many aliases")
	errSilent     = fmt.Errorf("no DNS server answered: %w", ErrTimeout)
)

// LookupNetIP resolves a name by the DNS servers of the link, through the
// link, and never by the host. network is ip, ip4 or ip6. IPv4 addresses come
// first. A and AAAA are asked at the same time, each only if the link has the
// family; an IP address is returned as it is. Names are taken as fully
// qualified: there is no search list and no hosts file.
//
// The error is a *net.DNSError. IsNotFound: the name does not exist or has no
// address. IsTimeout: no server answered. Otherwise the servers refused or
// failed, or the cause is in UnwrapErr: ErrDown, ctx.Err(), ErrNetUnreachable
// for a family the link does not have.
func (s *Stack) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	f, ok := map[string]family{"ip": anyFamily, "ip4": only4, "ip6": only6}[network]
	if !ok {
		return nil, net.UnknownNetworkError(network)
	}
	return s.lookup(ctx, f, host)
}

func (s *Stack) lookup(ctx context.Context, f family, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap().WithZone("")
		if !f.has(a) {
			return nil, &net.AddrError{Err: "no suitable address", Addr: host}
		}
		return []netip.Addr{a}, nil
	}
	if err := s.usable(ctx); err != nil {
		return nil, dnsError(host, "", err)
	}
	name, ok := questionName(host)
	if !ok {
		return nil, dnsError(host, "", errNoSuchHost)
	}
	return s.lookupName(ctx, f, host, name)
}

// questionName is the name to ask for; false if no such name can exist.
func questionName(host string) (string, bool) {
	// miekg/dns takes a backslash for an escape; in host names there is none.
	if host == "" || strings.ContainsAny(host, "\\ \t\r\n\x00/:") {
		return "", false
	}
	name := dns.Fqdn(host)
	_, ok := dns.IsDomainName(name)
	return name, ok && name != "." && len(name) <= maxName
}

// answer is the outcome of one question.
type answer struct {
	addrs  []netip.Addr
	server string // that gave it
	err    error
	first  bool // it is of the family that is preferred
}

func (s *Stack) lookupName(ctx context.Context, f family, host, name string) ([]netip.Addr, error) {
	st := s.state.Load()
	var types []uint16
	if f != only6 && st.has4 {
		types = append(types, dns.TypeA)
	}
	if f != only4 && st.has6 {
		types = append(types, dns.TypeAAAA)
	}
	if len(types) == 0 {
		return nil, dnsError(host, "", ErrNetUnreachable)
	}
	return merge(host, s.resolveAll(ctx, st, name, types))
}

// resolveAll asks for all types at the same time. Once the first has addresses,
// or there is no such name, the other gets resolutionDelay: a server that never
// answers AAAA must not hold up what it said of IPv4. The first is waited for:
// its answer may have to be fetched, when the other is known.
func (s *Stack) resolveAll(ctx context.Context, st *linkState, name string, types []uint16) []answer {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan answer, len(types))
	for i, t := range types {
		go func() { // each is awaited below
			a := s.resolve(ctx, st, name, t)
			a.first = i == 0
			results <- a
		}()
	}
	var answers []answer
	var enough <-chan time.Time
	for len(answers) < len(types) {
		select {
		case a := <-results:
			answers = append(answers, a)
			if a.first && (len(a.addrs) > 0 || a.err == errNoSuchHost) {
				enough = time.After(resolutionDelay)
			}
		case <-enough:
			cancel()
		}
	}
	return answers
}

// merge puts the families' answers together, IPv4 first. One family's addresses
// are enough. That there is no such name holds for all types (RFC 8020);
// otherwise the error that says least for sure decides, because "no such
// address" of one family is no verdict when the other is unknown.
func merge(host string, answers []answer) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, a := range answers {
		addrs = append(addrs, a.addrs...)
	}
	if len(addrs) > 0 {
		slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
		return addrs, nil
	}
	says := slices.MaxFunc(answers, func(a, b answer) int {
		return cmp.Compare(weight(a.err), weight(b.err))
	})
	return nil, dnsError(host, says.server, says.err)
}

// weight orders the errors of merge.
func weight(err error) int {
	switch err {
	case errNoData:
		return 0
	case errNoSuchHost:
		return 2
	}
	return 1
}

// resolve asks one question and follows aliases the server did not follow.
func (s *Stack) resolve(ctx context.Context, st *linkState, name string, qtype uint16) answer {
	for range maxChain {
		reply, server, err := s.ask(ctx, st, name, qtype)
		if err != nil {
			return answer{server: server, err: err}
		}
		addrs, last, err := readAnswer(reply, name, qtype)
		switch {
		case len(addrs) > 0:
			return answer{addrs: addrs, server: server}
		case err != nil:
			return answer{server: server, err: err}
		case reply.Rcode == dns.RcodeNameError:
			return answer{server: server, err: errNoSuchHost}
		case last == dns.CanonicalName(name):
			return answer{server: server, err: errNoData}
		}
		name = last
	}
	return answer{err: errLongChain}
}

// readAnswer takes the addresses of name from a reply. last is the name that the
// aliases in it lead to.
func readAnswer(reply *dns.Msg, name string, qtype uint16) (addrs []netip.Addr, last string, err error) {
	last, err = follow(reply, name, func(rr dns.RR) bool {
		if a, ok := addrOfRecord(rr, qtype); ok && len(addrs) < maxAddrs {
			addrs = append(addrs, a)
		}
		return len(addrs) > 0
	})
	return addrs, last, err
}

// follow hands the records of name to found, or those of the first name with what
// it looks for that the aliases within the reply lead to, which is last.
func follow(reply *dns.Msg, name string, found func(dns.RR) bool) (last string, err error) {
	last = dns.CanonicalName(name)
	for range maxChain {
		alias, done := "", false
		for _, rr := range reply.Answer {
			if dns.CanonicalName(rr.Header().Name) != last {
				continue
			}
			if c, ok := rr.(*dns.CNAME); ok {
				alias = dns.CanonicalName(c.Target)
			} else if found(rr) {
				done = true
			}
		}
		if done || alias == "" {
			return last, nil
		}
		last = alias
	}
	return last, errLongChain
}

func addrOfRecord(rr dns.RR, qtype uint16) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		a, ok := netip.AddrFromSlice(rr.A)
		return a.Unmap(), ok && qtype == dns.TypeA
	case *dns.AAAA:
		a, ok := netip.AddrFromSlice(rr.AAAA)
		return a, ok && qtype == dns.TypeAAAA && !a.Is4In6()
	}
	return netip.Addr{}, false
}

// LookupAddr returns a name of an address (PTR, RFC 1035 §3.5), without the last
// dot, by the same servers in the same way as LookupNetIP, and fails as that
// does. What a server calls a name but can't be one of a host counts as none.
func (s *Stack) LookupAddr(ctx context.Context, addr netip.Addr) (string, error) {
	host := addr.Unmap().WithZone("").String()
	name, err := dns.ReverseAddr(host)
	if err != nil {
		return "", &net.DNSError{Err: "not an IP address", Name: host, UnwrapErr: err}
	}
	if err := s.usable(ctx); err != nil {
		return "", dnsError(host, "", err)
	}
	st := s.state.Load()
	for range maxChain {
		reply, server, err := s.ask(ctx, st, name, dns.TypePTR)
		if err != nil {
			return "", dnsError(host, server, err)
		}
		found, last, err := readPointer(reply, name)
		switch {
		case err != nil:
			return "", dnsError(host, server, err)
		case found != "":
			return found, nil
		case reply.Rcode == dns.RcodeNameError:
			return "", dnsError(host, server, errNoSuchHost)
		case last == dns.CanonicalName(name):
			return "", dnsError(host, server, errNoData)
		}
		name = last
	}
	return "", dnsError(host, "", errLongChain)
}

// readPointer takes the first usable pointer of name from a reply; networks smaller
// than /24 have aliases (RFC 2317). last is the name that they lead to.
func readPointer(reply *dns.Msg, name string) (pointer, last string, err error) {
	last, err = follow(reply, name, func(rr dns.RR) bool {
		// A backslash is how miekg/dns writes what no host's name has in it.
		if p, ok := rr.(*dns.PTR); ok && pointer == "" && p.Ptr != "." && !strings.Contains(p.Ptr, "\\") {
			pointer = strings.TrimSuffix(p.Ptr, ".")
		}
		return pointer != ""
	})
	return pointer, last, err
}

// dnsError wraps the cause as package net does.
func dnsError(host, server string, err error) error {
	e := &net.DNSError{Err: err.Error(), Name: host, Server: server, UnwrapErr: err}
	switch {
	case err == errNoSuchHost || err == errNoData:
		e.IsNotFound = true
	case errors.Is(err, ErrTimeout) || errors.Is(err, context.DeadlineExceeded):
		e.IsTimeout, e.IsTemporary = true, true
	case !errors.Is(err, errNoServer):
		e.IsTemporary = true
	}
	return e
}

// rcodeError is a reply that is no answer, for example SERVFAIL or REFUSED.
type rcodeError int

func (e rcodeError) Error() string {
	if text, ok := dns.RcodeToString[int(e)]; ok {
		return "server answered " + text
	}
	return fmt.Sprintf("server answered code %d", int(e))
}
