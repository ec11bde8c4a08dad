package ppp

import (
	"encoding/binary"
	"time"
)

// maxPending bounds the frames that wait for Pending. A caller that sends
// after each call never sees it; beyond it answers are dropped, and the peer
// or our Restart timer repeats.
const maxPending = 128

// send queues a control packet.
func (l *Link) send(now time.Time, p Protocol, pkt Packet) {
	if len(l.queue) >= maxPending {
		return
	}
	frame := make([]byte, HeaderLen, HeaderLen+packetHeaderLen+len(pkt.Data))
	PutHeader(frame, p)
	l.queue = append(l.queue, pkt.Append(frame))
	l.Sent(now)
}

// nextID is a new identifier. One counter serves all protocols, because
// SoftEther drops a packet that repeats the identifier before it, whatever the
// protocol of either was.
func (l *Link) nextID() uint8 {
	l.id++
	return l.id
}

// cut shortens what a packet is to carry after head octets so that the whole
// fits the peer's MRU (RFC 1661 §5.6, §5.7), and maxControl when that is larger.
func (l *Link) cut(b []byte, head int) []byte {
	return b[:min(len(b), max(0, min(l.MTU(), maxControl)-head))]
}

// maxControl bounds our control packets, and the Configure packets we take, in
// octets. It is what everybody must take whatever was agreed (RFC 1661 §6.1),
// and far more than a negotiation needs. The answer to a longer Request might
// fit in no packet of the lower layer: the MRU does not count a frame's header.
const maxControl = defaultMRU

// dispatch hands a frame to its protocol, as far as the phase allows it: "All
// non-LCP packets received during this phase MUST be silently discarded"
// (RFC 1661 §3.4), and in Authenticate all but LCP and the authentication
// protocol (§3.5). What we do not speak is answered by Protocol-Reject in the
// Network phase.
func (l *Link) dispatch(now time.Time, p Protocol, info []byte) {
	switch {
	case p == ProtoLCP:
		l.receiveControl(now, &l.lcp, info)
	case p == ProtoIPv4 || p == ProtoIPv6:
		// Data goes around this type.
	case l.phase == PhaseAuthenticate && l.auth.speaks(p):
		l.receiveAuth(now, info)
	case l.phase != PhaseNetwork:
	case p == ProtoIPCP:
		l.receiveControl(now, &l.ipcp, info)
	case p == ProtoIPV6CP && l.wantsIPv6():
		l.receiveIPv6CP(now, info)
	case l.auth.speaks(p):
		l.receiveAuth(now, info)
	default:
		l.rejectProtocol(now, p, info)
	}
}

// receiveIPv6CP keeps a Configure-Request that comes before we start IPV6CP, so
// that accel-ppp, which starts both protocols at once, need not repeat it.
func (l *Link) receiveIPv6CP(now time.Time, info []byte) {
	if s := l.ipv6cp.state; s != initial && s != starting {
		l.receiveControl(now, &l.ipv6cp, info)
		return
	}
	if len(info) > 0 && len(info) <= defaultMRU && Code(info[0]) == ConfigureRequest {
		l.heldIPv6 = append([]byte(nil), info...)
	}
}

// rejectProtocol sends a Protocol-Reject with a copy of what came (§5.7), which
// is allowed in LCP Opened only; PhaseNetwork implies it.
func (l *Link) rejectProtocol(now time.Time, p Protocol, info []byte) {
	data := binary.BigEndian.AppendUint16(nil, uint16(p))
	data = append(data, l.cut(info, packetHeaderLen+len(data))...)
	l.send(now, ProtoLCP, Packet{Code: ProtocolReject, Identifier: l.nextID(), Data: data})
}

// receiveControl takes a packet of LCP or an NCP.
func (l *Link) receiveControl(now time.Time, c *control, info []byte) {
	pkt, err := ParsePacket(info)
	if err != nil {
		return
	}
	if !c.knows(pkt.Code) {
		l.step(now, c, evRUC, input{pkt: pkt})
		return
	}
	switch pkt.Code {
	case ConfigureRequest, ConfigureAck, ConfigureNak, ConfigureReject:
		l.receiveConfigure(now, c, pkt)
	case TerminateRequest:
		l.receiveTerminate(now, c, pkt)
	case TerminateAck:
		l.step(now, c, evRTA, input{pkt: pkt})
	case CodeReject:
		l.receiveCodeReject(now, c, pkt)
	case ProtocolReject:
		l.receiveProtocolReject(now, pkt)
	case EchoRequest:
		l.receiveEcho(now, pkt)
	case Identification, TimeRemaining:
		l.info.take(now, pkt)
	}
}

// receiveConfigure takes the four Configure packets. Outside a negotiation,
// where the automaton only knows to send a Terminate-Ack or nothing, their
// content is not looked at.
func (l *Link) receiveConfigure(now time.Time, c *control, pkt Packet) {
	opts, err := ParseOptions(pkt.Data)
	if err != nil || packetHeaderLen+len(pkt.Data) > maxControl {
		return
	}
	if c.state == closed || c.state == closing || c.state == stopping ||
		c.state == stopped && pkt.Code != ConfigureRequest {
		l.step(now, c, configureEvent(pkt.Code), input{pkt: pkt})
		return
	}
	if pkt.Code == ConfigureRequest {
		l.receiveRequest(now, c, pkt, opts)
		return
	}
	l.receiveReply(now, c, pkt, opts)
}

