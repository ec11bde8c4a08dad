package route

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxRules bounds the list: each connection is compared with all of it, and the
// PAC file contains it.
const maxRules = 10000

// Parse reads rules, several in one string divided by commas, and the decision
// for what none of them fits: tunnel, direct or block; "" is tunnel. A rule is
//
//	PATTERN           through the tunnel
//	!PATTERN          direct
//	PATTERN=DECISION  tunnel, direct or block
//
// and PATTERN is one of
//
//	10.0.0.0/8, 2001:db8::/32, 192.0.2.1   addresses
//	corp.example                           the name and all below it
//	*.corp.example, db*.example            names; a star is any run of characters
//	*                                      everything
//
// with :PORT or :LOW-HIGH behind it, IPv6 in brackets then. The error names the
// rule.
func Parse(list []string, otherwise string) (*Rules, error) {
	r := &Rules{}
	if otherwise != "" {
		d, ok := parseDecision(otherwise)
		if !ok {
			return nil, fmt.Errorf("%q: want tunnel, direct or block", otherwise)
		}
		r.otherwise = d
	}
	for _, item := range list {
		for text := range strings.SplitSeq(item, ",") {
			rule, err := parseRule(strings.TrimSpace(text))
			if err != nil {
				return nil, fmt.Errorf("rule %q: %w", text, err)
			}
			r.rules = append(r.rules, rule)
		}
	}
	if len(r.rules) > maxRules {
		return nil, fmt.Errorf("%d rules, more than %d", len(r.rules), maxRules)
	}
	return r, nil
}

func parseRule(text string) (rule, error) {
	var r rule
	pattern, word, decided := strings.Cut(text, "=")
	rest, negated := strings.CutPrefix(pattern, "!")
	if decided {
		d, ok := parseDecision(word)
		if !ok || negated {
			return r, errors.New("want PATTERN, !PATTERN, or PATTERN=tunnel, =direct or =block")
		}
		r.decision = d
	}
	if negated {
		r.decision = Direct
	}
	host, err := r.takePorts(rest)
	if err != nil {
		return r, err
	}
	return r, r.takePattern(host)
}

// takePorts reads the ports and returns what is before them.
func (r *rule) takePorts(text string) (host string, err error) {
	r.low, r.high = 0, 65535
	host, ports, ok := text, "", false
	if inner, bracketed := strings.CutPrefix(text, "["); bracketed {
		var after string
		if host, after, ok = strings.Cut(inner, "]"); !ok {
			return "", errors.New("a bracket is not closed")
		}
		if !strings.Contains(host, ":") {
			return "", errors.New("brackets are for IPv6 addresses")
		}
		if ports, ok = strings.CutPrefix(after, ":"); !ok && after != "" {
			return "", errors.New("want :PORT behind the bracket")
		}
	} else if strings.Count(text, ":") == 1 {
		host, ports, ok = strings.Cut(text, ":")
	}
	if !ok {
		return host, nil
	}
	r.low, r.high, err = parsePorts(ports)
	return host, err
}

func parsePorts(text string) (low, high uint16, err error) {
	from, to, ranged := strings.Cut(text, "-")
	if !ranged {
		to = from
	}
	l, err1 := strconv.ParseUint(from, 10, 16)
	h, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || l == 0 || l > h {
		return 0, 0, fmt.Errorf("port %q: want PORT or LOW-HIGH, 1 to 65535", text)
	}
	return uint16(l), uint16(h), nil
}

// takePattern reads a prefix, an address or a pattern of names.
func (r *rule) takePattern(text string) (err error) {
	if strings.Contains(text, "/") {
		r.prefix, err = netip.ParsePrefix(text)
		if err != nil {
			return errors.New("want ADDRESS/BITS, such as 10.0.0.0/8")
		}
		if r.prefix.Addr().Is4In6() {
			return errors.New("want the IPv4 address as such")
		}
		if r.prefix != r.prefix.Masked() {
			return fmt.Errorf("the address has bits beyond the prefix: want %v", r.prefix.Masked())
		}
		return nil
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return errors.New("an address with a zone is one of this machine's network, not of the tunnel's")
		}
		addr = addr.Unmap()
		r.prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	r.pattern, err = namePattern(text)
	return err
}

// namePattern checks a pattern and brings it into the form that names are
// compared in. A dot before it means, as in NO_PROXY, all below.
func namePattern(text string) (string, error) {
	if text == "" {
		return "", errors.New("want an address, a name or *")
	}
	if strings.HasPrefix(text, ".") {
		text = "*" + text
	}
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	for i, label := range labels {
		label, err := labelPattern(label)
		if err != nil {
			return "", err
		}
		labels[i] = label
	}
	pattern := strings.Join(labels, ".")
	if strings.Trim(pattern, "0123456789.*") == "" && strings.Trim(pattern, ".*") != "" || strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", errors.New("it ends in a number and is no address: want ADDRESS/BITS, such as 10.0.0.0/8")
	}
	return pattern, nil
}

func labelPattern(label string) (string, error) {
	if strings.IndexFunc(label, func(c rune) bool { return c > '~' }) >= 0 {
		ascii, err := idna.Lookup.ToASCII(label)
		if err != nil || !utf8.ValidString(label) {
			return "", errors.New("a part of the name is not valid")
		}
		label = ascii
	}
	label = strings.ToLower(label)
	if label == "" || len(label) > 63 {
		return "", fmt.Errorf("a part of the name has %d characters, want 1 to 63", len(label))
	}
	if i := strings.IndexFunc(label, notInLabel); i >= 0 {
		return "", fmt.Errorf("%q can't be part of a name", label[i])
	}
	return label, nil
}

func notInLabel(c rune) bool {
	return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '*'
}
