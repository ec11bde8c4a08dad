package tunneltest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash"
	"time"

	"sstproxy/tunnel/sstp"
)

// callState is a state of the server's call machine (3.3.1), with the shared
// ones of 3.1.1.
type callState uint8

const (
	connectRequestPending    callState = iota // the HTTPS request was accepted; a Call Connect Request is due
	connectedPending                          // Ack sent, PPP runs; Call Connected is due
	connected                                 // IP packets pass
	abortPending                              // our Call Abort awaits the client's
	abortTimeoutPending                       // both sides have sent Call Abort
	disconnectAckPending                      // our Call Disconnect awaits its Ack
	disconnectTimeoutPending                  // the client's Call Disconnect is acked
)

// The timers of 3.1.2 and 3.3.2.
const (
	negotiationTimer  = 60 * time.Second
	helloTimer        = 60 * time.Second
	abortTimer1       = 3 * time.Second
	abortTimer2       = 1 * time.Second
	disconnectTimer1  = 5 * time.Second
	disconnectTimer2  = 1 * time.Second
	maxConnectRefused = 3 // product behaviour note <10>
)

// call is the state of the SSTP call.
type call struct {
	state   callState
	nonce   [32]byte
	refused int    // Call Connect Requests answered with Nak
	early   []byte // a Call Connected that came before authentication was done
	echoing bool   // an Echo Request is unanswered
}

func (c *Conn) beginCall() {
	q := &c.quirks.SSTP
	c.data.heard()
	c.after(alarmNegotiation, negotiationTimer, c.negotiationTimeout)
	if q.Silence > 0 {
		c.after(alarmSilence, q.Silence, c.silenceTimeout)
	}
	if q.SessionLimit > 0 {
		c.after(alarmSession, q.SessionLimit, func() { c.disconnect(sstp.StatusInfo{}) })
	}
}

func (c *Conn) alive() bool { return c.call.state <= connected }

func (c *Conn) negotiationTimeout() {
	c.abort(sstp.StatusInfo{Status: sstp.StatusNegotiationTimeout})
}

// silenceTimeout aborts a client that has been silent too long.
func (c *Conn) silenceTimeout() {
	left := c.quirks.SSTP.Silence - c.data.silence()
	if left > 0 {
		c.after(alarmSilence, left, c.silenceTimeout)
		return
	}
	c.abort(sstp.StatusInfo{Status: sstp.StatusInvalidFrameReceived})
}

func (c *Conn) sendMessage(m sstp.Message) { c.emit(messageName(m.Type), m.Append(nil)) }

// receiveControl handles a control packet (3.3.5.2).
func (c *Conn) receiveControl(payload []byte) {
	m, err := sstp.ParseMessage(payload)
	packet := sstp.AppendData(nil, payload)
	sstp.PutHeader(packet, true, len(packet))
	c.server.cfg.Logger.Debug("received", "peer", c.info.RemoteAddr, "proto", messageName(m.Type))
	if c.hooked(EventReceived, messageName(m.Type), packet) {
		return
	}
	switch {
	case m.Type == sstp.CallAbort:
		c.record(EventCallAbort, reason(m))
		c.abortReceived()
	case m.Type == sstp.CallDisconnect:
		c.record(EventCallDisconnect, reason(m))
		c.disconnectReceived()
	case m.Type == sstp.CallDisconnectAck && !c.alive():
		c.disconnectAckReceived()
	case !c.alive():
		// The abort and disconnect states ignore all else (3.1.5.3).
	case err != nil:
		c.abort(sstp.StatusInfo{Status: sstp.StatusInvalidFrameReceived})
	default:
		c.receiveMessage(m, packet)
	}
}

func (c *Conn) receiveMessage(m sstp.Message, packet []byte) {
	switch {
	case c.call.state == connectRequestPending && m.Type == sstp.CallConnectRequest:
		c.connectRequest(m)
	case c.call.state == connectedPending && m.Type == sstp.CallConnected:
		c.callConnected(packet)
	case c.call.state == connected && m.Type == sstp.EchoRequest:
		c.record(EventEchoRequest, "")
		if !c.quirks.SSTP.NeverAnswersEcho {
			c.sendMessage(sstp.Message{Type: sstp.EchoResponse})
		}
	case m.Type == sstp.EchoResponse && (c.call.state == connected || c.quirks.SSTP.EchoEarly):
		c.record(EventEchoResponse, "")
	case m.Type > sstp.EchoResponse || m.Type < sstp.CallConnectRequest:
		c.abort(sstp.StatusInfo{Status: sstp.StatusInvalidFrameReceived})
	default:
		c.abort(sstp.StatusInfo{Status: sstp.StatusUnacceptedFrameReceived})
	}
}

