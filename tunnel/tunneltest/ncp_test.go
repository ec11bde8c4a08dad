package tunneltest

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

func ipcpOption(t uint8, a byte, b ...byte) ppp.Option {
	return ppp.Option{Type: t, Data: append([]byte{a}, b...)}
}

var (
	anyAddress = ipcpOption(ppp.IPCPAddress, 0, 0, 0, 0)
	anyDNS1    = ipcpOption(ppp.IPCPPrimaryDNS, 0, 0, 0, 0)
	anyDNS2    = ipcpOption(ppp.IPCPSecondaryDNS, 0, 0, 0, 0)
	anyNBNS1   = ipcpOption(ppp.IPCPPrimaryNBNS, 0, 0, 0, 0)
	anyNBNS2   = ipcpOption(ppp.IPCPSecondaryNBNS, 0, 0, 0, 0)
	vjOption   = ipcpOption(ppp.IPCPCompression, 0, 0x2D, 15, 1)
)

func TestIPCPJudges(t *testing.T) {
	type options = []ppp.Option
	dns := []netip.Addr{netip.MustParseAddr("10.66.0.53"), netip.MustParseAddr("10.66.0.54")}
	leased := ipcpOption(ppp.IPCPAddress, 10, 66, 0, 2)
	dns1, dns2 := ipcpOption(ppp.IPCPPrimaryDNS, 10, 66, 0, 53), ipcpOption(ppp.IPCPSecondaryDNS, 10, 66, 0, 54)
	static := ipcpOption(ppp.IPCPAddress, 10, 66, 7, 7)
	tests := []struct {
		name   string
		dns    []netip.Addr
		quirks NCPQuirks
		send   options
		code   ppp.Code
		want   options
	}{
		{"all naked", dns, NCPQuirks{}, options{anyAddress, anyDNS1, anyDNS2}, ppp.ConfigureNak, options{leased, dns1, dns2}},
		{"all right", dns, NCPQuirks{}, options{leased, dns1, dns2}, ppp.ConfigureAck, options{leased, dns1, dns2}},
		{"one DNS server", dns[:1], NCPQuirks{}, options{anyAddress, anyDNS1, anyDNS2}, ppp.ConfigureReject, options{anyDNS2}},
		{"no DNS server", nil, NCPQuirks{}, options{anyAddress, anyDNS1, anyDNS2}, ppp.ConfigureReject, options{anyDNS1, anyDNS2}},
		{"NBNS and VJ", dns, NCPQuirks{}, options{anyAddress, anyNBNS1, anyNBNS2, vjOption}, ppp.ConfigureReject,
			options{anyNBNS1, anyNBNS2, vjOption}},
		{"NBNS given", nil, NCPQuirks{NBNS: RRAS().NCP.NBNS}, options{anyNBNS1}, ppp.ConfigureNak,
			options{ipcpOption(ppp.IPCPPrimaryNBNS, 192, 0, 2, 137)}},
		{"address rejected", nil, NCPQuirks{RejectsAddress: true}, options{anyAddress}, ppp.ConfigureReject, options{anyAddress}},
		{"no address", nil, NCPQuirks{NoAddress: true}, options{anyAddress}, ppp.ConfigureAck, options{anyAddress}},
		{"static refused", nil, NCPQuirks{}, options{static}, ppp.ConfigureNak, options{leased}},
		{"static taken", nil, NCPQuirks{AcceptsStatic: true}, options{static}, ppp.ConfigureAck, options{static}},
		{"static outside", nil, NCPQuirks{AcceptsStatic: true}, options{ipcpOption(ppp.IPCPAddress, 192, 0, 2, 1)},
			ppp.ConfigureNak, options{leased}},
		{"extra in nak", dns, NCPQuirks{NaksExtra: true}, options{anyAddress}, ppp.ConfigureNak, options{leased, dns1, dns2}},
		{"wrong length", nil, NCPQuirks{}, options{ipcpOption(ppp.IPCPAddress, 1, 2)}, ppp.ConfigureReject,
			options{ipcpOption(ppp.IPCPAddress, 1, 2)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{DNS: test.dns, Quirks: Quirks{NCP: test.quirks}}, func(t *testing.T, c *client) {
				c.call()
				c.login()
				c.configure(ppp.ProtoIPCP, test.send...)
				c.wantConfigure(ppp.ProtoIPCP, test.code, test.want...)
			})
		})
	}
}

