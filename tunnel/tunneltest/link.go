package tunneltest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// link is the state of PPP.
type link struct {
	id          uint8 // of the next packet we begin, over all protocols
	lcp         *negotiation
	ncps        []*negotiation // IPCP, IPV6CP and what the quirks add
	options     *lcpRules
	auth        auth
	lease       netip.Addr // the client's address
	terminating bool       // LCP is going down or has gone
	terminates  int        // Terminate-Requests sent
	deaf        bool       // Quirks.Auth.EAPNakStalls has struck

	held     []heldFrame // Quirks.Wire.ReplyDelay
	stalled  bool        // Quirks.NCP.IPv6Stall runs
	stallEnd bool        // and is over
	deferred [][]byte    // frames that came meanwhile
	dropped  bool        // Quirks.NCP.DropsFirst is done
}

type heldFrame struct {
	name   string
	packet []byte
}

// beginLink brings PPP up after Call Connect Ack.
func (c *Conn) beginLink() {
	l := &c.link
	l.options = newLCPRules(c)
	l.lcp = &negotiation{conn: c, proto: ppp.ProtoLCP, alarm: alarmLCP, rules: l.options}
	q := &c.quirks.NCP
	add := func(on bool, p ppp.Protocol, a alarm, r rules) {
		if on {
			l.ncps = append(l.ncps, &negotiation{conn: c, proto: p, alarm: a, rules: r})
		}
	}
	add(!q.NoIPCP, ppp.ProtoIPCP, alarmIPCP, newIPCPRules(c))
	add(c.server.cfg.IPv6, ppp.ProtoIPV6CP, alarmIPV6CP, newIPV6CPRules(c))
	// Option 18: MPPE and MPPC, RFC 3078 §2.
	add(q.Compression, ppp.ProtoCCP, alarmCCP, &otherRules{opts: []ppp.Option{{Type: 18, Data: []byte{1, 0, 0, 0xE1}}}})
	add(q.MPLS, ppp.ProtoMPLSCP, alarmMPLSCP, &otherRules{})
	if !c.quirks.LCP.WaitsForClient {
		c.startLCP()
	}
}

func (c *Conn) ncp(p ppp.Protocol) *negotiation {
	for _, n := range c.link.ncps {
		if n.proto == p {
			return n
		}
	}
	return nil
}

// ncpOpen reports whether a network protocol is open.
func (c *Conn) ncpOpen(p ppp.Protocol) bool {
	n := c.ncp(p)
	return n != nil && n.open
}

func (c *Conn) nextID() uint8 {
	id := c.link.id
	c.link.id++
	return id
}

// receiveFrame handles a PPP frame that holds no IP packet.
func (c *Conn) receiveFrame(frame []byte) {
	if c.call.state != connectedPending && c.call.state != connected {
		return
	}
	p, info, err := ppp.ParseFrame(frame)
	if err != nil || c.refusesForm(p, info, frame) {
		return
	}
	name := pppName(p, info)
	c.server.cfg.Logger.Debug("received", "peer", c.info.RemoteAddr, "proto", name)
	if name == "PAP Authenticate-Request" || name == "CHAP Response" {
		c.record(EventCredentials, c.link.auth.method.String())
	}
	if c.hooked(EventReceived, name, sstp.AppendData(nil, frame)) || c.link.deaf {
		return
	}
	if c.link.stalled || c.stalls(p, info) {
		c.link.deferred = append(c.link.deferred, bytes.Clone(frame))
		return
	}
	c.dispatch(p, info)
	if !c.link.lcp.running && c.alive() && !c.link.terminating {
		c.startLCP()
	}
}

// refusesForm applies the quirks about compressed headers.
func (c *Conn) refusesForm(p ppp.Protocol, info, frame []byte) bool {
	full := bytes.HasPrefix(frame, []byte{0xFF, 0x03})
	header := len(frame) - len(info)
	if full {
		header -= 2
	}
	switch q := &c.quirks.Wire; {
	case q.NeedsAddress && !full:
		return true
	case q.NeedsFullProtocol && header == 1:
		c.rejectProtocol(p, info)
		return true
	}
	return false
}

// dispatch hands the information field to its protocol, if that may be spoken
// in this phase (RFC 1661 §3.4, §3.5).
func (c *Conn) dispatch(p ppp.Protocol, info []byte) {
	packet, err := ppp.ParsePacket(info)
	l := &c.link
	switch {
	case p == ppp.ProtoLCP && err == nil:
		c.receiveLCP(packet, info)
	case p == ppp.ProtoLCP, !l.lcp.open, l.terminating:
	case p == ppp.ProtoPAP || p == ppp.ProtoCHAP || p == ppp.ProtoEAP:
		if err == nil {
			c.receiveAuth(p, packet, info)
		}
	case c.ncp(p) == nil:
		c.rejectProtocol(p, info)
	case l.auth.done && err == nil:
		c.receiveNCP(c.ncp(p), packet, info)
	}
}

