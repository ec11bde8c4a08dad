package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"sstproxy/tunnel/tunneltest"
)

// dialProxy opens a connection to a proxy.
func dialProxy(t *testing.T, proxy string) net.Conn {
	t.Helper()
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// socksRequest sends one SOCKS5 request without authentication, for an IPv4
// address, and returns the connection and the bound address of the reply.
func socksRequest(t *testing.T, proxy string, command byte, to netip.AddrPort) (net.Conn, netip.AddrPort) {
	t.Helper()
	c := dialProxy(t, proxy)
	request := append([]byte{5, 1, 0, 5, command, 0, 1}, to.Addr().AsSlice()...)
	if _, err := c.Write(binary.BigEndian.AppendUint16(request, to.Port())); err != nil {
		t.Fatal(err)
	}
	if method, err := io.ReadAll(io.LimitReader(c, 2)); err != nil || string(method) != "\x05\x00" {
		t.Fatalf("got method % x, %v", method, err)
	}
	return c, socksReply(t, c)
}

// socksReply reads one reply that says yes, with an IPv4 address.
func socksReply(t *testing.T, r io.Reader) netip.AddrPort {
	t.Helper()
	var b [10]byte
	if _, err := io.ReadFull(r, b[:]); err != nil || b[1] != 0 || b[3] != 1 {
		t.Fatalf("got reply % x, %v", b, err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), binary.BigEndian.Uint16(b[8:]))
}

// wantName asks the demo's name server through a relay of UDP ASSOCIATE, again
// and again as one does, until it answers.
func wantName(t *testing.T, c net.Conn) {
	t.Helper()
	header := append([]byte{0, 0, 0, 1}, demoGateway.AsSlice()...)
	query, err := new(dns.Msg).SetQuestion(demoHost+".", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := c.Write(append(append(slices.Clip(header), 0, 53), query...)); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Read(b)
		if err != nil {
			continue
		}
		var reply dns.Msg
		if err := reply.Unpack(b[10:n]); err != nil {
			t.Fatal(err)
		}
		if a, ok := reply.Answer[0].(*dns.A); !ok || a.A.String() != demoWeb.String() {
			t.Errorf("got %v, want %v", reply.Answer, demoWeb)
		}
		return
	}
	t.Error("no answer")
}

// An association goes on over a new session, with the same address and with
// another.
func TestUDPAssociate(t *testing.T) {
	site := startSite(t)
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()))...)
	_, relay := socksRequest(t, c.proxyURL(t, "socks5h://"), 3, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	client, err := net.Dial("udp", relay.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	wantName(t, client)
	site.Line().Reset()
	c.stderr.wait(t, "connection lost")
	wantName(t, client)
	if err := site.SetPool(netip.MustParsePrefix("10.98.0.0/24"), demoGateway); err != nil {
		t.Fatal(err)
	}
	n := site.Count(tunneltest.EventIPCPOpened)
	site.Line().Reset()
	c.stderr.wait(t, "addr=10.98.0.")
	wantName(t, client)
	if site.Count(tunneltest.EventIPCPOpened) <= n {
		t.Error("no new session")
	}
}

// BIND listens on the inner address.
func TestBind(t *testing.T) {
	site, network := startNetwork(t)
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()))...)
	anybody := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	client, bound := socksRequest(t, c.proxyURL(t, "socks5h://"), 2, anybody)
	if !demoNetwork.Contains(bound.Addr()) {
		t.Fatalf("bound to %v, want an address of %v", bound, demoNetwork)
	}
	peer, err := network.DialContext(t.Context(), "tcp", bound.String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if from := socksReply(t, client); from.String() != peer.LocalAddr().String() {
		t.Errorf("got peer %v, want %v", from, peer.LocalAddr())
	}
	for _, pair := range [][2]net.Conn{{client, peer}, {peer, client}} {
		if _, err := io.WriteString(pair[0], "hello"); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(io.LimitReader(pair[1], 5)); err != nil || string(b) != "hello" {
			t.Errorf("got %q, %v", b, err)
		}
	}
	// With another address there is nothing to wait for.
	client, _ = socksRequest(t, c.proxyURL(t, "socks5h://"), 2, anybody)
	if err := site.SetPool(netip.MustParsePrefix("10.98.0.0/24"), demoGateway); err != nil {
		t.Fatal(err)
	}
	site.Line().Reset()
	if b, err := io.ReadAll(client); err != nil || len(b) != 10 || b[1] != 3 {
		t.Errorf("got % x, %v, want reply 3", b, err)
	}
}

// SOCKS4A and RESOLVE have their names looked up in the tunnel.
func TestSOCKSNames(t *testing.T) {
	site := startSite(t)
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()))...)
	proxy := c.proxyURL(t, "socks5h://")
	resolve := append([]byte{5, 1, 0, 5, 0xf0, 0, 3, byte(len(demoHost))}, demoHost+"\x00\x00"...)
	for request, want := range map[string]string{
		string(resolve): "\x05\x00\x05\x00\x00\x01" + string(demoWeb.AsSlice()) + "\x00\x00",
		"\x05\x01\x00\x05\xf1\x00\x01\x0a\x63\x00\x50\x00\x00":       "\x05\x00\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00", // there is no reverse zone
		"\x04\xf0\x00\x00\x00\x00\x00\x01me\x00" + demoHost + "\x00": "\x00\x5a\x00\x00" + string(demoWeb.AsSlice()),
	} {
		client := dialProxy(t, proxy)
		if _, err := io.WriteString(client, request); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(client); err != nil || string(got) != want {
			t.Errorf("% x: got % x, %v, want % x", request, got, err, want)
		}
	}
	client := dialProxy(t, proxy)
	if _, err := io.WriteString(client, "\x04\x01\x00\x50\x00\x00\x00\x01me\x00"+demoHost+"\x00"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(io.LimitReader(client, 8)); err != nil || b[1] != 90 {
		t.Fatalf("got % x, %v", b, err)
	}
	wantPage(t, client, bufio.NewReader(client))
}
