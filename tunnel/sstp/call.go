package sstp

import (
	"fmt"
	"time"
)

// ReplyTimeout is how long to wait for the reply to the HTTPS request. The
// specification names no value; it is that of the negotiation timer.
const ReplyTimeout = 60 * time.Second

const (
	negotiationTimeout   = 60 * time.Second // 3.2.2.1
	defaultHelloInterval = 60 * time.Second // 3.1.2.3
	abortTimeout1        = 3 * time.Second  // 3.1.2.1: our Call Abort is unanswered
	abortTimeout2        = 1 * time.Second  // 3.1.2.1: both sides aborted
	disconnectTimeout1   = 5 * time.Second  // 3.1.2.2: our Call Disconnect is unanswered
	disconnectTimeout2   = 1 * time.Second  // 3.1.2.2: we acknowledged one

	// maxNakRetries is how often a refused Call Connect Request is repeated,
	// three times as in Windows (3.2.5.3.3, appendix A note <10>).
	maxNakRetries = 3

	// maxPending bounds the packets that wait for Pending: beyond it an Echo
	// Request gets no answer, so that a flood of them costs no memory.
	maxPending = 16
)

// CallConfig is what a [Call] needs to know beforehand.
type CallConfig struct {
	// Certificate is the DER of the server's leaf certificate as TLS
	// delivered it. It is kept and must not change.
	Certificate []byte

	// HelloInterval is the time without any packet after which an Echo Request
	// is sent, and as much again after which the call is given up. 0 means
	// 60 s (3.1.2.3).
	HelloInterval time.Duration
}

// Call is the client's state machine of one call, from the Call Connect
// Request to the end of the connection (3.1, 3.2). It is driven with packets
// and times and answers with its state, with packets to send and with the time
// it wants to be called next. It must not be used by two goroutines at once.
//
// After each call of a method, send what [Call.Pending] returns, and close the
// connection if [Call.Done] says so. Time must not run backwards.
type Call struct {
	cfg      CallConfig
	state    State
	deadline time.Time // when the one timer of the state expires; zero: none runs
	pending  [][]byte
	err      error // why the call ends or ended; the first cause stays

	naks      int           // Call Connect Naks received
	binding   CryptoBinding // hash and nonce of the Call Connect Ack
	connected time.Time     // when Call Connected was queued
	asked     bool          // an Echo Request was sent since the last sign of life
}

// NewCall returns a call in [ClientCallDisconnected] that waits for
// [Call.Start].
func NewCall(cfg CallConfig) *Call {
	if cfg.HelloInterval <= 0 {
		cfg.HelloInterval = defaultHelloInterval
	}
	return &Call{cfg: cfg}
}

// Start begins the call after the server's 200: it queues the Call Connect
// Request (3.2.4.1). A call that began or ended already stays as it is.
func (c *Call) Start(now time.Time) {
	if c.state != ClientCallDisconnected || c.err != nil {
		return
	}
	c.send(callConnectRequestMessage())
	c.enter(now, ClientConnectRequestSent, negotiationTimeout)
}

// Receive handles the payload of a control packet, which it borrows. It is a
// sign of life too; [Call.Heard] is not needed for it. What comes of it shows in
// State, Pending and Err, even when the message is malformed.
func (c *Call) Receive(now time.Time, payload []byte) {
	c.Heard(now)
	m, err := ParseMessage(payload)
	c.step(now, classify(m, err))
}

// Heard notes that a packet, data or control, was received at that time.
// Any SSTP packet restarts the hello timer (3.1.2.3); it has to, because
// SoftEther never answers an Echo Request. In states without a hello timer
// nothing happens, nor for a packet that is older than what started the timer:
// telling it twice is no second sign of life.
func (c *Call) Heard(now time.Time) {
	expiry := now.Add(c.cfg.HelloInterval)
	if c.state == ClientCallConnected && !expiry.Before(c.deadline) {
		c.asked = false
		c.deadline = expiry
	}
}

// Authenticated reports that the PPP authentication succeeded: it queues the
// Call Connected, which must go out before any NCP packet. hlak is the
// higher-layer authentication key, all zero after PAP and CHAP-MD5; it is not
// kept. Outside [ClientConnectAckReceived] nothing happens.
func (c *Call) Authenticated(now time.Time, hlak [32]byte) {
	c.step(now, input{event: eventAuthenticated, hlak: hlak})
}

// Disconnect ends the call in order: it queues the Call Disconnect, which is
// allowed during set-up too (3.2.4.2). Err is [ErrClosed] from then on. A call
// that is ending already stays as it is.
func (c *Call) Disconnect(now time.Time) {
	c.step(now, input{event: eventClose, cause: ErrClosed})
}

// LowerDown reports that the connection under the call is gone: err is the
// transport's error, io.EOF or one that wraps [ErrFraming]. The call is Done
// at once and sends nothing more (3.1.5.1). A call that was not ending by then
// ends with [ErrLinkLost], which wraps err.
func (c *Call) LowerDown(now time.Time, err error) {
	cause := fmt.Errorf("%w in state %v", ErrLinkLost, c.state)
	if err != nil {
		cause = fmt.Errorf("%w: %w", cause, err)
	}
	c.step(now, input{event: eventLowerDown, cause: cause})
}

// Advance tells the call the time. It must be called at [Call.NextTimeout] or
// soon after; earlier calls do nothing.
func (c *Call) Advance(now time.Time) {
	if !c.deadline.IsZero() && !now.Before(c.deadline) {
		c.step(now, input{event: eventTimer})
	}
}

// NextTimeout is when [Call.Advance] wants to be called; zero means never.
func (c *Call) NextTimeout() time.Time { return c.deadline }

// Pending returns the packets to send, whole and in order, and forgets them;
// the caller owns the slices.
func (c *Call) Pending() [][]byte {
	p := c.pending
	c.pending = nil
	return p
}

// State is the state of the call.
func (c *Call) State() State { return c.state }

// PassesPPP reports whether PPP control frames (LCP, authentication, NCPs) may
// travel; other data packets are to be dropped, in both directions.
func (c *Call) PassesPPP() bool {
	return c.state == ClientConnectAckReceived || c.state == ClientCallConnected
}

// PassesIP reports whether IP frames may travel.
func (c *Call) PassesIP() bool { return c.state == ClientCallConnected }

// Done reports that the call has ended and the connection is to be closed now.
// It is false before [Call.Start].
func (c *Call) Done() bool { return c.state == ClientCallDisconnected && c.err != nil }

// Hash is the hash protocol of the crypto binding; zero before the Call
// Connect Ack.
func (c *Call) Hash() HashProtocol { return c.binding.Hash }

// Err is why the call ends or has ended, known as soon as the end begins; nil
// before. It is an [*AbortError], a [*DisconnectError] or a [*NakError], or it
// wraps [ErrNegotiationTimeout], [ErrHelloTimeout], [ErrLinkLost] or
// [ErrClosed]. What follows the first cause does not change it.
func (c *Call) Err() error { return c.err }

func (c *Call) send(m Message) { c.pending = append(c.pending, m.Append(nil)) }

// enter changes the state: the timer that ran stops, another one starts.
func (c *Call) enter(now time.Time, s State, timeout time.Duration) {
	c.state = s
	c.deadline = now.Add(timeout)
}

// fail keeps the first cause of the end.
func (c *Call) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}