// TestIPCPOrder is who waits for whom: SoftEther begins after the client, acks
// last and repeats itself.
func TestIPCPOrder(t *testing.T) {
	q := NCPQuirks{Passive: true, AcksLast: true, RepeatsRequest: true, NoAddress: true, OffersVJ: true}
	bubble(t, Config{Quirks: Quirks{NCP: q}}, func(t *testing.T, c *client) {
		c.call()
		c.login()
		c.connected(sstp.HashSHA256, nil)
		id := c.configure(ppp.ProtoIPCP, anyAddress)
		f := c.want("IPCP Configure-Request")
		c.answer(ppp.ProtoIPCP, ppp.ConfigureReject, f, vjOption)
		f = c.wantConfigure(ppp.ProtoIPCP, ppp.ConfigureRequest, ipcpOption(ppp.IPCPAddress, 10, 66, 0, 1))
		c.answer(ppp.ProtoIPCP, ppp.ConfigureAck, f)
		if ack := c.want("IPCP Configure-Ack"); ack.packet.Identifier != id {
			t.Errorf("ack of %d, want %d", ack.packet.Identifier, id)
		}
		again := c.want("IPCP Configure-Request")
		if again.packet.Identifier != f.packet.Identifier || !bytes.Equal(again.packet.Data, f.packet.Data) {
			t.Errorf("repeated request %d, want %d and the same options", again.packet.Identifier, f.packet.Identifier)
		}
		c.answer(ppp.ProtoIPCP, ppp.ConfigureAck, again)
		c.await(EventIPCPOpened)
	})
}

func TestIPCPDropsFirst(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{NCP: NCPQuirks{DropsFirst: true}}}, func(t *testing.T, c *client) {
		c.call()
		c.login()
		c.configure(ppp.ProtoIPCP, anyAddress)
		id := c.configure(ppp.ProtoIPCP, anyAddress)
		if f := c.want("IPCP Configure-Nak"); f.packet.Identifier != id {
			t.Errorf("nak of %d, want %d: the first was to be dropped", f.packet.Identifier, id)
		}
	})
}

func TestIPCPUnanswered(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.call()
		c.login()
		for range maxConfigure {
			c.want("IPCP Configure-Request")
		}
		c.want("LCP Terminate-Request")
	})
}

// TestNoIPCP has IPv6 alone.
func TestNoIPCP(t *testing.T) {
	q := Quirks{NCP: NCPQuirks{NoIPCP: true}}
	bubble(t, Config{IPv6: true, Quirks: q, Attach: Reflect}, func(t *testing.T, c *client) {
		c.call()
		c.login()
		c.connected(sstp.HashSHA256, nil)
		c.configure(ppp.ProtoIPCP, anyAddress)
		f := c.want("LCP Protocol-Reject")
		if !bytes.HasPrefix(f.packet.Data, []byte{0x80, 0x21, 1}) {
			t.Errorf("protocol-reject of % x", f.packet.Data)
		}
		c.ipv6cp([8]byte{1, 2, 3, 4, 5, 6, 7, 8})
		packet := make([]byte, 40)
		packet[0], packet[8], packet[24] = 0x60, 0xFE, 0xFF
		c.write(sstp.AppendData(nil, ppp.AppendFrame(nil, ppp.ProtoIPv6, packet)))
		if got := c.want("IPv6").info; got[8] != 0xFF || got[24] != 0xFE {
			t.Errorf("reflected % x", got)
		}
	})
}

// ipv6cp negotiates an interface identifier.
func (c *client) ipv6cp(id [8]byte) {
	c.t.Helper()
	c.configure(ppp.ProtoIPV6CP, ppp.Option{Type: ppp.IPV6CPInterfaceID, Data: id[:]})
	acked, agreed := false, false
	for !acked || !agreed {
		f := c.wantAny("IPV6CP Configure-Request", "IPV6CP Configure-Ack", "IPV6CP Configure-Nak")
		opts := f.options(c.t)
		switch f.packet.Code {
		case ppp.ConfigureAck:
			acked = true
		case ppp.ConfigureNak:
			c.configure(ppp.ProtoIPV6CP, opts...)
		default:
			agreed = true
			if bytes.Equal(opts[0].Data, make([]byte, 8)) {
				agreed = false
				c.answer(ppp.ProtoIPV6CP, ppp.ConfigureNak, f, ppp.Option{Type: 1, Data: []byte{8, 7, 6, 5, 4, 3, 2, 1}})
			} else {
				c.answer(ppp.ProtoIPV6CP, ppp.ConfigureAck, f)
			}
		}
	}
	c.await(EventIPV6CPOpened)
}

func TestIPv6Identifiers(t *testing.T) {
	id := [8]byte{0x10, 2, 3, 4, 5, 6, 7, 8}
	for _, q := range []NCPQuirks{{}, {NaksIdentifier: true}, {ZeroIdentifier: true}, {Passive: true}} {
		bubble(t, Config{IPv6: true, Quirks: Quirks{NCP: q}}, func(t *testing.T, c *client) {
			c.up()
			c.ipv6cp(id)
			got := c.conn().Info().InterfaceID
			if q.NaksIdentifier == (got == id) || got[0]&2 != 0 {
				t.Errorf("identifier %x, asked for %x, nak %v", got, id, q.NaksIdentifier)
			}
		})
	}
}