// reason puts the Status Info of a message into words.
func reason(m sstp.Message) string {
	if s, ok := m.StatusInfo(); ok {
		return s.String()
	}
	return "no reason given"
}

// connectRequest answers a Call Connect Request (3.3.5.2.2).
func (c *Conn) connectRequest(m sstp.Message) {
	faults := requestFaults(m)
	if len(faults) == 0 && c.call.refused < c.quirks.SSTP.Naks {
		faults = []sstp.StatusInfo{{
			AttribID: sstp.AttrEncapsulatedProtocolID, Status: sstp.StatusValueNotSupported, Value: []byte{0, 1},
		}}
	}
	if len(faults) > 0 {
		c.refuseRequest(faults)
		return
	}
	c.record(EventCallConnectRequest, "")
	switch q := &c.quirks.SSTP; {
	case q.NeverAcks:
	case q.AckDelay > 0:
		c.after(alarmAck, q.AckDelay, c.connectAck)
	default:
		c.connectAck()
	}
}

func (c *Conn) refuseRequest(faults []sstp.StatusInfo) {
	c.record(EventCallConnectNak, faults[0].String())
	c.call.refused++
	if c.call.refused > maxConnectRefused {
		c.abort(sstp.StatusInfo{AttribID: sstp.AttrStatusInfo, Status: sstp.StatusRetryCountExceeded})
		return
	}
	nak := sstp.Message{Type: sstp.CallConnectNak}
	for _, f := range faults {
		nak.Attributes = append(nak.Attributes, f.Attribute())
	}
	c.sendMessage(nak)
}

// requestFaults lists what is wrong with a Call Connect Request: it must have
// exactly one Encapsulated Protocol ID, which must say PPP, and nothing else.
func requestFaults(m sstp.Message) []sstp.StatusInfo {
	var faults []sstp.StatusInfo
	add := func(id sstp.AttributeID, s sstp.Status, value []byte) {
		faults = append(faults, sstp.StatusInfo{AttribID: id, Status: s, Value: value})
	}
	seen := false
	for _, a := range m.Attributes {
		switch {
		case a.ID == sstp.AttrStatusInfo:
			add(a.ID, sstp.StatusStatusInfoNotSupportedInMsg, a.Value)
		case a.ID != sstp.AttrEncapsulatedProtocolID:
			add(a.ID, sstp.StatusUnrecognizedAttribute, a.Value)
		case seen:
			add(a.ID, sstp.StatusDuplicateAttribute, a.Value)
		case len(a.Value) != 2:
			add(a.ID, sstp.StatusInvalidAttribValueLength, a.Value)
		case a.Value[0] != 0 || a.Value[1] != 1:
			add(a.ID, sstp.StatusValueNotSupported, a.Value)
		}
		seen = seen || a.ID == sstp.AttrEncapsulatedProtocolID
	}
	if !seen {
		add(sstp.AttrEncapsulatedProtocolID, sstp.StatusRequiredAttributeMissing, nil)
	}
	return faults
}

// hashes is the bitmask offered.
func (q *SSTPQuirks) hashes() sstp.HashProtocol {
	switch q.Hashes {
	case HashesBoth:
		return sstp.HashSHA1 | sstp.HashSHA256
	case HashesNone:
		return 0
	}
	return q.Hashes
}

func (c *Conn) connectAck() {
	q := &c.quirks.SSTP
	rand.Read(c.call.nonce[:])
	request := sstp.CryptoBindingRequest{Hashes: q.hashes(), Nonce: c.call.nonce}
	c.call.state = connectedPending
	c.after(alarmNegotiation, negotiationTimer, c.negotiationTimeout)
	c.sendMessage(sstp.Message{
		Type: sstp.CallConnectAck, Attributes: []sstp.Attribute{request.Attribute()},
	})
	if q.EchoEarly {
		c.sendMessage(sstp.Message{Type: sstp.EchoRequest})
	}
	c.beginLink()
}

