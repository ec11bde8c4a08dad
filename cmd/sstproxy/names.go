package main

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"github.com/spf13/pflag"

	"sstproxy/proxy"
	"sstproxy/proxy/route"
)

// nameOptions say what goes through the tunnel, and how names are looked up.
type nameOptions struct {
	route     []string
	otherwise string
	dns       []string
	search    []string
	hosts     []string
	dnsListen []string
}

func (o *nameOptions) define(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.route, "route", nil, "send `RULES`, divided by commas, through the tunnel (repeatable):\n10.0.0.0/8, corp.example with all below it, *.corp.example,\neach with :PORT or :LOW-HIGH if need be; !RULE goes direct,\nRULE=block nowhere; the last one that fits decides")
	fs.StringVar(&o.otherwise, "else", "tunnel", "what no rule fits goes through the tunnel, direct, or nowhere\n(block): `WHERE`")
	fs.StringArrayVar(&o.dnsListen, "dns-listen", nil, "answer questions for names on `HOST:PORT` too, by UDP and TCP,\nby the same rules (repeatable)")
	fs.StringArrayVar(&o.dns, "dns", nil, "ask the name server with this `ADDRESS` in the tunnel instead\nof those that the VPN names (repeatable)")
	fs.StringArrayVar(&o.search, "search", nil, "complete names without a dot by this `DOMAIN` (repeatable)")
	fs.StringArrayVar(&o.hosts, "host", nil, "know this address of a name, `NAME=ADDRESS` (repeatable)")
}

func (o *nameOptions) check() error {
	_, err := o.naming()
	return err
}

// naming is what the options say, read. The zero value sends all into the
// tunnel and asks there.
type naming struct {
	rules   *route.Rules
	servers []netip.Addr            // instead of those the VPN names
	search  []string                // domains
	hosts   map[string][]netip.Addr // by name in lower case
}

func (o *nameOptions) naming() (n naming, err error) {
	if n.rules, err = route.Parse(o.route, ""); err != nil {
		return n, fmt.Errorf("--route: %w", err)
	}
	if n.rules, err = route.Parse(o.route, o.otherwise); err != nil || o.otherwise == "" {
		return n, fmt.Errorf("--else %s: want tunnel, direct or block", o.otherwise)
	}
	for _, text := range o.dns {
		addr, err := netip.ParseAddr(text)
		if err != nil || !reachable(addr) {
			return n, fmt.Errorf("--dns %s: want the address of a name server in the tunnel, without a port", text)
		}
		n.servers = append(n.servers, addr.Unmap())
	}
	for _, text := range o.search {
		domain := strings.Trim(text, ".")
		if !isName(domain) {
			return n, fmt.Errorf("--search %s: want a domain, such as corp.example", text)
		}
		n.search = append(n.search, domain)
	}
	n.hosts, err = o.hostTable()
	return n, err
}

func (o *nameOptions) hostTable() (map[string][]netip.Addr, error) {
	table := map[string][]netip.Addr{}
	for _, text := range o.hosts {
		host, value, _ := strings.Cut(text, "=")
		addr, err := netip.ParseAddr(value)
		if host = canonicalName(host); err != nil || !reachable(addr) || !isName(host) {
			return nil, fmt.Errorf("--host %s: want NAME=ADDRESS, not of this machine", text)
		}
		table[host] = append(table[host], addr.Unmap())
	}
	return table, nil
}

// reachable reports whether an address can be one of another machine.
func reachable(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.Zone() == "" && !addr.IsLoopback() && !addr.IsUnspecified() && !addr.IsMulticast()
}

// isName reports whether a text is a name of hosts or a domain, in ASCII.
func isName(text string) bool {
	_, err := netip.ParseAddr(text)
	_, ok := dns.IsDomainName(text)
	strange := strings.IndexFunc(text, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`"#%/:<>?@[\]^|*,=`, c) })
	return ok && err != nil && text != "" && text != "." && strange < 0
}

// canonicalName is how names are compared.
func canonicalName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// candidates are the names that are looked up for a host, one after the other
// until one exists. As in resolv.conf(5), the search list is for names without a
// dot; unlike there, nothing is added to others, where it would only surprise.
func (n naming) candidates(host string) []string {
	if _, ok := n.hosts[canonicalName(host)]; ok || strings.Contains(host, ".") {
		return []string{host}
	}
	var names []string
	for _, domain := range n.search {
		names = append(names, host+"."+domain)
	}
	return append(names, host)
}

// asked reports whether a name is one that needs no more than to be handed to
// the tunnel, whatever its addresses are.
func (n naming) asked(host string, port uint16) bool {
	if _, ok := n.hosts[canonicalName(host)]; ok || len(n.candidates(host)) > 1 {
		return false
	}
	where, _ := n.rules.Lookup(host)
	return where == route.Tunnel && n.rules.Match(host, port) == route.Tunnel && n.rules.Settled(host, port)
}

// inTunnel is the same without rules, for what is asked to go through the tunnel.
func (n naming) inTunnel() naming {
	n.rules = nil
	return n
}

// pacPath is where browsers find the rules.
const pacPath = "/proxy.pac"

// pac is the PAC file. Browsers show no password when they fetch it, so on this
// machine nobody needs one.
func (n naming) pac(listeners []listener) proxy.File {
	exposed := slices.ContainsFunc(listeners, func(l listener) bool { return l.endpoint.Exposed() })
	serve := func(w http.ResponseWriter, r *http.Request) {
		pac := route.PAC{Rules: n.rules, Proxies: proxiesFor(r, listeners), Plain: len(n.search) > 0}
		pac.Names = slices.Sorted(maps.Keys(n.hosts))
		w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
		_, _ = w.Write(pac.Script())
	}
	return proxy.File{Serve: serve, Public: !exposed}
}

// proxiesFor is the proxy that a PAC file names to a browser: the one it has the
// file from, by the address it knows it under.
func proxiesFor(r *http.Request, listeners []listener) (list []string) {
	if at, err := netip.ParseAddrPort(r.Host); err == nil {
		return []string{"PROXY " + at.String()}
	}
	if at, err := netip.ParseAddr(strings.Trim(r.Host, "[]")); err == nil && at.Is4() {
		return []string{"PROXY " + netip.AddrPortFrom(at, 80).String()}
	}
	for _, l := range listeners { // by a socket file, which has no address
		if _, ok := l.Addr().(*net.TCPAddr); !ok {
			continue
		}
		for _, u := range l.urls() {
			if at, ok := strings.CutPrefix(u, "http://"); ok {
				list = append(list, "PROXY "+at)
			} else if at, ok := strings.CutPrefix(u, "socks5h://"); ok {
				list = append(list, "SOCKS5 "+at)
			}
		}
	}
	return list
}
