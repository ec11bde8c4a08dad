package ppp

import (
	"encoding/binary"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const magicLen = 4

// liveness is when something went over the line last, of any kind.
type liveness struct {
	sent, heard time.Time
	echoed      time.Time // our last LCP Echo-Request
	probed      time.Time // by Probe, while nothing was heard since; else zero
	patience    time.Duration
}

func (v *liveness) start(now time.Time) { v.sent, v.heard, v.echoed = now, now, now }

// Heard tells the link that some packet of the peer arrived at now; Receive
// does so itself.
func (l *Link) Heard(now time.Time) {
	if now.After(l.live.heard) {
		l.live.heard = now
	}
	if !now.Before(l.live.probed) {
		l.live.probed = time.Time{}
	}
}

// Probe asks the peer for a sign of life at once: an Echo-Request goes out, and
// if nothing is heard within d the link ends with ErrEchoTimeout. It does
// nothing while LCP is not open, when the Restart timer does the same.
func (l *Link) Probe(now time.Time, d time.Duration) {
	if l.lcp.state != opened || l.cfg.EchoInterval < 0 || !l.live.probed.IsZero() {
		return
	}
	l.live.probed, l.live.patience = now, d
	l.echo(now)
}

// Echo sends the peer an Echo-Request, so that something comes from it at once.
// It does nothing while LCP is not open.
func (l *Link) Echo(now time.Time) {
	if l.lcp.state == opened {
		l.echo(now)
	}
}

// Sent tells the link that some packet went to the peer at now; frames from
// Pending count by themselves.
func (l *Link) Sent(now time.Time) {
	if now.After(l.live.sent) {
		l.live.sent = now
	}
}

// nextEcho is when the next Echo-Request is due.
func (l *Link) nextEcho() time.Time {
	last := l.live.sent
	if l.live.heard.Before(last) {
		last = l.live.heard
	}
	if last.Before(l.live.echoed) {
		last = l.live.echoed
	}
	return last.Add(l.cfg.EchoInterval)
}

// nextKeepalive is when keepalive has something to do; zero while LCP is not
// open, where the Restart timer keeps the link alive.
func (l *Link) nextKeepalive() time.Time {
	if l.lcp.state != opened || l.cfg.EchoInterval < 0 {
		return time.Time{}
	}
	next, end := l.nextEcho(), l.echoEnd()
	if end.Before(next) {
		return end
	}
	return next
}

// echoEnd is when silence ends the link.
func (l *Link) echoEnd() time.Time {
	end := l.live.heard.Add(l.cfg.EchoTimeout)
	if l.live.probed.IsZero() {
		return end
	}
	if probe := l.live.probed.Add(l.live.patience); probe.Before(end) {
		return probe
	}
	return end
}

// keepalive sends an Echo-Request after a time of silence in either direction:
// SoftEther hangs up after 20 s without a packet from us (version 4: 10 s),
// and never answers an SSTP echo.
func (l *Link) keepalive(now time.Time) {
	if due := l.nextKeepalive(); due.IsZero() || now.Before(due) {
		return
	}
	if !now.Before(l.echoEnd()) {
		l.fail(now, ErrEchoTimeout)
		return
	}
	l.echo(now)
}

func (l *Link) echo(now time.Time) {
	l.live.echoed = now
	l.send(now, ProtoLCP, Packet{Code: EchoRequest, Identifier: l.nextID(), Data: l.appendMagic(nil)})
}

// appendMagic appends our magic number, or zero if it is not negotiated
// (RFC 1661 §5.8).
func (l *Link) appendMagic(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, l.lcpOpts.magic)
}

// receiveEcho takes an Echo-Request. One with our own magic number is our own.
func (l *Link) receiveEcho(now time.Time, pkt Packet) {
	if len(pkt.Data) < magicLen {
		return
	}
	n := binary.BigEndian.Uint32(pkt.Data)
	if n == 0 || n != l.lcpOpts.magic {
		l.step(now, &l.lcp, evRXR, input{pkt: pkt})
		return
	}
	if l.lcpOpts.loops++; l.lcpOpts.loops > maxLoops {
		l.fail(now, ErrLoop)
	}
}

// sendEchoReply returns the data with our magic number in place of the peer's.
func (l *Link) sendEchoReply(now time.Time, pkt Packet) {
	data := l.appendMagic(nil)
	data = append(data, l.cut(pkt.Data[magicLen:], packetHeaderLen+magicLen)...)
	l.send(now, ProtoLCP, Packet{Code: EchoReply, Identifier: pkt.Identifier, Data: data})
}

// information is what the peer told about itself (RFC 1570).
type information struct {
	identification string
	ends           time.Time // by the last Time-Remaining; zero: not told
}

// maxText bounds a text of the peer's that we keep, in octets.
const maxText = 255

// take reads an Identification (RFC 1570 §1.1) or Time-Remaining (§1.2).
func (i *information) take(now time.Time, pkt Packet) {
	if len(pkt.Data) < magicLen {
		return
	}
	data := pkt.Data[magicLen:]
	if pkt.Code == Identification {
		i.identification = printable(data)
		return
	}
	if len(data) < 4 {
		return
	}
	i.ends = time.Time{}
	if s := binary.BigEndian.Uint32(data); s != 0xFFFFFFFF { // "all ones": for ever
		i.ends = now.Add(time.Duration(s) * time.Second)
	}
}

// Identification is the text of the peer's last LCP Identification packet,
// such as "MSRASV5.20", without control characters; empty if there was none.
func (l *Link) Identification() string { return l.info.identification }

// Ends is when the link will end by the peer's last LCP Time-Remaining packet;
// zero if there was none, or the time is without limit.
func (l *Link) Ends() time.Time { return l.info.ends }

// printable makes a text of the peer's fit for a log line.
func printable(b []byte) string {
	s := strings.ToValidUTF8(string(b[:min(len(b), maxText)]), "")
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
