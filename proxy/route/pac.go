package route

import (
	_ "embed"
	"encoding/json"
	"strings"
)

// script is the part of the PAC file that is always the same.
//
//go:embed pac.js
var script string

// PAC is a proxy auto-configuration file: for each URL it says the same as the
// rules, but it looks up no name, as that would be done by the browser's
// machine: names whose addresses could decide otherwise go to the proxy, which
// looks them up where that is right. This machine itself is always direct.
type PAC struct {
	Rules   *Rules
	Proxies []string // such as "PROXY 127.0.0.1:1080", the first that works is used
	Names   []string // that only the proxy knows
	Plain   bool     // names without a dot are the proxy's to complete
}

// pacRule is a rule as the script reads it.
type pacRule struct {
	Decision string `json:"decision"`
	Prefix   []int  `json:"prefix,omitempty"`
	Bits     int    `json:"bits"`
	Pattern  string `json:"pattern,omitempty"`
	Low      uint16 `json:"low"`
	High     uint16 `json:"high"`
}

// Script returns the file, in ECMAScript 5 and ASCII.
func (p PAC) Script() []byte {
	rules := []pacRule{}
	if p.Rules != nil {
		for _, r := range p.Rules.rules {
			rules = append(rules, r.pac())
		}
	}
	names := []string{}
	for _, n := range p.Names {
		names = append(names, canonical(n))
	}
	var b strings.Builder
	b.WriteString(script)
	for _, v := range []struct {
		name  string
		value any
	}{
		{"proxies", strings.Join(p.Proxies, "; ")},
		{"plain", p.Plain},
		{"names", names},
		{"otherwise", p.Rules.rest().String()},
		{"rules", rules},
	} {
		text, err := json.Marshal(v.value)
		if err != nil {
			panic("route: " + err.Error()) // plain values always have a form
		}
		b.WriteString("\nvar " + v.name + " = " + string(text) + ";")
	}
	b.WriteString("\n")
	return []byte(b.String())
}

func (r rule) pac() pacRule {
	p := pacRule{Decision: r.decision.String(), Pattern: r.pattern, Low: r.low, High: r.high}
	if r.byAddr() {
		for _, octet := range r.prefix.Addr().AsSlice() {
			p.Prefix = append(p.Prefix, int(octet))
		}
		p.Bits = r.prefix.Bits()
	}
	return p
}
