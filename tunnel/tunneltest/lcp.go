package tunneltest

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

const (
	defaultMRU = 1500 // RFC 1661 §6.1
	minMRU     = 100  // what SoftEther and accel-ppp take
)

// lcpRules are the options of LCP (RFC 1661 §6).
type lcpRules struct {
	conn    *Conn
	method  Method
	refuses []Method // methods the client has refused
	mru     uint16   // ours; 0 is not offered
	magic   uint32   // ours; 0 is not offered
	extra   []ppp.Option
	peerMRU int // what the client takes

	unanswered int // LCP Echo-Requests without a reply
}

func newLCPRules(c *Conn) *lcpRules {
	q := &c.quirks.LCP
	r := &lcpRules{
		conn: c, method: c.server.methods[0], mru: q.MRU, peerMRU: defaultMRU, extra: slices.Clone(q.Extra),
	}
	if q.Magic {
		r.magic = randomMagic()
	}
	return r
}

// randomMagic is a magic number other than 0 (RFC 1661 §6.4).
func randomMagic() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:]) | 1
}

func uint16Data(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func uint32Data(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func (r *lcpRules) request() []ppp.Option {
	opts := []ppp.Option{{Type: ppp.LCPAuthProtocol, Data: r.method.option()}}
	if r.mru != 0 {
		opts = append(opts, ppp.Option{Type: ppp.LCPMRU, Data: uint16Data(r.mru)})
	}
	if r.magic != 0 {
		opts = append(opts, ppp.Option{Type: ppp.LCPMagic, Data: uint32Data(r.magic)})
	}
	return append(opts, r.extra...)
}

func (r *lcpRules) judge(opts []ppp.Option) (naks, rejects []ppp.Option) {
	r.peerMRU = defaultMRU
	for _, o := range opts {
		better, ok := r.judgeOne(o)
		switch {
		case better != nil:
			naks = append(naks, *better)
		case !ok:
			rejects = append(rejects, o)
		}
	}
	if r.conn.quirks.LCP.NaksForever {
		return []ppp.Option{{Type: ppp.LCPMagic, Data: uint32Data(randomMagic())}}, nil
	}
	return naks, rejects
}

// judgeOne says whether an option is right, or what would be better.
func (r *lcpRules) judgeOne(o ppp.Option) (better *ppp.Option, ok bool) {
	q := &r.conn.quirks.LCP
	switch {
	case o.Type == ppp.LCPMRU && len(o.Data) == 2 && !q.RejectsMRU:
		return r.judgeMRU(binary.BigEndian.Uint16(o.Data))
	case o.Type == ppp.LCPMagic && len(o.Data) == 4 && !q.RejectsMagic:
		if m := binary.BigEndian.Uint32(o.Data); m == 0 || m == r.magic {
			return &ppp.Option{Type: ppp.LCPMagic, Data: uint32Data(randomMagic())}, false
		}
		return nil, true
	case o.Type == ppp.LCPACCM && len(o.Data) == 4:
		return nil, !q.RejectsACCM
	case (o.Type == ppp.LCPPFC || o.Type == ppp.LCPACFC) && len(o.Data) == 0:
		return nil, q.AcceptsCompression
	}
	return nil, false
}

func (r *lcpRules) judgeMRU(mru uint16) (better *ppp.Option, ok bool) {
	largest := r.conn.quirks.LCP.MaxMRU
	if largest == 0 {
		largest = sstp.MaxPayloadLen
	}
	switch {
	case mru > largest:
		return &ppp.Option{Type: ppp.LCPMRU, Data: uint16Data(largest)}, false
	case mru < minMRU:
		return &ppp.Option{Type: ppp.LCPMRU, Data: uint16Data(minMRU)}, false
	}
	r.peerMRU = int(mru)
	return nil, true
}

func (r *lcpRules) refused(code ppp.Code, opts []ppp.Option) {
	for _, o := range opts {
		nak := code == ppp.ConfigureNak
		switch {
		case o.Type == ppp.LCPAuthProtocol && nak:
			r.nextMethod(o.Data)
		case o.Type == ppp.LCPAuthProtocol:
			r.refuses = slices.Clone(r.conn.server.methods)
			r.nextMethod(nil)
		case o.Type == ppp.LCPMRU && nak && len(o.Data) == 2 && r.mru != 0:
			r.mru = max(minMRU, binary.BigEndian.Uint16(o.Data))
		case o.Type == ppp.LCPMRU:
			r.mru = 0
		case o.Type == ppp.LCPMagic && nak && r.magic != 0:
			r.magic = randomMagic()
		case o.Type == ppp.LCPMagic:
			r.magic = 0
		default:
			r.extra = slices.DeleteFunc(r.extra, func(e ppp.Option) bool { return e.Type == o.Type })
		}
	}
}

// nextMethod takes the method the client hints at, or the next of the list
// that it has not refused.
func (r *lcpRules) nextMethod(hint []byte) {
	r.refuses = append(r.refuses, r.method)
	next, found := Method(0), false
	for _, m := range r.conn.server.methods {
		if slices.Contains(r.refuses, m) {
			continue
		}
		hinted := !r.conn.quirks.Auth.IgnoresHint && bytes.Equal(m.option(), hint)
		if !found || hinted {
			next, found = m, true
		}
		if hinted {
			break
		}
	}
	if !found {
		r.conn.record(EventNoCommonMethod, "")
		r.conn.terminate("no common authentication method")
		return
	}
	r.method = next
}

func (r *lcpRules) opened() {
	c, q := r.conn, &r.conn.quirks.LCP
	c.record(EventLCPOpened, r.method.String())
	c.setInfo(func(i *Info) { i.MTU = r.peerMRU })
	if q.Identification {
		c.sendPPP(ppp.ProtoLCP, ppp.Packet{
			Code: ppp.Identification, Identifier: c.nextID(), Data: append(uint32Data(r.magic), "MSRASV5.20"...),
		})
	}
	if q.UnknownCode {
		c.sendPPP(ppp.ProtoLCP, ppp.Packet{Code: 0x7F, Identifier: c.nextID(), Data: []byte{1, 2, 3}})
	}
	if q.EchoInterval > 0 {
		c.after(alarmLCPEcho, q.EchoInterval, c.lcpEchoDue)
	}
	r.unanswered = 0
	c.beginAuth()
}

// closed takes down what stands on LCP.
func (r *lcpRules) closed() {
	c := r.conn
	c.data.close()
	c.endAuth()
	c.stop(alarmLCPEcho)
	for _, n := range c.link.ncps {
		n.stop()
	}
}

func (c *Conn) startLCP() {
	if c.quirks.LCP.NeverAnswers {
		return
	}
	c.link.lcp.start()
	if c.quirks.LCP.EarlyEcho {
		data := append(make([]byte, 4), "tunneltest echo\x00"...)
		c.sendPPP(ppp.ProtoLCP, ppp.Packet{Code: ppp.EchoRequest, Data: data})
	}
}

// acksWhenOpened is Quirks.LCP.AcksWhenOpened.
func (c *Conn) acksWhenOpened(n *negotiation) bool {
	return n.proto == ppp.ProtoLCP && c.quirks.LCP.AcksWhenOpened
}

func (c *Conn) receiveLCP(p ppp.Packet, info []byte) {
	q, l := &c.quirks.LCP, &c.link
	switch {
	case q.Loop:
		c.sendInfo(ppp.ProtoLCP, bytes.Clone(info))
	case q.NeverAnswers && p.Code <= ppp.ConfigureReject:
	case p.Code == ppp.TerminateRequest:
		c.terminateReceived(p)
	case p.Code == ppp.TerminateAck:
		c.record(EventTerminateAck, "")
		if l.terminating {
			c.disconnect(sstp.StatusInfo{})
		}
	case l.terminating:
	case p.Code == ppp.ProtocolReject:
		c.protocolRejected(p.Data)
	case p.Code >= ppp.EchoRequest && p.Code <= ppp.TimeRemaining:
		c.receiveLCPEcho(p)
	case !l.lcp.receive(p):
		c.rejectCode(ppp.ProtoLCP, info)
	}
}

// terminateReceived acks the client's end of the link and gives it some time
// for its Call Disconnect.
func (c *Conn) terminateReceived(p ppp.Packet) {
	c.record(EventTerminateRequest, "")
	c.linkDown()
	c.sendPPP(ppp.ProtoLCP, ppp.Packet{Code: ppp.TerminateAck, Identifier: p.Identifier, Data: bytes.Clone(p.Data)})
	c.after(alarmTerminate, restartTimer, func() { c.disconnect(sstp.StatusInfo{}) })
}

func (c *Conn) protocolRejected(data []byte) {
	if len(data) < 2 {
		return
	}
	p := ppp.Protocol(binary.BigEndian.Uint16(data))
	c.record(EventProtocolReject, p.String())
	switch n := c.ncp(p); {
	case n != nil:
		n.stop()
	case p == ppp.ProtoLCP || p == ppp.ProtoCHAP || p == ppp.ProtoPAP || p == ppp.ProtoEAP:
		c.terminate("protocol rejected")
	}
}

// receiveLCPEcho handles the codes that only an open link answers, with our
// magic number or 0 (RFC 1661 §5.8).
func (c *Conn) receiveLCPEcho(p ppp.Packet) {
	if !c.link.lcp.open || len(p.Data) < 4 {
		return
	}
	switch p.Code {
	case ppp.EchoRequest:
		c.record(EventLCPEchoRequest, "")
		data := append(uint32Data(c.link.options.magic), p.Data[4:]...)
		c.sendPPP(ppp.ProtoLCP, ppp.Packet{Code: ppp.EchoReply, Identifier: p.Identifier, Data: data})
	case ppp.EchoReply:
		c.link.options.unanswered = 0
		c.record(EventLCPEchoReply, "")
	}
}

func (c *Conn) sendLCPEcho() {
	if c.link.lcp == nil || !c.link.lcp.open {
		return
	}
	c.link.options.unanswered++
	data := append(uint32Data(c.link.options.magic), "tunneltest echo\x00"...)
	c.sendPPP(ppp.ProtoLCP, ppp.Packet{Code: ppp.EchoRequest, Identifier: c.nextID(), Data: data})
}

func (c *Conn) sendTimeRemaining(d time.Duration, text string) {
	if c.link.lcp == nil || !c.link.lcp.open {
		return
	}
	data := append(uint32Data(c.link.options.magic), uint32Data(uint32(d/time.Second))...)
	c.sendPPP(ppp.ProtoLCP, ppp.Packet{Code: ppp.TimeRemaining, Identifier: c.nextID(), Data: append(data, text...)})
}

func (c *Conn) lcpEchoDue() {
	q := &c.quirks.LCP
	if q.EchoFailures > 0 && c.link.options.unanswered >= q.EchoFailures {
		c.terminate("no answer to LCP echo")
		return
	}
	c.sendLCPEcho()
	c.after(alarmLCPEcho, q.EchoInterval, c.lcpEchoDue)
}