// callConnected checks the binding as soon as authentication is done; one that
// came first has to wait for it (3.3.5.2.3).
func (c *Conn) callConnected(packet []byte) {
	if !c.link.auth.done && !c.quirks.SSTP.NoVerify {
		c.call.early = packet
		return
	}
	c.call.early = nil
	refusal, fault := c.verify(packet)
	if fault != "" {
		c.record(EventBindingRefused, fault)
	} else {
		c.record(EventBindingVerified, sstp.HashProtocol(packet[bindingHashAt]).String())
	}
	if fault != "" && !c.quirks.SSTP.NoVerify {
		c.abort(refusal)
		return
	}
	c.call.state = connected
	c.stop(alarmNegotiation)
	c.record(EventCallConnected, "")
	c.armEcho()
	c.openData()
}

// Offsets in the 112 octets of Call Connected (2.2.12, 2.2.7).
const (
	callConnectedLen  = 112
	bindingHashAt     = 15
	bindingNonceAt    = 16
	bindingCertHashAt = 48
	bindingMACAt      = 80
)

// verify checks a whole Call Connected packet octet by octet. fault is empty
// if it is right; refusal is what an Abort says otherwise.
func (c *Conn) verify(packet []byte) (refusal sstp.StatusInfo, fault string) {
	m, err := sstp.ParseMessage(packet[sstp.HeaderLen:])
	_, found := m.Attribute(sstp.AttrCryptoBinding)
	refusal = sstp.StatusInfo{AttribID: sstp.AttrStatusInfo, Status: sstp.StatusAttribNotSupportedInMsg}
	if err != nil || !found || len(m.Attributes) != 1 || len(packet) != callConnectedLen {
		return c.refusal(refusal), "no crypto binding of the right length"
	}
	h := sstp.HashProtocol(packet[bindingHashAt])
	c.setInfo(func(i *Info) { i.Hash = h })
	refusal = sstp.StatusInfo{AttribID: sstp.AttrCryptoBinding, Status: sstp.StatusValueNotSupported}
	offered := c.quirks.SSTP.hashes()
	if h != sstp.HashSHA1 && h != sstp.HashSHA256 || offered != 0 && offered&h == 0 {
		return c.refusal(refusal), "hash protocol was not offered"
	}
	certHash := certificateHash(h, c.server.certificate.Certificate[0])
	switch mac := compoundMAC(h, c.link.auth.hlak(c.quirks), packet); {
	case subtle.ConstantTimeCompare(packet[bindingNonceAt:bindingCertHashAt], c.call.nonce[:]) == 0:
		fault = "wrong nonce"
	case subtle.ConstantTimeCompare(packet[bindingCertHashAt:bindingMACAt], certHash[:]) == 0:
		fault = "wrong certificate hash"
	case subtle.ConstantTimeCompare(packet[bindingMACAt:callConnectedLen], mac[:]) == 0:
		fault = "wrong compound MAC"
	}
	return c.refusal(refusal), fault
}

func (c *Conn) refusal(s sstp.StatusInfo) sstp.StatusInfo {
	if c.quirks.SSTP.BindingInvalidFrame {
		return sstp.StatusInfo{AttribID: sstp.AttrStatusInfo, Status: sstp.StatusInvalidFrameReceived}
	}
	return s
}

func newHash(h sstp.HashProtocol) func() hash.Hash {
	if h == sstp.HashSHA1 {
		return sha1.New
	}
	return sha256.New
}

// certificateHash is the hash of the leaf, padded with zeros (2.2.7).
func certificateHash(h sstp.HashProtocol, der []byte) (sum [32]byte) {
	d := newHash(h)()
	d.Write(der)
	copy(sum[:], d.Sum(nil))
	return sum
}

// compoundMAC is the MAC of a Call Connected whose own MAC field counts as
// zero, under the key derived from hlak (3.2.5.2.2, 3.2.5.2.3).
func compoundMAC(h sstp.HashProtocol, hlak [32]byte, packet []byte) (sum [32]byte) {
	size := byte(newHash(h)().Size())
	key := hmac.New(newHash(h), hlak[:])
	key.Write(append([]byte("SSTP inner method derived CMK"), size, 0, 1))
	mac := hmac.New(newHash(h), key.Sum(nil))
	mac.Write(packet[:bindingMACAt])
	mac.Write(make([]byte, callConnectedLen-bindingMACAt))
	copy(sum[:], mac.Sum(nil))
	return sum
}

// messageName is a message's name in the words of 2.2.
func messageName(t sstp.MessageType) string {
	names := [...]string{
		"", "Call Connect Request", "Call Connect Ack", "Call Connect Nak", "Call Connected",
		"Call Abort", "Call Disconnect", "Call Disconnect Ack", "Echo Request", "Echo Response",
	}
	if t == 0 || int(t) >= len(names) {
		return fmt.Sprintf("message %#04x", uint16(t))
	}
	return names[t]
}
