package sstp

import (
	"errors"
	"fmt"
	"time"
)

// input is an event with what belongs to it.
type input struct {
	event   event
	message Message       // of a message
	binding CryptoBinding // hash and nonce of a usable Call Connect Ack
	fault   StatusInfo    // what to say in a Call Abort about it
	cause   error         // why the call ends by this event
	hlak    [32]byte      // of eventAuthenticated
}

// classify tells which event a message is. A message that ends the call does so
// even when its attributes are malformed.
func classify(m Message, err error) input {
	in := input{message: m, cause: err, fault: StatusInfo{Status: StatusInvalidFrameReceived}}
	switch {
	case m.Type == CallAbort:
		in.event = eventAbort
	case m.Type == CallDisconnect:
		in.event = eventDisconnect
	case m.Type == CallDisconnectAck:
		in.event = eventDisconnectAck
	case m.Type == 0 || m.Type > EchoResponse:
		in.event = eventUnknown
		in.cause = fmt.Errorf("sstp: %v received", m.Type)
	case err != nil:
		in.event = eventMalformed
	case m.Type == CallConnectAck:
		in = classifyAck(in)
	case m.Type == CallConnectNak:
		in.event = eventNak
	case m.Type == EchoRequest:
		in.event = eventEchoRequest
	case m.Type == EchoResponse:
		in.event = eventEchoResponse
	default: // Call Connect Request, Call Connected
		in.event = eventWrongDirection
	}
	return in
}

var (
	errNoBinding   = errors.New("sstp: call connect ack: no crypto binding request")
	errTwoBindings = errors.New("sstp: call connect ack: more than one crypto binding request")
	errNoHash      = errors.New("sstp: call connect ack: no known hash protocol offered")
)

// classifyAck judges the Crypto Binding Request of a Call Connect Ack
// (3.2.5.3.2). Other attributes are passed over.
func classifyAck(in input) input {
	value, _ := in.message.Attribute(AttrCryptoBindingRequest)
	request, err := ParseCryptoBindingRequest(value)
	hash, known := ChooseHash(request.Hashes)
	n := in.message.count(AttrCryptoBindingRequest)
	in.event = eventAckInvalid
	in.fault.AttribID = AttrCryptoBindingRequest
	switch {
	case n == 0:
		in.fault.Status, in.cause = StatusAttribNotSupportedInMsg, errNoBinding
	case n > 1:
		in.fault.Status, in.cause = StatusDuplicateAttribute, errTwoBindings
	case err != nil:
		in.fault.Status, in.cause = StatusAttribNotSupportedInMsg, fmt.Errorf("sstp: call connect ack: %w", err)
	case !known:
		in.fault.Status, in.cause = StatusValueNotSupported, fmt.Errorf("%w: %v", errNoHash, request.Hashes)
	default:
		in.event = eventAck
		in.binding = CryptoBinding{Hash: hash, Nonce: request.Nonce}
	}
	return in
}

// step does what the table says.
func (c *Call) step(now time.Time, in input) {
	switch transitions[in.event][c.state] {
	case ignore:
	case accept:
		c.binding = in.binding
		c.enter(now, ClientConnectAckReceived, negotiationTimeout)
	case retry:
		c.retry(now, in.message.statusInfos())
	case abortUnaccepted:
		in.cause = fmt.Errorf("sstp: %v received", in.message.Type)
		in.fault = StatusInfo{Status: StatusUnacceptedFrameReceived}
		c.abortWith(now, in)
	case abortFault:
		c.abortWith(now, in)
	case abortTimeout:
		c.fail(fmt.Errorf("%w in state %v", ErrNegotiationTimeout, c.state))
		c.abort(now, StatusInfo{Status: StatusNegotiationTimeout})
	case answerAbort:
		c.fail(c.abortedByPeer(now, in.message))
		c.send(Message{CallAbort, []Attribute{StatusInfo{}.Attribute()}})
		c.enter(now, CallAbortTimeoutPending, abortTimeout2)
	case awaitClose:
		c.enter(now, CallAbortTimeoutPending, abortTimeout2)
	case ackDisconnect:
		info, ok := in.message.StatusInfo()
		c.fail(&DisconnectError{Info: info.clone(), HasInfo: ok, State: c.state})
		c.send(Message{Type: CallDisconnectAck})
		c.enter(now, CallDisconnectTimeoutPending, disconnectTimeout2)
	case answerEcho:
		if len(c.pending) < maxPending {
			c.send(Message{Type: EchoResponse})
		}
	case connect:
		c.connect(now, in.hlak)
	case disconnect:
		c.fail(in.cause)
		c.send(Message{CallDisconnect, []Attribute{StatusInfo{}.Attribute()}})
		c.enter(now, CallDisconnectAckPending, disconnectTimeout1)
	case hello:
		c.hello(now)
	case clearCall:
		c.fail(in.cause)
		c.clear()
	}
}

// retry repeats the request that was refused (3.2.5.3.3). There is nothing in
// it that could be changed.
func (c *Call) retry(now time.Time, infos []StatusInfo) {
	c.naks++
	if c.naks <= maxNakRetries {
		c.send(callConnectRequestMessage())
		c.enter(now, ClientConnectRequestSent, negotiationTimeout)
		return
	}
	for i := range infos {
		infos[i] = infos[i].clone()
	}
	c.fail(&NakError{Infos: infos})
	c.abort(now, StatusInfo{Status: StatusRetryCountExceeded})
}

// abortWith aborts because of what the server sent.
func (c *Call) abortWith(now time.Time, in input) {
	e := &AbortError{Info: in.fault, HasInfo: true, State: c.state, Cause: in.cause}
	c.dateAbort(now, e)
	c.fail(e)
	c.abort(now, in.fault)
}

func (c *Call) abort(now time.Time, info StatusInfo) {
	c.send(Message{CallAbort, []Attribute{info.Attribute()}})
	c.enter(now, CallAbortPending, abortTimeout1)
}

func (c *Call) abortedByPeer(now time.Time, m Message) *AbortError {
	info, ok := m.StatusInfo()
	e := &AbortError{ByPeer: true, Info: info.clone(), HasInfo: ok, State: c.state}
	c.dateAbort(now, e)
	return e
}

func (c *Call) dateAbort(now time.Time, e *AbortError) {
	if e.State == ClientCallConnected {
		e.AfterConnected = true
		e.SinceConnected = now.Sub(c.connected)
	}
}

// connect sends the crypto binding (3.2.5.2). The negotiation timer has no end
// in the prose of the specification; it ends here.
func (c *Call) connect(now time.Time, hlak [32]byte) {
	b := c.binding
	b.CertHash = CertificateHash(b.Hash, c.cfg.Certificate)
	c.send(CallConnectedMessage(b.Sign(hlak)))
	c.connected = now
	c.enter(now, ClientCallConnected, c.cfg.HelloInterval)
}

// hello asks for a sign of life, once. When there was none the connection is
// closed without a Call Abort, which could not arrive (3.1.2.3).
func (c *Call) hello(now time.Time) {
	if c.asked {
		c.fail(ErrHelloTimeout)
		c.clear()
		return
	}
	c.asked = true
	c.send(Message{Type: EchoRequest})
	c.deadline = now.Add(c.cfg.HelloInterval)
}

// clear ends the call. Nothing is sent any more.
func (c *Call) clear() {
	c.state = ClientCallDisconnected
	c.deadline = time.Time{}
	c.pending = nil
}