func TestIPv6ZeroIsNaked(t *testing.T) {
	bubble(t, Config{IPv6: true}, func(t *testing.T, c *client) {
		c.call()
		c.login()
		c.configure(ppp.ProtoIPV6CP, ppp.Option{Type: 1, Data: make([]byte, 8)})
		c.want("IPV6CP Configure-Nak")
		f := c.want("IPV6CP Configure-Request")
		c.configure(ppp.ProtoIPV6CP, f.options(t)...) // the server's own
		c.want("IPV6CP Configure-Nak")
	})
}

// TestIPv6Stall starts IPV6CP before IPCP is open: SoftEther then does nothing
// for four seconds.
func TestIPv6Stall(t *testing.T) {
	q := NCPQuirks{Passive: true, IPv6Stall: 4 * time.Second, NoAddress: true}
	bubble(t, Config{IPv6: true, Quirks: Quirks{NCP: q}}, func(t *testing.T, c *client) {
		c.call()
		c.login()
		begin := time.Now()
		c.configure(ppp.ProtoIPV6CP, ppp.Option{Type: 1, Data: []byte{1, 2, 3, 4, 5, 6, 7, 8}})
		c.configure(ppp.ProtoIPCP, anyAddress)
		c.want("IPCP Configure-Ack")
		if got := time.Since(begin); got != q.IPv6Stall {
			t.Errorf("IPCP answered after %v, want %v", got, q.IPv6Stall)
		}
	})
	bubble(t, Config{IPv6: true, Quirks: Quirks{NCP: q}}, func(t *testing.T, c *client) {
		c.up()
		begin := time.Now()
		c.ipv6cp([8]byte{1, 2, 3, 4, 5, 6, 7, 8})
		if got := time.Since(begin); got != 0 {
			t.Errorf("IPV6CP after IPCP took %v", got)
		}
	})
}

// TestOtherProtocols is what the server begins for nothing, and what it does
// not speak.
func TestOtherProtocols(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{NCP: NCPQuirks{Compression: true, MPLS: true}}}, func(t *testing.T, c *client) {
		c.call()
		c.login()
		for _, p := range []ppp.Protocol{ppp.ProtoCCP, ppp.ProtoMPLSCP} {
			f := c.want(p.String() + " Configure-Request")
			data := append([]byte{byte(p >> 8), byte(p)}, f.info...)
			c.send(ppp.ProtoLCP, ppp.Packet{Code: ppp.ProtocolReject, Identifier: 1, Data: data})
		}
		if err := c.server.WaitCount(t.Context(), EventProtocolReject, 2); err != nil {
			t.Error(err)
		}
	})
	for _, short := range []bool{false, true} {
		bubble(t, Config{Quirks: Quirks{NCP: NCPQuirks{ShortReject: short}}}, func(t *testing.T, c *client) {
			c.call()
			c.login()
			c.configure(ppp.ProtoCCP)
			if f := c.want("LCP Protocol-Reject"); len(f.packet.Data) == 2 != short {
				t.Errorf("protocol-reject of %d octets, short %v", len(f.packet.Data), short)
			}
		})
	}
}

// TestCCPNegotiated goes along with CCP: every option of the client is rejected.
func TestCCPNegotiated(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{NCP: NCPQuirks{Compression: true}}}, func(t *testing.T, c *client) {
		c.call()
		c.login()
		f := c.want("CCP Configure-Request")
		c.answer(ppp.ProtoCCP, ppp.ConfigureReject, f, f.options(t)...)
		c.wantConfigure(ppp.ProtoCCP, ppp.ConfigureRequest)
		c.configure(ppp.ProtoCCP, ppp.Option{Type: 18, Data: []byte{0, 0, 0, 1}})
		c.wantConfigure(ppp.ProtoCCP, ppp.ConfigureReject, ppp.Option{Type: 18, Data: []byte{0, 0, 0, 1}})
	})
}

func TestPoolRunsOut(t *testing.T) {
	p := newPool(netip.MustParsePrefix("192.0.2.0/30"), netip.MustParseAddr("192.0.2.1"))
	a, err := p.lend()
	if err != nil || a != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("first address %v, %v", a, err)
	}
	if b, err := p.lend(); err == nil {
		t.Errorf("second address %v of a pool of one", b)
	}
	if p.claim(a) || p.claim(netip.MustParseAddr("192.0.2.1")) || p.claim(netip.MustParseAddr("192.0.2.3")) {
		t.Error("claimed an address in use, the gateway or the broadcast address")
	}
	p.release(a)
	if !p.claim(a) {
		t.Error("a released address cannot be claimed")
	}
}
