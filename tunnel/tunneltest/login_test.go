package tunneltest

import (
	"bytes"
	"crypto/md5"
	"net/netip"
	"testing"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

func TestSession(t *testing.T) {
	dns := netip.MustParseAddr("10.66.0.53")
	bubble(t, Config{DNS: []netip.Addr{dns}, Attach: Reflect}, func(t *testing.T, c *client) {
		c.up()
		if want := netip.MustParseAddr("10.66.0.2"); c.addr != want || c.dns != dns {
			t.Errorf("address %v, DNS %v, want %v, %v", c.addr, c.dns, want, dns)
		}
		packet := c.ping(100)
		c.sendIP(packet)
		echo := c.want("IPv4").info
		if !bytes.Equal(echo[20:], packet[20:]) || !bytes.Equal(echo[12:16], packet[16:20]) {
			t.Errorf("reflected packet %x, sent %x", echo, packet)
		}
		c.hangUp()
		c.wantEvents(EventAccepted, EventTLS, EventHTTPRequest, EventCallConnectRequest, EventLCPOpened,
			EventAuthenticated, EventBindingVerified, EventCallConnected, EventIPCPOpened, EventFirstPacket,
			EventTerminateRequest, EventCallDisconnect, EventCloseNotify, EventEnded)
		c.wantNoEvents(EventLost, EventEarlyPacket, EventBindingRefused)
	})
}

func TestSHA1(t *testing.T) {
	q := Quirks{SSTP: SSTPQuirks{Hashes: sstp.HashSHA1}}
	bubble(t, Config{Quirks: q}, func(t *testing.T, c *client) {
		c.call()
		if c.hashes != sstp.HashSHA1 {
			t.Errorf("bitmask %v, want SHA-1", c.hashes)
		}
		c.login()
		c.connected(sstp.HashSHA1, nil)
		c.ipcp()
		if e := c.await(EventBindingVerified); e.Detail != "SHA-1" {
			t.Errorf("verified with %s, want SHA-1", e.Detail)
		}
		if i := c.conn().Info(); c.conn().HLAK() != c.hlak || i.Hash != sstp.HashSHA1 || i.User != testUser {
			t.Errorf("info of %v has another key, hash %v or user %q", c.conn(), i.Hash, i.User)
		}
	})
}

// conn is the server's side of the connection.
func (c *client) conn() *Conn { return c.server.Events()[0].Conn }

func TestPAP(t *testing.T) {
	bubble(t, Config{Methods: []Method{PAP}}, func(t *testing.T, c *client) {
		c.call()
		c.lcp(PAP)
		data, err := ppp.AppendPAPRequest(nil, testUser, testPassword)
		if err != nil {
			t.Fatal(err)
		}
		c.send(ppp.ProtoPAP, ppp.Packet{Code: ppp.PAPRequest, Identifier: 7, Data: data})
		c.want("PAP Authenticate-Ack")
		c.connected(sstp.HashSHA256, nil)
		c.ipcp()
		c.wantEvents(EventBindingVerified)
	})
}

func TestCHAPMD5(t *testing.T) {
	bubble(t, Config{Methods: []Method{MSCHAPv2, CHAPMD5}}, func(t *testing.T, c *client) {
		c.call()
		c.lcp(CHAPMD5)
		f := c.want("CHAP Challenge")
		value, _, err := ppp.ParseCHAPValue(f.packet.Data)
		if err != nil {
			t.Fatal(err)
		}
		digest := md5.Sum(append(append([]byte{f.packet.Identifier}, testPassword...), value...))
		c.send(ppp.ProtoCHAP, ppp.Packet{
			Code: ppp.CHAPResponse, Identifier: f.packet.Identifier, Data: ppp.AppendCHAPValue(nil, digest[:], testUser),
		})
		c.want("CHAP Success")
		c.connected(sstp.HashSHA256, nil)
		c.ipcp()
		c.wantEvents(EventBindingVerified)
	})
}