func (c *Conn) receiveNCP(n *negotiation, p ppp.Packet, info []byte) {
	c.authProtocolOver()
	first := n.proto == ppp.ProtoIPCP && p.Code == ppp.ConfigureRequest && !c.link.dropped
	if first && c.quirks.NCP.DropsFirst {
		c.link.dropped = true
		return
	}
	if !n.receive(p) {
		c.rejectCode(n.proto, info)
	}
}

// stalls reports whether a packet sets off Quirks.NCP.IPv6Stall.
func (c *Conn) stalls(p ppp.Protocol, info []byte) bool {
	d, l := c.quirks.NCP.IPv6Stall, &c.link
	if d == 0 || l.stallEnd || p != ppp.ProtoIPV6CP || c.ncp(p) == nil || c.ncpOpen(ppp.ProtoIPCP) {
		return false
	}
	l.stalled = true
	c.after(alarmStall, d, func() {
		l.stalled, l.stallEnd = false, true
		deferred := l.deferred
		l.deferred = nil
		for _, frame := range deferred {
			if p, info, err := ppp.ParseFrame(frame); err == nil {
				c.dispatch(p, info)
			}
		}
	})
	return true
}

// sendPPP sends a control packet in a frame.
func (c *Conn) sendPPP(p ppp.Protocol, packet ppp.Packet) { c.sendInfo(p, packet.Append(nil)) }

func (c *Conn) sendInfo(p ppp.Protocol, info []byte) {
	name := pppName(p, info)
	if c.quirks.Wire.Padding {
		info = append(info, 0xAA, 0x55, 0xAA)
	}
	packet := sstp.AppendData(nil, ppp.AppendFrame(nil, p, info))
	if d := c.quirks.Wire.ReplyDelay; d > 0 {
		c.link.held = append(c.link.held, heldFrame{name, packet})
		if c.alarms[alarmRelease].ring == nil {
			c.after(alarmRelease, d, c.releaseHeld)
		}
		return
	}
	c.emit(name, packet)
}

func (c *Conn) releaseHeld() {
	held := c.link.held
	c.link.held = nil
	for _, h := range held {
		c.emit(h.name, h.packet)
	}
}

// rejectProtocol answers what we do not speak (RFC 1661 §5.7).
func (c *Conn) rejectProtocol(p ppp.Protocol, info []byte) {
	if !c.link.lcp.open {
		return
	}
	data := binary.BigEndian.AppendUint16(nil, uint16(p))
	if !c.quirks.NCP.ShortReject {
		data = append(data, info[:min(len(info), c.link.options.peerMRU-6)]...)
	}
	c.sendPPP(ppp.ProtoLCP, ppp.Packet{Code: ppp.ProtocolReject, Identifier: c.nextID(), Data: data})
}

// rejectCode answers a code we do not know (RFC 1661 §5.6).
func (c *Conn) rejectCode(p ppp.Protocol, info []byte) {
	data := info[:min(len(info), c.link.options.peerMRU-4)]
	c.sendPPP(p, ppp.Packet{Code: ppp.CodeReject, Identifier: c.nextID(), Data: bytes.Clone(data)})
}

// unanswered is the end of a negotiation the client does not answer.
func (c *Conn) unanswered(n *negotiation) {
	switch n.proto {
	case ppp.ProtoLCP:
		c.disconnect(sstp.StatusInfo{})
	case ppp.ProtoIPCP:
		c.terminate("no answer to IPCP")
	default:
		n.stop()
	}
}

// terminate takes the link down with Terminate-Request, and then the call.
func (c *Conn) terminate(text string) {
	l := &c.link
	if !c.alive() || l.lcp == nil || l.terminates == 0 && l.terminating {
		return
	}
	if l.terminates == maxTerminate {
		c.disconnect(sstp.StatusInfo{})
		return
	}
	l.terminates++
	c.linkDown()
	c.sendPPP(ppp.ProtoLCP, ppp.Packet{Code: ppp.TerminateRequest, Identifier: c.nextID(), Data: []byte(text)})
	c.after(alarmTerminate, restartTimer, func() { c.terminate(text) })
}

// linkDown stops everything above LCP, and LCP.
func (c *Conn) linkDown() {
	if !c.link.terminating {
		c.link.terminating = true
		c.link.lcp.stop()
	}
	c.stop(alarmStall, alarmAuth, alarmRechallenge, alarmLCPEcho, alarmBeacon)
}

// pppName is what a control packet is called in its RFC.
func pppName(p ppp.Protocol, info []byte) string {
	if len(info) == 0 || p < 0x8000 {
		return p.String()
	}
	code := info[0]
	names := map[ppp.Protocol][]string{
		ppp.ProtoPAP:  {"", "Authenticate-Request", "Authenticate-Ack", "Authenticate-Nak"},
		ppp.ProtoCHAP: {"", "Challenge", "Response", "Success", "Failure"},
		ppp.ProtoEAP:  {"", "Request", "Response", "Success", "Failure"},
	}[p]
	switch {
	case names == nil:
		return fmt.Sprintf("%v %v", p, ppp.Code(code))
	case int(code) < len(names):
		return fmt.Sprintf("%v %s", p, names[code])
	}
	return fmt.Sprintf("%v code %d", p, code)
}
