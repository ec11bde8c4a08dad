package main

import (
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

// socksRequest sends one SOCKS5 request without authentication, for an IPv4
// address, and returns the connection and the bound address of the reply.
func socksRequest(t *testing.T, proxy string, command byte, to netip.AddrPort) (net.Conn, netip.AddrPort) {
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
