package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"sstproxy/netstack"
	"sstproxy/tunnel/tunneltest"
)

// demoHost is the one name of the demo's private network.
const demoHost = "intranet.demo"

// demoGreeting is how the demo's page begins.
const demoGreeting = "hello from inside the tunnel\n"

// The demo's private network: the server's end with the name server, and the
// web server.
var (
	demoNetwork = netip.MustParsePrefix("10.99.0.0/24")
	demoGateway = netip.MustParseAddr("10.99.0.1")
	demoWeb     = netip.MustParseAddr("10.99.0.80")
)

// startIntranet starts the demo's SSTP server. Each session gets a private
// network of its own.
func startIntranet(log *slog.Logger) (*tunneltest.Server, error) {
	return tunneltest.Start(tunneltest.Config{
		Users:   map[string]string{demoUser: demoPassword},
		Pool:    demoNetwork,
		Gateway: demoGateway,
		DNS:     []netip.Addr{demoGateway},
		Attach: func(c tunneltest.Client) tunneltest.Network {
			n, err := newIntranet(c)
			if err != nil {
				log.Error("the demo's private network does not start", "err", err)
			}
			return n
		},
		Logger: log.With("side", "server"),
	})
}

// newIntranet builds the network behind one session: a stack with the two
// addresses, a name server and a web server.
func newIntranet(c tunneltest.Client) (tunneltest.Network, error) {
	var none tunneltest.Network
	stack, err := netstack.New(netstack.Config{Headroom: tunneltest.Headroom, PutHeader: tunneltest.PutHeader, AnswerPing: true})
	if err != nil {
		return none, err
	}
	web, names, err := serveIntranet(stack, c)
	if err != nil {
		stack.Close()
		return none, err
	}
	return tunneltest.Network{
		Deliver: stack.Deliver, Ready: stack.Ready(), Fill: stack.Fill,
		Detach: func() {
			web.Close()
			names.Shutdown()
			stack.Close()
		},
	}, nil
}

// serveIntranet starts the two servers; they end when they are closed.
func serveIntranet(stack *netstack.Stack, c tunneltest.Client) (*http.Server, *dns.Server, error) {
	err := stack.SetLink(netstack.Link{MTU: c.MTU, Addrs: []netip.Prefix{
		netip.PrefixFrom(c.Gateway, demoNetwork.Bits()), netip.PrefixFrom(demoWeb, demoNetwork.Bits()),
	}})
	if err != nil {
		return nil, nil, err
	}
	l, err := stack.Listen("tcp", netip.AddrPortFrom(demoWeb, 80).String())
	if err != nil {
		return nil, nil, err
	}
	pc, err := stack.ListenPacket("udp", netip.AddrPortFrom(c.Gateway, 53).String())
	if err != nil {
		return nil, nil, err
	}
	web := &http.Server{Handler: http.HandlerFunc(servePage), ReadHeaderTimeout: demoTimeout}
	names := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(serveName)}
	go web.Serve(l)             // ends with web.Close
	go names.ActivateAndServe() // ends with names.Shutdown
	return web, names, nil
}

// servePage answers every request with the demo's page.
func servePage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "%sYou asked for %s%s, you come from %s, and it is %s.\n",
		demoGreeting, r.Host, r.URL.Path, clientOf(r), time.Now().Format(time.TimeOnly))
}

func clientOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// serveName knows one name with one address; of every other it says that it
// does not exist.
func serveName(w dns.ResponseWriter, q *dns.Msg) {
	answer := new(dns.Msg).SetReply(q)
	answer.Authoritative = true
	switch {
	case len(q.Question) != 1 || dns.CanonicalName(q.Question[0].Name) != dns.Fqdn(demoHost):
		answer.Rcode = dns.RcodeNameError
	case q.Question[0].Qtype == dns.TypeA:
		answer.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
			A:   demoWeb.AsSlice(),
		}}
	}
	w.WriteMsg(answer)
}
