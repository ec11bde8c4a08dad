package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"sstproxy/netstack"
	"sstproxy/tunnel/tunneltest"
)

// The names of the soak's network: all end so, so that each look-up can be for
// a name that was never asked for before.
const soakDomain = ".soak.test"

// soakSite is a server with a private network that outlives the sessions: web
// pages with bytes that can be checked, an echo, and a name server. Packets go
// to the session that came last; connections from another address than its own
// are given up, as they can't come back.
type soakSite struct {
	server  *tunneltest.Server
	address string // of the server
	stack   *netstack.Stack
	web     *http.Server
	names   *dns.Server
	asked   atomic.Int64 // questions answered
	wrong   atomic.Int64 // octets of uploads
	spares  atomic.Bool  // a second session does not end the first
	wg      sync.WaitGroup

	delivering sync.Mutex // Stack.Deliver wants one caller at a time
	mu         sync.Mutex
	client     netip.Addr
	ready      chan struct{} // of the session that came last
	conns      map[net.Conn]bool
	listeners  []net.Listener
	end        chan struct{}
}

// startSoakSite starts it. The caller must close it.
func startSoakSite(t *testing.T) *soakSite {
	t.Helper()
	stack, err := netstack.New(netstack.Config{Headroom: tunneltest.Headroom, PutHeader: tunneltest.PutHeader})
	if err != nil {
		t.Fatal(err)
	}
	s := &soakSite{stack: stack, conns: make(map[net.Conn]bool), end: make(chan struct{})}
	if err := s.listen(); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(s.pass) // ends with close
	s.server, err = tunneltest.NewServer(tunneltest.Config{
		Users: map[string]string{"alice": "wonderland"}, Sticky: true, Hook: s.event,
		Pool: demoNetwork, Gateway: demoGateway, DNS: []netip.Addr{demoGateway}, Attach: s.attach,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.wg.Go(func() { s.server.Serve(l) }) // ends with close
	return s
}

// event makes the server end the client's old session when the client comes
// back, so that the address is free: that of one that is half open would be in
// use for minutes.
func (s *soakSite) event(c *tunneltest.Conn, e tunneltest.Event) bool {
	if e.Kind != tunneltest.EventHTTPRequest || s.spares.Load() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, other := range s.server.Sessions() {
		if other == c {
			continue
		}
		other.Kill()
		s.server.WaitFunc(ctx, func(e tunneltest.Event) bool { return e.Conn == other && e.Kind == tunneltest.EventEnded })
	}
	return false
}

func (s *soakSite) listen() error {
	if err := s.stack.SetLink(soakLink); err != nil {
		return err
	}
	packets, err := s.stack.ListenPacket("udp", netip.AddrPortFrom(demoGateway, 53).String())
	if err != nil {
		return err
	}
	for _, port := range []uint16{80, 7} {
		l, err := s.stack.Listen("tcp", netip.AddrPortFrom(demoWeb, port).String())
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, &countedListener{Listener: l, site: s})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /down", s.serveDown)
	mux.HandleFunc("POST /up", s.serveUp)
	s.web = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	s.names = &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(s.serveName)}
	s.wg.Go(func() { s.web.Serve(s.listeners[0]) }) // ends with close
	s.wg.Go(func() { s.serveEcho(s.listeners[1]) }) // ends with close
	s.wg.Go(func() { s.names.ActivateAndServe() })  // ends with close
	return nil
}

// soakLink is the stack's side of every session.
var soakLink = netstack.Link{Addrs: []netip.Prefix{
	netip.PrefixFrom(demoGateway, 32), netip.PrefixFrom(demoWeb, 32),
}}

// attach is the server's: from now on packets go to this session. The stack is
// told of the new link, because the far end of a real tunnel has other stacks
// than gVisor's, which crawls without that; see netstack's resume.
func (s *soakSite) attach(c tunneltest.Client) tunneltest.Network {
	ready := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Addr != s.client {
		s.giveUp()
	}
	s.client, s.ready = c.Addr, ready
	ready <- struct{}{} // there may be packets from before
	s.stack.LinkDown()
	if err := s.stack.SetLink(soakLink); err != nil {
		panic(err) // it was good before
	}
	return tunneltest.Network{
		Ready: ready,
		Deliver: func(batch [][]byte) {
			s.delivering.Lock()
			defer s.delivering.Unlock()
			s.stack.Deliver(batch)
		},
		Fill: func(b []byte) int {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.ready != ready {
				return 0
			}
			return s.stack.Fill(b)
		},
	}
}

// pass tells the session that came last when there are packets for it.
func (s *soakSite) pass() {
	for {
		select {
		case <-s.end:
			return
		case <-s.stack.Ready():
		}
		s.mu.Lock()
		if s.ready != nil {
			select {
			case s.ready <- struct{}{}:
			default:
			}
		}
		s.mu.Unlock()
	}
}

// giveUp resets all connections: their other end is gone. It wants mu held,
// which Fill takes, too: so it does not wait for them.
func (s *soakSite) giveUp() {
	gone := slices.Collect(maps.Keys(s.conns))
	clear(s.conns)
	s.wg.Go(func() { // ends at once
		for _, c := range gone {
			c.(interface{ SetLinger(sec int) error }).SetLinger(0)
			c.Close()
		}
	})
}

// countedListener keeps the site's list of connections.
type countedListener struct {
	net.Listener
	site *soakSite
}

func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.site.mu.Lock()
	defer l.site.mu.Unlock()
	l.site.conns[c] = true
	return &countedConn{Conn: c, site: l.site}, nil
}

type countedConn struct {
	net.Conn
	site *soakSite
}

func (c *countedConn) Close() error {
	c.site.mu.Lock()
	delete(c.site.conns, c.Conn)
	c.site.mu.Unlock()
	return c.Conn.Close()
}

// serveDown sends the octets that the request names.
func (s *soakSite) serveDown(w http.ResponseWriter, r *http.Request) {
	bytes, err := parsePayload(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(bytes.size))
	io.Copy(w, bytes.reader(r.Context().Done()))
}

// serveUp compares what comes with what the request says, and answers with how
// many octets were wrong.
func (s *soakSite) serveUp(w http.ResponseWriter, r *http.Request) {
	bytes, err := parsePayload(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	check := bytes.checker()
	if _, err := io.Copy(check, r.Body); err != nil {
		return // reset: the client counts that
	}
	s.wrong.Add(int64(check.wrong))
	fmt.Fprintf(w, "%d of %d wrong", check.wrong, check.seen)
}

// serveEcho gives every line back.
func (s *soakSite) serveEcho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() { // ends with the connection
			defer c.Close()
			r := bufio.NewReader(c)
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				if _, err := c.Write(line); err != nil {
					return
				}
			}
		})
	}
}

// serveName gives all names of the domain the address of the web server.
func (s *soakSite) serveName(w dns.ResponseWriter, q *dns.Msg) {
	answer := new(dns.Msg).SetReply(q)
	answer.Authoritative = true
	switch {
	case len(q.Question) != 1 || !strings.HasSuffix(q.Question[0].Name, soakDomain+"."):
		answer.Rcode = dns.RcodeNameError
	case q.Question[0].Qtype == dns.TypeA:
		answer.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
			A:   demoWeb.AsSlice(),
		}}
	}
	s.asked.Add(1)
	w.WriteMsg(answer)
}

// close ends all of it and waits.
func (s *soakSite) close() {
	s.server.Close()
	close(s.end)
	s.web.Close()
	s.names.Shutdown()
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Lock()
	s.giveUp()
	s.mu.Unlock()
	s.stack.Close()
	s.wg.Wait()
}