func configureEvent(code Code) event {
	switch code {
	case ConfigureRequest:
		return evRCRPlus
	case ConfigureAck:
		return evRCA
	}
	return evRCN
}

// receiveRequest judges the peer's Configure-Request. A repetition of the last
// one gets the same answer; in Opened it gets it without going down, for an
// Ack that crossed a retransmission is no wish to negotiate again.
func (l *Link) receiveRequest(now time.Time, c *control, pkt Packet, opts []Option) {
	again := c.peer.is(pkt.Identifier, opts)
	if again && c.state == opened {
		l.reply(now, c, pkt.Identifier, c.peer.reply)
		return
	}
	if !c.limit.exchange() {
		l.giveUp(now, c, &ConfigError{c.proto})
		return
	}
	if !again {
		v, err := c.opts.judge(opts, c.naks < maxFailure)
		if err != nil {
			l.giveUp(now, c, err)
			return
		}
		v.opts = cloneOptions(v.opts)
		c.peer = answered{id: pkt.Identifier, opts: cloneOptions(opts), reply: v, known: true}
	}
	e := evRCRMinus
	if c.peer.reply.code == ConfigureAck {
		e = evRCRPlus
	}
	l.step(now, c, e, input{pkt: pkt, verdict: c.peer.reply, again: again})
}

// receiveReply takes the answer to our Configure-Request. It must carry the
// identifier of a Request that still waits, an Ack all its options and a
// Reject some of them; else it is discarded (RFC 1661 §5.2 to §5.4), and so is
// the second answer to a Request that was sent twice.
func (l *Link) receiveReply(now time.Time, c *control, pkt Packet, opts []Option) {
	if !c.waiting || pkt.Identifier != c.sentID {
		return
	}
	var err error
	switch pkt.Code {
	case ConfigureAck:
		if !EqualOptions(opts, c.sent) {
			return
		}
	case ConfigureReject:
		if !c.subset(opts) {
			return
		}
		err = c.opts.reject(opts)
	case ConfigureNak:
		if len(opts) == 0 {
			return
		}
		err = c.opts.nak(opts)
	}
	if err != nil {
		l.giveUp(now, c, err)
		return
	}
	if !c.limit.exchange() {
		l.giveUp(now, c, &ConfigError{c.proto})
		return
	}
	c.waiting, c.heard = false, true
	l.step(now, c, configureEvent(pkt.Code), input{pkt: pkt})
	if c.state == ackRcvd {
		// The early retransmission has nothing left to repeat.
		c.timer = now.Add(restartTimer)
	}
}

// receiveTerminate: the peer ends the protocol. While it is being negotiated
// the RFC would have us ask on; a server that says goodbye there means it.
func (l *Link) receiveTerminate(now time.Time, c *control, pkt Packet) {
	text, code := parseTermination(pkt.Data)
	if c == &l.lcp {
		l.setErr(l.terminated(text, code))
		if c.state == opened {
			l.phase = PhaseTerminate
		}
	} else if c.cause == nil {
		c.cause = &TerminatedError{Text: text, Code: code, Phase: l.phase}
	}
	l.step(now, c, evRTR, input{pkt: pkt})
	if c != &l.lcp && c.state >= reqSent {
		l.failNCP(now, c, c.cause)
	}
}

// terminated is what an LCP Terminate-Request means. SoftEther answers wrong
// PAP credentials with nothing else.
func (l *Link) terminated(text string, code int) error {
	refused := l.Unanswered()
	switch {
	case refused != nil:
		refused.Failure.Code, refused.Text = code, text
		return refused
	case l.phase == PhaseEstablish && l.lcpOpts.refused:
		return l.lcpOpts.noCommonAuth()
	}
	return &TerminatedError{Text: text, Code: code, Phase: l.phase}
}

// receiveCodeReject: only the codes the automaton lives by are missed.
func (l *Link) receiveCodeReject(now time.Time, c *control, pkt Packet) {
	if len(pkt.Data) == 0 {
		return
	}
	code := Code(pkt.Data[0])
	if code < ConfigureRequest || code > TerminateAck {
		l.event(now, c, evRXJPlus)
		return
	}
	l.rejected(now, c, &RejectedError{Protocol: c.proto, Code: code})
}

// receiveProtocolReject: "A Protocol-Reject received in any state other than
// the Opened state SHOULD be silently discarded" (RFC 1661 §5.7). Rejected IP
// packets are let pass: a server that was not ready for the first one takes
// the next.
func (l *Link) receiveProtocolReject(now time.Time, pkt Packet) {
	if l.lcp.state != opened || len(pkt.Data) < 2 {
		return
	}
	p := Protocol(binary.BigEndian.Uint16(pkt.Data))
	err := &RejectedError{Protocol: p}
	switch {
	case p == ProtoLCP:
		l.rejected(now, &l.lcp, err)
	case p == ProtoIPCP:
		l.rejected(now, &l.ipcp, err)
	case p == ProtoIPV6CP:
		l.rejected(now, &l.ipv6cp, err)
	case l.phase == PhaseAuthenticate && l.auth.speaks(p):
		l.fail(now, err)
	default:
		l.event(now, &l.lcp, evRXJPlus)
	}
}

// rejected: the peer refuses the protocol as a whole.
func (l *Link) rejected(now time.Time, c *control, err error) {
	if c == &l.lcp {
		l.setErr(err)
		l.phase = PhaseTerminate
	} else if c.cause == nil {
		c.cause = err
	}
	l.event(now, c, evRXJMinus)
}
