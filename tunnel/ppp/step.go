package ppp

import (
	"errors"
	"fmt"
	"time"
)

// input is the packet behind an event, and the verdict on it if it is a
// Configure-Request.
type input struct {
	pkt     Packet
	verdict verdict
	again   bool // the Request is a retransmission of one that was judged
}

// event moves a protocol's automaton by an event that is no packet.
func (l *Link) event(now time.Time, c *control, e event) { l.step(now, c, e, input{}) }

// step looks the event up and does what the cell says. The state is the new
// one before the first action, so that an action which moves another protocol,
// or ends this one, finds it right.
func (l *Link) step(now time.Time, c *control, e event, in input) {
	do, next, ok := c.state.on(e)
	if !ok {
		return
	}
	c.state = next
	for a := tld; a <= tlf; a <<= 1 {
		if do&a != 0 {
			l.do(now, c, a, do, in)
		}
	}
	if !c.state.timed() {
		c.timer = time.Time{}
	}
}

// do performs one action of a cell; all are the cell's other actions.
func (l *Link) do(now time.Time, c *control, a, all actions, in input) {
	switch a {
	case tld:
		l.layerDown(now, c)
	case irc:
		c.count = maxConfigure
		if all&str != 0 {
			c.count = maxTerminate
		}
	case zrc:
		c.count, c.timer = 0, now.Add(restartTimer)
	case scr:
		l.sendRequest(now, c)
	case sca, scn:
		l.sendVerdict(now, c, in)
	case str:
		c.count, c.timer = c.count-1, now.Add(restartTimer)
		l.send(now, c.proto, Packet{Code: TerminateRequest, Identifier: l.nextID()})
	case sta:
		l.send(now, c.proto, Packet{Code: TerminateAck, Identifier: in.pkt.Identifier})
	case scj:
		l.send(now, c.proto, Packet{Code: CodeReject, Identifier: l.nextID(),
			Data: l.cut(in.pkt.Append(nil), packetHeaderLen)})
	case ser:
		l.sendEchoReply(now, in.pkt)
	case tlu:
		l.layerUp(now, c)
	case tlf:
		l.layerFinished(now, c)
	}
}

// sendRequest sends our Configure-Request. It is the last one again, with its
// identifier, while that has no answer: over TCP nothing is lost, so the peer
// is only slow and its answer will still fit. Before the peer's first answer
// the Restart timer is short once, see Config.FirstRestart.
func (l *Link) sendRequest(now time.Time, c *control) {
	wait := restartTimer
	opts := c.opts.request()
	if !c.waiting || !EqualOptions(opts, c.sent) {
		c.sent, c.sentID, c.waiting = opts, l.nextID(), true
		if !c.heard {
			wait = l.cfg.FirstRestart
		}
	}
	c.count, c.timer = c.count-1, now.Add(wait)
	l.send(now, c.proto, Packet{Code: ConfigureRequest, Identifier: c.sentID, Data: AppendOptions(nil, c.sent)})
}

// sendVerdict answers a Configure-Request. An Ack puts the peer's options in
// force and ends the count of Naks.
func (l *Link) sendVerdict(now time.Time, c *control, in input) {
	v := in.verdict
	switch {
	case v.code == ConfigureAck:
		c.naks = 0
		c.opts.acked(v.opts)
	case v.code == ConfigureNak && !in.again:
		c.naks++
	}
	l.reply(now, c, in.pkt.Identifier, v)
}

func (l *Link) reply(now time.Time, c *control, id uint8, v verdict) {
	l.send(now, c.proto, Packet{Code: v.code, Identifier: id, Data: AppendOptions(nil, v.opts)})
}

// layerUp: the protocol has come to Opened.
func (l *Link) layerUp(now time.Time, c *control) {
	c.limit.exchanges = 0
	switch c.proto {
	case ProtoLCP:
		l.startAuth(now)
	case ProtoIPCP:
		if err := l.ipcpOpts.unusable(); err != nil {
			l.failNCP(now, c, err)
			return
		}
		l.hadAddress = true
		l.startIPv6(now)
	case ProtoIPV6CP:
		if l.ipv6cpOpts.rejected {
			l.failNCP(now, c, errNoValue)
		}
	}
}

// errNoValue is why an IPV6CP is closed that opened without the one value it is
// there for.
var errNoValue = errors.New("negotiated without the option that matters")

