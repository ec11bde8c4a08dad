package ppp

import "time"

// Timers and counters of RFC 1661 §4.6, at the RFC's defaults.
const (
	restartTimer = 3 * time.Second
	maxConfigure = 10
	maxTerminate = 2
	maxFailure   = 5
)

// Limits on what a peer can repeat. The RFC has none, so that two honest ends
// with contrary wishes, or one hostile end, could go on for ever.
const (
	// maxExchanges bounds the Configure packets taken from the peer in one
	// negotiation, from the first Request until the protocol is open. Real
	// servers need 3 to 12.
	maxExchanges = 50
	// maxReopens bounds how often a protocol may fall out of Opened with
	// less than reopenWindow between one time and the next.
	maxReopens   = 10
	reopenWindow = time.Minute
	// maxLoops is the number of rounds with equal magic numbers after which
	// the link counts as looped back.
	maxLoops = 10
)

// negotiator is the knowledge of one protocol's options. judge may change what
// it knows of the peer's wishes; only acked puts them in force.
type negotiator interface {
	// request returns the options of our next Configure-Request.
	request() []Option
	// judge decides on a Configure-Request; mayNak is false once Max-Failure
	// is used up, then what would be Nak'd is rejected.
	judge(opts []Option, mayNak bool) (verdict, error)
	// acked is told the Request that we acknowledge.
	acked(opts []Option)
	// nak and reject take the peer's answer to our Request.
	nak(opts []Option) error
	reject(opts []Option) error
}

// verdict is the answer to a Configure-Request: ConfigureAck with all its
// options, ConfigureNak or ConfigureReject with some.
type verdict struct {
	code Code
	opts []Option
}

// decide puts a verdict together: any Reject goes first and alone, then any
// Nak, and an Ack only if there is neither (RFC 1661 §5.2 to §5.4).
func decide(opts, rejects, naks []Option) verdict {
	switch {
	case len(rejects) > 0:
		return verdict{ConfigureReject, rejects}
	case len(naks) > 0:
		return verdict{ConfigureNak, naks}
	}
	return verdict{ConfigureAck, opts}
}

// control is one control protocol, LCP or an NCP: the automaton's state, its
// Restart timer and counter, and both Requests under negotiation.
type control struct {
	proto Protocol
	opts  negotiator
	state state

	count int       // restart counter: transmissions left
	timer time.Time // when the Restart timer fires; zero: stopped

	sent    []Option // our last Configure-Request
	sentID  uint8
	waiting bool // it has no reply yet; replies to anything else are discarded
	heard   bool // the peer answered a Request since the layer came up

	peer  answered
	naks  int // Configure-Naks sent without an Ack, against Max-Failure
	limit limits
	cause error // why an NCP ended; LCP's cause is the link's
}

// answered is the last Configure-Request we answered, and how, so that its
// retransmission gets the same answer and counts for nothing.
type answered struct {
	id    uint8
	opts  []Option
	reply verdict
	known bool
}

func (a *answered) is(id uint8, opts []Option) bool {
	return a.known && a.id == id && EqualOptions(a.opts, opts)
}

// limits counts what the peer repeats.
type limits struct {
	exchanges int
	reopens   int
	reopened  time.Time // the last time
}

// exchange counts a Configure packet of the peer; false means too many.
func (l *limits) exchange() bool {
	l.exchanges++
	return l.exchanges <= maxExchanges
}

// reopen counts a fall out of Opened; false means too many in a row.
func (l *limits) reopen(now time.Time) bool {
	if now.Sub(l.reopened) > reopenWindow {
		l.reopens = 0
	}
	l.reopens++
	l.reopened = now
	return l.reopens <= maxReopens
}

// subset reports whether each rejected option is, octet for octet, one of our
// Request (RFC 1661 §5.4), and that there is any.
func (c *control) subset(rejected []Option) bool {
	for _, r := range rejected {
		if !containsOption(c.sent, r) {
			return false
		}
	}
	return len(rejected) > 0
}

func containsOption(opts []Option, o Option) bool {
	for _, p := range opts {
		if p.Equal(o) {
			return true
		}
	}
	return false
}

// knows reports whether the protocol has the code (RFC 1661 §5): the NCPs stop
// at Code-Reject, LCP goes on to Time-Remaining (RFC 1570).
func (c *control) knows(code Code) bool {
	if c.proto == ProtoLCP {
		return code >= ConfigureRequest && code <= TimeRemaining
	}
	return code >= ConfigureRequest && code <= CodeReject
}
