// Package ppp is the client's half of the Point-to-Point Protocol as it runs
// inside SSTP: framing, the option negotiation automaton, LCP, PAP, CHAP,
// MS-CHAPv2, IPCP and IPV6CP, put together in Link.
//
// It is not a general PPP: there are no serial lines (no HDLC flags, escapes or
// FCS), no server side, no compression, encryption, multilink or EAP. It does
// no I/O, starts no goroutine and reads no clock; IP packets do not pass
// through it, see PutHeader for their header.
//
// Specifications: RFC 1661 (PPP, LCP), RFC 1570 (LCP extensions), RFC 1662
// (address and control fields), RFC 1334 (PAP), RFC 1994 (CHAP), RFC 2759
// (MS-CHAPv2), RFC 3079 (keys), RFC 1332 and RFC 1877 (IPCP), RFC 5072
// (IPV6CP).
//
// The parts, from the wire up:
//
//	frame.go packet.go option.go   protocol field; code, identifier, length; options
//	pap.go chap.go method.go       layouts of the authentication protocols
//	automaton.go                   the state transition table of RFC 1661 §4.1
//	control.go step.go receive.go  one protocol's negotiation; actions; events
//	lcp.go ipcp.go ipv6cp.go       what each protocol's options mean
//	auth.go echo.go link.go        authentication; keepalive; phases
//
// Where real servers leave the standards, the comment at the place names the
// server, and so does a test.
//
// Most callers need NewLink and Link.Receive:
//
//	l := ppp.NewLink(ppp.Config{User: "alice", Password: password})
//	l.Up(time.Now())
//	for l.Err() == nil && !l.Opened() {
//		for _, frame := range l.Pending() {
//			send(frame)
//		}
//		select {
//		case frame := <-frames:
//			l.Receive(time.Now(), frame)
//		case <-time.After(time.Until(l.NextTimeout())):
//			l.Advance(time.Now())
//		}
//	}
package ppp
