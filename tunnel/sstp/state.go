package sstp

import "fmt"

// State is a state of the client's call (3.1.1.1, 3.2.1.1.1). The four states of the
// specification that end in _In_Progress are left in the step that enters
// them and are no values here.
type State uint8

const (
	// ClientCallDisconnected is the zero value: no call yet, or none any
	// more. When the call comes back here, the connection is to be closed.
	ClientCallDisconnected State = iota

	// ClientConnectRequestSent waits for the answer to the Call Connect
	// Request. Data packets are dropped. Negotiation timer.
	ClientConnectRequestSent

	// ClientConnectAckReceived is the time of LCP and authentication. PPP
	// control frames travel, IP does not. Negotiation timer.
	ClientConnectAckReceived

	// ClientCallConnected is the state after our Call Connected. Everything
	// travels. Hello timer.
	ClientCallConnected

	// CallAbortPending waits for the answer to our Call Abort. From here on
	// data packets are dropped. Abort timer 1.
	CallAbortPending

	// CallAbortTimeoutPending lets the last Call Abort reach the server.
	// Abort timer 2.
	CallAbortTimeoutPending

	// CallDisconnectAckPending waits for the answer to our Call Disconnect.
	// Disconnect timer 1.
	CallDisconnectAckPending

	// CallDisconnectTimeoutPending lets our Call Disconnect Ack reach the
	// server. Disconnect timer 2.
	CallDisconnectTimeoutPending

	numStates
)

var stateNames = [numStates]string{
	"ClientCallDisconnected", "ClientConnectRequestSent", "ClientConnectAckReceived", "ClientCallConnected",
	"CallAbortPending", "CallAbortTimeoutPending", "CallDisconnectAckPending", "CallDisconnectTimeoutPending",
}

// String is the name of the state.
func (s State) String() string {
	if s < numStates {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// event is what can happen to a call: a message, a timer, or a word from the
// layer above or below.
type event uint8

const (
	eventAck            event = iota // Call Connect Ack with a usable Crypto Binding Request
	eventAckInvalid                  // Call Connect Ack without
	eventNak                         // Call Connect Nak
	eventAbort                       // Call Abort
	eventDisconnect                  // Call Disconnect
	eventDisconnectAck               // Call Disconnect Ack
	eventEchoRequest                 // Echo Request
	eventEchoResponse                // Echo Response
	eventWrongDirection              // Call Connect Request or Call Connected: only a client sends them
	eventUnknown                     // a message type nobody knows
	eventMalformed                   // a known message whose attributes do not parse
	eventAuthenticated               // PPP authentication succeeded
	eventClose                       // authentication failed, the user stops, or PPP is down
	eventTimer                       // the timer of the state expired
	eventLowerDown                   // end or error of the TLS connection

	numEvents
)

// action is what a call does about an event. Where it says "to", the state
// changes, the timer that ran stops and the one named starts.
type action uint8

const (
	ignore          action = iota
	accept                 // keep nonce and hash, negotiation timer, to ClientConnectAckReceived
	retry                  // resend the Call Connect Request, negotiation timer; after maxNakRetries abort with status 6
	abortUnaccepted        // Call Abort with status 5, abort timer 1, to CallAbortPending
	abortFault             // the same with the status of the fault
	abortTimeout           // the same with status 8
	answerAbort            // Call Abort, abort timer 2, to CallAbortTimeoutPending
	awaitClose             // abort timer 2, to CallAbortTimeoutPending
	ackDisconnect          // Call Disconnect Ack, disconnect timer 2, to CallDisconnectTimeoutPending
	answerEcho             // Echo Response
	connect                // Call Connected, hello timer, to ClientCallConnected
	disconnect             // Call Disconnect, disconnect timer 1, to CallDisconnectAckPending
	hello                  // Echo Request, hello timer; clearCall if there was no sign of life since the last one
	clearCall              // to ClientCallDisconnected, nothing is sent
)

// transitions is the whole state machine of 3.1.5 and 3.2.5, one row for each
// event and one column for each state, in the order of the constants. What a
// packet does beside its row, whatever it is: in ClientCallConnected it
// restarts the hello timer (3.1.2.3).
//
// Two cells are milder than the specification: an Echo Request between Call
// Connect Ack and Call Connected is answered, because who sends one then
// expects it, and an unknown message does not end a connected call. The expiry
// of the hello timer follows the prose of 3.1.2.3, which forbids the Call Abort
// that figure 4 draws.
var transitions = [numEvents][numStates]action{
	//                   disconnected, request sent, ack received, connected, abort pending, abort timeout pending, disconnect ack pending, disconnect timeout pending
	eventAck:            {ignore, accept, abortUnaccepted, abortUnaccepted, ignore, ignore, ignore, ignore},
	eventAckInvalid:     {ignore, abortFault, abortUnaccepted, abortUnaccepted, ignore, ignore, ignore, ignore},
	eventNak:            {ignore, retry, abortUnaccepted, abortUnaccepted, ignore, ignore, ignore, ignore},
	eventAbort:          {ignore, answerAbort, answerAbort, answerAbort, awaitClose, ignore, answerAbort, ignore},
	eventDisconnect:     {ignore, ackDisconnect, ackDisconnect, ackDisconnect, ignore, ignore, ackDisconnect, ignore},
	eventDisconnectAck:  {ignore, abortUnaccepted, abortUnaccepted, abortUnaccepted, ignore, ignore, clearCall, ignore},
	eventEchoRequest:    {ignore, abortUnaccepted, answerEcho, answerEcho, ignore, ignore, ignore, ignore},
	eventEchoResponse:   {ignore, abortUnaccepted, abortUnaccepted, ignore, ignore, ignore, ignore, ignore},
	eventWrongDirection: {ignore, abortUnaccepted, abortUnaccepted, abortUnaccepted, ignore, ignore, ignore, ignore},
	eventUnknown:        {ignore, abortFault, abortFault, ignore, ignore, ignore, ignore, ignore},
	eventMalformed:      {ignore, abortFault, abortFault, abortFault, ignore, ignore, ignore, ignore},
	eventAuthenticated:  {ignore, ignore, connect, ignore, ignore, ignore, ignore, ignore},
	eventClose:          {ignore, disconnect, disconnect, disconnect, ignore, ignore, ignore, ignore},
	eventTimer:          {ignore, abortTimeout, abortTimeout, hello, clearCall, clearCall, clearCall, clearCall},
	eventLowerDown:      {ignore, clearCall, clearCall, clearCall, clearCall, clearCall, clearCall, clearCall},
}
