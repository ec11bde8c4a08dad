package tunneltest

import (
	"bytes"
	"slices"
	"time"

	"sstproxy/tunnel/ppp"
)

// Defaults of RFC 1661 §4.6.
const (
	restartTimer = 3 * time.Second
	maxConfigure = 10
	maxFailure   = 5
	maxTerminate = 2
)

// rules are what one protocol puts into the common option negotiation.
type rules interface {
	// request is our Configure-Request.
	request() []ppp.Option
	// judge says what is wrong with the client's: options to Nak, with better
	// values, and options to reject. Nothing means Ack.
	judge(opts []ppp.Option) (naks, rejects []ppp.Option)
	// refused tells of the client's Nak or Reject, before the next request.
	refused(code ppp.Code, opts []ppp.Option)
	// opened and closed tell that the protocol has come up and gone down.
	opened()
	closed()
}

// negotiation is one protocol's exchange of options (RFC 1661 §4, §5), kept as
// two halves: has the client acked our Request, have we acked the client's.
// The protocol is open when both are true.
type negotiation struct {
	conn  *Conn
	proto ppp.Protocol
	alarm alarm
	rules rules

	running   bool
	open      bool
	own, peer bool         // our Request was acked; the client's was
	wanted    []ppp.Option // our Request
	id        uint8        // and its identifier
	tries     int          // how often it was sent
	naks      int          // how many Naks in a row we sent
	lastAcked []byte       // the client's Request we acked last
	owed      *ppp.Packet  // an Ack kept back (Quirks.NCP.AcksLast)
	repeated  bool         // Quirks.NCP.RepeatsRequest is done
}

// start sends our first Request.
func (n *negotiation) start() {
	if !n.running {
		n.running = true
		n.renew()
	}
}

// stop ends the protocol without a word.
func (n *negotiation) stop() {
	n.conn.stop(n.alarm)
	wasOpen := n.open
	*n = negotiation{conn: n.conn, proto: n.proto, alarm: n.alarm, rules: n.rules}
	if wasOpen {
		n.rules.closed()
	}
}

// restart begins anew with our Request.
func (n *negotiation) restart() {
	n.stop()
	n.start()
}

// renew sends a Request of new content under a new identifier.
func (n *negotiation) renew() {
	n.own, n.tries = false, 0
	n.wanted, n.id = n.rules.request(), n.conn.nextID()
	n.send()
}

// send sends our Request, again after each restart timer.
func (n *negotiation) send() {
	if n.tries == maxConfigure {
		n.conn.unanswered(n)
		return
	}
	n.tries++
	n.own = false
	n.conn.after(n.alarm, restartTimer, n.send)
	n.conn.sendPPP(n.proto, n.configure(ppp.ConfigureRequest, n.id, n.wanted))
}

func (n *negotiation) configure(code ppp.Code, id uint8, opts []ppp.Option) ppp.Packet {
	return ppp.Packet{Code: code, Identifier: id, Data: ppp.AppendOptions(nil, opts)}
}

// receive handles the codes all protocols share; it reports whether it was one.
func (n *negotiation) receive(p ppp.Packet) bool {
	switch p.Code {
	case ppp.ConfigureRequest:
		n.requestReceived(p)
	case ppp.ConfigureAck, ppp.ConfigureNak, ppp.ConfigureReject:
		n.answerReceived(p)
	case ppp.TerminateRequest:
		n.stop()
		n.conn.sendPPP(n.proto, ppp.Packet{Code: ppp.TerminateAck, Identifier: p.Identifier, Data: p.Data})
	case ppp.TerminateAck:
	case ppp.CodeReject:
		n.conn.record(EventCodeReject, n.proto.String())
	default:
		return false
	}
	return true
}

func (n *negotiation) requestReceived(p ppp.Packet) {
	opts, err := ppp.ParseOptions(p.Data)
	if err != nil {
		return // silently discarded
	}
	packet := p.Append(nil)
	if n.open && !bytes.Equal(packet, n.lastAcked) && !n.conn.acksWhenOpened(n) {
		n.restart()
	}
	if n.answer(p, opts) {
		n.lastAcked = packet
	}
	n.start()
	n.check()
}

// answer sends Reject before Nak before Ack, and reports whether it was Ack.
func (n *negotiation) answer(p ppp.Packet, opts []ppp.Option) (acked bool) {
	naks, rejects := n.rules.judge(opts)
	if n.naks >= maxFailure && !n.conn.quirks.LCP.NaksForever {
		rejects = append(rejects, sameTypes(opts, naks)...)
		naks = nil
	}
	switch {
	case len(rejects) > 0:
		n.peer = false
		n.conn.sendPPP(n.proto, n.configure(ppp.ConfigureReject, p.Identifier, rejects))
	case len(naks) > 0:
		n.naks++
		n.peer = false
		n.conn.sendPPP(n.proto, n.configure(ppp.ConfigureNak, p.Identifier, naks))
	default:
		n.naks = 0
		n.ack(ppp.Packet{Code: ppp.ConfigureAck, Identifier: p.Identifier, Data: bytes.Clone(p.Data)})
		return true
	}
	return false
}

// sameTypes picks the options whose type is among those of like.
func sameTypes(opts, like []ppp.Option) []ppp.Option {
	var same []ppp.Option
	for _, o := range opts {
		if slices.ContainsFunc(like, func(l ppp.Option) bool { return l.Type == o.Type }) {
			same = append(same, o)
		}
	}
	return same
}

func (n *negotiation) ack(p ppp.Packet) {
	if n.proto == ppp.ProtoIPCP && n.conn.quirks.NCP.AcksLast && !n.own {
		n.owed = &p
		return
	}
	n.peer = true
	n.conn.sendPPP(n.proto, p)
}

// answerReceived handles the client's answer to our Request. One with another
// identifier, or other options than it may have, is discarded (RFC 1661 §5.2
// to §5.4); so is a second answer to the same Request.
func (n *negotiation) answerReceived(p ppp.Packet) {
	opts, err := ppp.ParseOptions(p.Data)
	if err != nil || !n.running || n.own || p.Identifier != n.id {
		return
	}
	switch p.Code {
	case ppp.ConfigureAck:
		if ppp.EqualOptions(opts, n.wanted) {
			n.acked()
		}
		return
	case ppp.ConfigureReject:
		if len(opts) == 0 || !subset(opts, n.wanted) {
			return
		}
	}
	n.rules.refused(p.Code, opts)
	if n.running && !n.conn.link.terminating {
		n.renew()
	}
}

func (n *negotiation) acked() {
	n.own = true
	if n.owed != nil {
		owed := *n.owed
		n.owed = nil
		n.ack(owed)
	}
	if n.proto == ppp.ProtoIPCP && n.conn.quirks.NCP.RepeatsRequest && !n.repeated {
		n.repeated = true
		n.conn.sendPPP(n.proto, n.configure(ppp.ConfigureRequest, n.id, n.wanted))
	}
	n.check()
}

func (n *negotiation) check() {
	if n.own && n.peer && !n.open {
		n.open = true
		n.conn.stop(n.alarm)
		n.rules.opened()
	}
}

// subset reports whether every option is one of all, octet for octet.
func subset(opts, all []ppp.Option) bool {
	for _, o := range opts {
		if !slices.ContainsFunc(all, o.Equal) {
			return false
		}
	}
	return true
}
