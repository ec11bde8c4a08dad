package tunneltest

import (
	"bytes"

	"sstproxy/tunnel/ppp"
)

// EAP codes and types (RFC 3748 §4, §5).
const (
	eapRequest  ppp.Code = 1
	eapResponse ppp.Code = 2

	eapIdentity = 1
	eapNak      = 3
	eapTLS      = 13
)

func (c *Conn) sendEAPRequest(data []byte) {
	a := &c.link.auth
	a.id, a.asked = c.nextID(), true
	c.sendPPP(ppp.ProtoEAP, ppp.Packet{Code: eapRequest, Identifier: a.id, Data: data})
}

// receiveEAP does what SoftEther does: it asks for EAP-TLS after the identity,
// and gives EAP up for LCP when the client Naks that.
func (c *Conn) receiveEAP(p ppp.Packet, info []byte) {
	a := &c.link.auth
	if !a.asked || p.Identifier != a.id || len(p.Data) == 0 {
		return
	}
	switch p.Data[0] {
	case eapIdentity:
		a.eapUser = string(p.Data[1:])
		c.sendEAPRequest([]byte{eapTLS, 0x20}) // flag S: start (RFC 5216 §3.1)
	case eapNak:
		c.rejectProtocol(ppp.ProtoEAP, bytes.Clone(info))
		c.link.options.nextMethod(nil)
		if c.alive() && !c.link.terminating {
			c.link.lcp.restart()
			c.link.deaf = c.quirks.Auth.EAPNakStalls
		}
	default:
		c.authFailed("EAP: " + a.eapUser)
	}
	if c.link.deaf {
		c.stop(alarmLCP)
	}
}