// layerDown: the protocol has left Opened. For LCP that is the full way down:
// the NCPs lose their lower layer and authentication starts anew, while the
// SSTP call goes on.
func (l *Link) layerDown(now time.Time, c *control) {
	c.heard, c.waiting, c.naks = false, false, 0
	if !c.limit.reopen(now) {
		l.giveUp(now, c, &ConfigError{c.proto})
	}
	if c != &l.lcp {
		return
	}
	l.auth.stop()
	l.heldIPv6 = nil
	if l.phase != PhaseTerminate {
		l.phase = PhaseEstablish
	}
	l.event(now, &l.ipcp, evDown)
	l.event(now, &l.ipv6cp, evDown)
}

// layerFinished: the protocol is over. For LCP that shows as Done.
func (l *Link) layerFinished(now time.Time, c *control) {
	if c != &l.lcp {
		l.networkChanged(now)
	}
}

// giveUp notes that a protocol cannot go on: LCP's cause ends the link at the
// end of this turn, an NCP's ends the NCP.
func (l *Link) giveUp(now time.Time, c *control, err error) {
	if c == &l.lcp {
		l.setErr(err)
		return
	}
	l.failNCP(now, c, err)
}

// startNetwork enters PhaseNetwork: IPCP first and alone, because SoftEther
// works on IPV6CP for four seconds during which IPCP stands still.
func (l *Link) startNetwork(now time.Time) {
	l.phase = PhaseNetwork
	for _, c := range []*control{&l.ipcp, &l.ipv6cp} {
		c.heard, c.waiting, c.naks, c.cause = false, false, 0, nil
		c.peer, c.limit.exchanges = answered{}, 0
	}
	l.event(now, &l.ipcp, evOpen)
	l.event(now, &l.ipcp, evUp)
}

// wantsIPv6 reports whether IPV6CP is spoken at all.
func (l *Link) wantsIPv6() bool { return l.cfg.IPv6 && l.MTU() >= minIPv6MTU }

// startIPv6 brings IPV6CP up once, and answers a Request that came too early.
func (l *Link) startIPv6(now time.Time) {
	s := l.ipv6cp.state
	if !l.wantsIPv6() || s != initial && s != starting {
		return
	}
	l.event(now, &l.ipv6cp, evOpen)
	l.event(now, &l.ipv6cp, evUp)
	if held := l.heldIPv6; held != nil {
		l.heldIPv6 = nil
		l.receiveControl(now, &l.ipv6cp, held)
	}
}

// failNCP closes one network protocol; the link goes on with the other.
func (l *Link) failNCP(now time.Time, c *control, err error) {
	if c.cause == nil {
		c.cause = err
	}
	l.event(now, c, evClose)
	l.networkChanged(now)
}

// aloneRestarts is how often IPV6CP repeats a Request without IPCP at its side:
// who waits for the tunnel is to hear soon why there is none, and a server that
// takes four seconds to begin, as SoftEther does, is still heard.
const aloneRestarts = 2

// networkChanged looks whether any network protocol is left, and starts IPV6CP
// in IPCP's place. Without any the link is of no use.
func (l *Link) networkChanged(now time.Time) {
	if l.phase != PhaseNetwork || l.err != nil || l.ipcp.alive() {
		return
	}
	l.startIPv6(now)
	l.ipv6cp.count = min(l.ipv6cp.count, aloneRestarts)
	if !l.ipv6cp.alive() && l.phase == PhaseNetwork {
		l.fail(now, l.noNetwork())
	}
}

// alive reports whether the protocol is open, or may come to be.
func (c *control) alive() bool { return c.state >= stopping && c.state <= opened }

// noNetwork is the error of a link without a network protocol. What ends an
// IPCP that was open says so itself.
func (l *Link) noNetwork() error {
	err := l.ipcp.cause
	switch {
	case err == nil:
		return ErrNoAddress
	case l.hadAddress, errors.Is(err, ErrNoAddress):
		return err
	}
	return fmt.Errorf("%w: %w", ErrNoAddress, err)
}

// expire fires the Restart timer.
func (l *Link) expire(now time.Time, c *control) {
	if c.timer.IsZero() || now.Before(c.timer) {
		return
	}
	if c.count > 0 {
		l.event(now, c, evTOPlus)
		return
	}
	switch {
	case c != &l.lcp && c.cause == nil:
		c.cause = &ConfigError{c.proto}
	case c == &l.lcp && l.lcpOpts.refused:
		l.setErr(l.lcpOpts.noCommonAuth())
	case c == &l.lcp:
		l.setErr(&ConfigError{ProtoLCP})
	}
	l.event(now, c, evTOMinus)
}
