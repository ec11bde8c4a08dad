package route

import (
	"fmt"
	"net/netip"
	"strings"
)

// Decision says how a destination is reached. The zero value is [Tunnel].
type Decision uint8

const (
	Tunnel Decision = iota // through the tunnel
	Direct                 // from this machine, past the tunnel
	Block                  // not at all
)

// String returns "tunnel", "direct" or "block".
func (d Decision) String() string {
	switch d {
	case Tunnel:
		return "tunnel"
	case Direct:
		return "direct"
	case Block:
		return "block"
	}
	return fmt.Sprintf("Decision(%#x)", uint8(d))
}

// parseDecision reads what String writes.
func parseDecision(word string) (Decision, bool) {
	for d := Tunnel; d <= Block; d++ {
		if word == d.String() {
			return d, true
		}
	}
	return 0, false
}

// Rules are an ordered list of rules and a decision for what none of them fits.
// The zero value and a nil pointer send everything into the tunnel. Rules are
// not changed once made, so all methods may be called concurrently.
type Rules struct {
	rules     []rule
	otherwise Decision
}

// rule is one rule: a prefix, or a pattern of names, and ports.
type rule struct {
	decision  Decision
	prefix    netip.Prefix // if valid, the rule is by address
	pattern   string       // of names, in lower case; "*" fits addresses too
	low, high uint16       // ports
}

const everything = "*"

// byAddr reports whether a name has to be looked up to know if the rule fits.
func (r rule) byAddr() bool { return r.prefix.IsValid() }

func (r rule) allPorts() bool { return r.low == 0 && r.high == 65535 }

func (r rule) fitsPort(port uint16) bool { return r.low <= port && port <= r.high }

func (r rule) fitsAddr(addr netip.Addr) bool {
	return r.prefix.IsValid() && r.prefix.Contains(addr) || r.pattern == everything
}

// fitsName wants a name as canonical writes it. A pattern without a star is a
// domain: the name itself and all below it.
func (r rule) fitsName(name string) bool {
	switch {
	case r.byAddr():
		return false
	case strings.Contains(r.pattern, "*"):
		return glob(r.pattern, name)
	}
	above, ok := strings.CutSuffix(name, r.pattern)
	return ok && (above == "" || strings.HasSuffix(above, "."))
}

// glob reports whether a name fits a pattern, in which a star stands for any
// run of characters.
func glob(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return true
}

// canonical is a name in the form that patterns have.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// literal returns the address that a host is, if it is one.
func literal(host string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(host)
	return addr.Unmap().WithZone(""), err == nil
}

// list is the rules from the last to the first.
func (r *Rules) list(yield func(rule) bool) {
	if r == nil {
		return
	}
	for i := len(r.rules) - 1; i >= 0; i-- {
		if !yield(r.rules[i]) {
			return
		}
	}
}

// rest is the decision for what no rule fits.
func (r *Rules) rest() Decision {
	if r == nil {
		return Tunnel
	}
	return r.otherwise
}

// Trivial reports whether everything goes into the tunnel.
func (r *Rules) Trivial() bool {
	for rule := range r.list {
		if rule.decision != Tunnel {
			return false
		}
	}
	return r.rest() == Tunnel
}

// Match decides on a host, which is a name in ASCII or an address, and a port.
// What is known of a name here is the name: rules by address do not fit it.
// See [Rules.Settled] for whether its address could still change the decision.
func (r *Rules) Match(host string, port uint16) Decision {
	if addr, ok := literal(host); ok {
		return r.MatchAddr(netip.AddrPortFrom(addr, port))
	}
	d, _ := r.matchName(host, port)
	return d
}

// Settled reports whether the addresses of a host can't change what Match says
// of it.
func (r *Rules) Settled(host string, port uint16) bool {
	if _, ok := literal(host); ok {
		return true
	}
	_, settled := r.matchName(host, port)
	return settled
}

// matchName decides on a name. It is settled if no rule by address that comes
// after the deciding one says otherwise.
func (r *Rules) matchName(name string, port uint16) (d Decision, settled bool) {
	name = canonical(name)
	d = r.rest()
	var skipped [Block + 1]bool
	for rule := range r.list {
		if !rule.fitsPort(port) {
			continue
		}
		if rule.byAddr() {
			skipped[rule.decision] = true
		} else if rule.fitsName(name) {
			d = rule.decision
			break
		}
	}
	skipped[d] = false
	return d, skipped == [Block + 1]bool{}
}

// MatchAddr decides on an address and a port.
func (r *Rules) MatchAddr(ap netip.AddrPort) Decision {
	addr := ap.Addr().Unmap().WithZone("")
	for rule := range r.list {
		if rule.fitsPort(ap.Port()) && rule.fitsAddr(addr) {
			return rule.decision
		}
	}
	return r.rest()
}

// MatchFound decides on a name of which one address was found: the last rule
// that fits either.
func (r *Rules) MatchFound(name string, found netip.AddrPort) Decision {
	name = canonical(name)
	addr := found.Addr().Unmap().WithZone("")
	for rule := range r.list {
		if rule.fitsPort(found.Port()) && (rule.fitsAddr(addr) || rule.fitsName(name)) {
			return rule.decision
		}
	}
	return r.rest()
}

// Lookup decides where a name is looked up, for which there is no port yet: a
// name of which a rule sends any port into the tunnel is asked only there. One
// that is blocked, but that a rule for a port or for its addresses could let
// pass, is asked where that rule would send it. ruled is false if no rule fits
// the name and the decision is that for the rest.
func (r *Rules) Lookup(name string) (d Decision, ruled bool) {
	name = canonical(name)
	return r.lookup(rule.byAddr, func(r rule) bool { return r.fitsName(name) })
}

// LookupAddr decides where the name of an address is looked up, by the same
// terms as Lookup.
func (r *Rules) LookupAddr(addr netip.Addr) (d Decision, ruled bool) {
	addr = addr.Unmap().WithZone("")
	return r.lookup(func(rule) bool { return false }, func(r rule) bool { return r.fitsAddr(addr) })
}

// lookup decides without a port. might tells of rules that may fit later.
func (r *Rules) lookup(might, fits func(rule) bool) (d Decision, ruled bool) {
	admitted := Block
	d = r.rest()
	for rule := range r.list {
		fit := fits(rule)
		if fit && (rule.allPorts() || rule.decision == Tunnel) {
			d, ruled = rule.decision, true
			break
		}
		if fit || might(rule) {
			admitted = min(admitted, rule.decision)
		}
	}
	if d == Block {
		d = admitted
	}
	return d, ruled
}
