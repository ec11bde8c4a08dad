package sstp_test

import (
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"sstproxy/tunnel/sstp"
)

// columns are the states in the order of the table in the tests below.
var columns = []sstp.State{
	sstp.ClientCallDisconnected, sstp.ClientConnectRequestSent, sstp.ClientConnectAckReceived, sstp.ClientCallConnected,
	sstp.CallAbortPending, sstp.CallAbortTimeoutPending, sstp.CallDisconnectAckPending, sstp.CallDisconnectTimeoutPending,
}

// reach is a call in that state, entered at epoch, with nothing pending.
func reach(tb testing.TB, s sstp.State) *sstp.Call {
	tb.Helper()
	c := sstp.NewCall(sstp.CallConfig{Certificate: testCertificate(tb)})
	recv := func(m sstp.Message) { c.Receive(epoch, payload(m)) }
	if s != sstp.ClientCallDisconnected {
		c.Start(epoch)
	}
	if s > sstp.ClientConnectRequestSent {
		recv(ack(sstp.HashSHA256))
	}
	if s > sstp.ClientConnectAckReceived {
		c.Authenticated(epoch, [32]byte{})
	}
	switch s {
	case sstp.CallAbortPending:
		recv(with(sstp.CallDisconnectAck))
	case sstp.CallAbortTimeoutPending:
		recv(with(sstp.CallAbort))
	case sstp.CallDisconnectAckPending:
		c.Disconnect(epoch)
	case sstp.CallDisconnectTimeoutPending:
		recv(with(sstp.CallDisconnect))
	}
	c.Pending()
	if c.State() != s {
		tb.Fatalf("reached %v, want %v", c.State(), s)
	}
	return c
}

// connected is a call in ClientCallConnected.
func connected(tb testing.TB) *sstp.Call {
	tb.Helper()
	return reach(tb, sstp.ClientCallConnected)
}

// outcome is what a cell of the table asks for. The zero value: nothing
// changes, but for the hello timer if the event is a packet.
type outcome struct {
	to    sstp.State
	timer time.Duration // from the event on; 0 with a to means that none runs
	sent  []string
}

func (o outcome) ignores() bool { return o.to == 0 && o.timer == 0 && o.sent == nil }

func aborts(statusInfo string) outcome {
	return outcome{sstp.CallAbortPending, 3 * time.Second, []string{"CallAbort StatusInfo{" + statusInfo + "}"}}
}

var (
	ignored = outcome{}
	// The events that end a call clear it: no timer, nothing sent. The state
	// is the zero State, so sent is not nil to tell it from ignored.
	cleared     = outcome{sstp.ClientCallDisconnected, 0, []string{}}
	abort4      = aborts("VALUE_NOT_SUPPORTED in CryptoBindingRequest")
	abort5      = aborts("UNACCEPTED_FRAME_RECEIVED")
	abort7      = aborts("INVALID_FRAME_RECEIVED")
	abort8      = aborts("NEGOTIATION_TIMEOUT")
	accepted    = outcome{sstp.ClientConnectAckReceived, 60 * time.Second, nil}
	requested   = outcome{sstp.ClientConnectRequestSent, 60 * time.Second, []string{"CallConnectRequest EncapsulatedProtocolID{2 octets}"}}
	abortBack   = outcome{sstp.CallAbortTimeoutPending, time.Second, []string{"CallAbort StatusInfo{NO_ERROR}"}}
	abortSeen   = outcome{sstp.CallAbortTimeoutPending, time.Second, nil}
	discAck     = outcome{sstp.CallDisconnectTimeoutPending, time.Second, []string{"CallDisconnectAck"}}
	echoEarly   = outcome{0, 0, []string{"EchoResponse"}} // state and timer stay
	echoed      = outcome{sstp.ClientCallConnected, 60 * time.Second, []string{"EchoResponse"}}
	hello       = outcome{sstp.ClientCallConnected, 60 * time.Second, []string{"EchoRequest"}}
	connects    = outcome{sstp.ClientCallConnected, 60 * time.Second, []string{"CallConnected CryptoBinding{SHA-256}"}}
	disconnects = outcome{sstp.CallDisconnectAckPending, 5 * time.Second, []string{"CallDisconnect StatusInfo{NO_ERROR}"}}
	restarted   = outcome{sstp.ClientCallConnected, 60 * time.Second, nil}
)

// row is one event with what it does in each state.
type row struct {
	event string
	fire  func(c *sstp.Call, now time.Time)
	want  [8]outcome // in the order of columns
}

func receives(m sstp.Message) func(*sstp.Call, time.Time) {
	return func(c *sstp.Call, now time.Time) { c.Receive(now, payload(m)) }
}

func receivesRaw(b ...byte) func(*sstp.Call, time.Time) {
	return func(c *sstp.Call, now time.Time) { c.Receive(now, b) }
}

var errReset = errors.New("connection reset")

// table is the client's state machine of [MS-SSTP] 3.1.5 and 3.2.5, written
// down a second time from the specification's prose. Columns: disconnected;
// request sent, ack received, connected; abort pending, abort timeout pending;
// disconnect ack pending, disconnect timeout pending.
var table = []row{
	{"Start", (*sstp.Call).Start,
		[8]outcome{requested, ignored, ignored, ignored, ignored, ignored, ignored, ignored}},
	{"Call Connect Ack, valid", receives(ack(sstp.HashSHA256)),
		[8]outcome{ignored, accepted, abort5, abort5, ignored, ignored, ignored, ignored}},
	{"Call Connect Ack, no hash we know", receives(ack(0x80)),
		[8]outcome{ignored, abort4, abort5, abort5, ignored, ignored, ignored, ignored}},
	{"Call Connect Ack, no binding request", receives(with(sstp.CallConnectAck)),
		[8]outcome{ignored, aborts("ATTRIB_NOT_SUPPORTED_IN_MSG in CryptoBindingRequest"), abort5, abort5, ignored, ignored, ignored, ignored}},
	{"Call Connect Ack, binding request too short", receives(with(sstp.CallConnectAck, sstp.Attribute{ID: sstp.AttrCryptoBindingRequest, Value: make([]byte, 35)})),
		[8]outcome{ignored, aborts("ATTRIB_NOT_SUPPORTED_IN_MSG in CryptoBindingRequest"), abort5, abort5, ignored, ignored, ignored, ignored}},
	{"Call Connect Ack, two binding requests", receives(with(sstp.CallConnectAck, ack(2).Attributes[0], ack(2).Attributes[0])),
		[8]outcome{ignored, aborts("DUPLICATE_ATTRIBUTE in CryptoBindingRequest"), abort5, abort5, ignored, ignored, ignored, ignored}},
	{"Call Connect Ack, attribute length 0", receivesRaw(0, 2, 0, 1, 0, 4, 0, 0),
		[8]outcome{ignored, abort7, abort7, abort7, ignored, ignored, ignored, ignored}},
	{"Call Connect Nak", receives(status(sstp.CallConnectNak, 1, sstp.StatusValueNotSupported)),
		[8]outcome{ignored, requested, abort5, abort5, ignored, ignored, ignored, ignored}},
	{"Call Abort", receives(status(sstp.CallAbort, 0, sstp.StatusNegotiationTimeout)),
		[8]outcome{ignored, abortBack, abortBack, abortBack, abortSeen, ignored, abortBack, ignored}},
	{"Call Abort, bare", receives(with(sstp.CallAbort)),
		[8]outcome{ignored, abortBack, abortBack, abortBack, abortSeen, ignored, abortBack, ignored}},
	{"Call Abort, malformed", receivesRaw(0, 5, 0, 1, 0, 2, 0, 3),
		[8]outcome{ignored, abortBack, abortBack, abortBack, abortSeen, ignored, abortBack, ignored}},
	{"Call Disconnect", receives(status(sstp.CallDisconnect, 0, sstp.StatusNoError)),
		[8]outcome{ignored, discAck, discAck, discAck, ignored, ignored, discAck, ignored}},
	{"Call Disconnect, bare", receives(with(sstp.CallDisconnect)),
		[8]outcome{ignored, discAck, discAck, discAck, ignored, ignored, discAck, ignored}},
	{"Call Disconnect, malformed", receivesRaw(0, 6, 0, 9),
		[8]outcome{ignored, discAck, discAck, discAck, ignored, ignored, discAck, ignored}},
	{"Call Disconnect Ack", receives(with(sstp.CallDisconnectAck)),
		[8]outcome{ignored, abort5, abort5, abort5, ignored, ignored, cleared, ignored}},
	{"Echo Request", receives(with(sstp.EchoRequest)),
		[8]outcome{ignored, abort5, echoEarly, echoed, ignored, ignored, ignored, ignored}},
	{"Echo Response", receives(with(sstp.EchoResponse)),
		[8]outcome{ignored, abort5, abort5, restarted, ignored, ignored, ignored, ignored}},
	{"Echo Response, malformed", receivesRaw(0, 9, 0, 1),
		[8]outcome{ignored, abort7, abort7, abort7, ignored, ignored, ignored, ignored}},
	{"Call Connected", receives(sstp.CallConnectedMessage(sstp.CryptoBinding{})),
		[8]outcome{ignored, abort5, abort5, abort5, ignored, ignored, ignored, ignored}},
	{"Call Connect Request", receives(with(sstp.CallConnectRequest)),
		[8]outcome{ignored, abort5, abort5, abort5, ignored, ignored, ignored, ignored}},
	{"unknown message", receives(with(0x00ff)),
		[8]outcome{ignored, abort7, abort7, restarted, ignored, ignored, ignored, ignored}},
	{"message type 0", receives(with(0)),
		[8]outcome{ignored, abort7, abort7, restarted, ignored, ignored, ignored, ignored}},
	{"no message at all", receivesRaw(),
		[8]outcome{ignored, abort7, abort7, restarted, ignored, ignored, ignored, ignored}},
	{"data packet", (*sstp.Call).Heard,
		[8]outcome{ignored, ignored, ignored, restarted, ignored, ignored, ignored, ignored}},
	{"authentication succeeded", func(c *sstp.Call, now time.Time) { c.Authenticated(now, [32]byte{}) },
		[8]outcome{ignored, ignored, connects, ignored, ignored, ignored, ignored, ignored}},
	{"authentication failed, user stop or PPP down", (*sstp.Call).Disconnect,
		[8]outcome{ignored, disconnects, disconnects, disconnects, ignored, ignored, ignored, ignored}},
	{"timer", func(c *sstp.Call, _ time.Time) { c.Advance(c.NextTimeout()) },
		[8]outcome{ignored, abort8, abort8, hello, cleared, cleared, cleared, cleared}},
	{"no timer yet", (*sstp.Call).Advance,
		[8]outcome{ignored, ignored, ignored, ignored, ignored, ignored, ignored, ignored}},
	{"TLS EOF", func(c *sstp.Call, now time.Time) { c.LowerDown(now, io.EOF) },
		[8]outcome{ignored, cleared, cleared, cleared, cleared, cleared, cleared, cleared}},
	{"TLS error", func(c *sstp.Call, now time.Time) { c.LowerDown(now, errReset) },
		[8]outcome{ignored, cleared, cleared, cleared, cleared, cleared, cleared, cleared}},
}

func TestTransitionTable(t *testing.T) {
	for _, r := range table {
		for i, s := range columns {
			t.Run(r.event+"/"+s.String(), func(t *testing.T) { testCell(t, r, s, r.want[i]) })
		}
	}
}

// testCell fires one event a little after the state was entered.
func testCell(t *testing.T, r row, s sstp.State, want outcome) {
	c := reach(t, s)
	now := epoch.Add(500 * time.Millisecond)
	deadline, cause := c.NextTimeout(), c.Err()
	if r.event == "timer" && !deadline.IsZero() {
		now = deadline
	}
	r.fire(c, now)

	keeps := want.ignores() || want.to == 0 && len(want.sent) > 0
	wantState, wantDeadline := want.to, now.Add(want.timer)
	if keeps {
		wantState, wantDeadline = s, deadline
	} else if want.timer == 0 {
		wantDeadline = time.Time{}
	}
	if c.State() != wantState {
		t.Errorf("state %v, want %v", c.State(), wantState)
	}
	if got := c.NextTimeout(); !got.Equal(wantDeadline) {
		t.Errorf("timer at %v, want %v", got.Sub(epoch), wantDeadline.Sub(epoch))
	}
	if got := lines(t, c); !slices.Equal(got, want.sent) {
		t.Errorf("sent %q, want %q", got, want.sent)
	}
	if keeps && c.Err() != cause {
		t.Errorf("cause %v, want %v", c.Err(), cause)
	}
	checkEnd(t, c, cause)
}

// checkEnd checks what is so in every state: who is alive has no cause, who
// ends has one, and the first one stays.
func checkEnd(t *testing.T, c *sstp.Call, before error) {
	t.Helper()
	alive := c.State() <= sstp.ClientCallConnected && c.State() != sstp.ClientCallDisconnected
	if alive && c.Err() != nil {
		t.Errorf("alive in %v with cause %v", c.State(), c.Err())
	}
	if c.State() > sstp.ClientCallConnected && c.Err() == nil {
		t.Errorf("ending in %v without a cause", c.State())
	}
	if before != nil && c.Err() != before {
		t.Errorf("cause changed from %v to %v", before, c.Err())
	}
	if done := c.State() == sstp.ClientCallDisconnected && c.Err() != nil; c.Done() != done {
		t.Errorf("Done() = %v in %v", c.Done(), c.State())
	}
}

// The rows of the table about data packets.
func TestWhatMayTravel(t *testing.T) {
	for _, s := range columns {
		c := reach(t, s)
		wantPPP := s == sstp.ClientConnectAckReceived || s == sstp.ClientCallConnected
		wantIP := s == sstp.ClientCallConnected
		if c.PassesPPP() != wantPPP || c.PassesIP() != wantIP {
			t.Errorf("%v: passes PPP %v, IP %v, want %v, %v", s, c.PassesPPP(), c.PassesIP(), wantPPP, wantIP)
		}
	}
}

// A call that is over stays over, whatever comes.
func TestNothingWakesADoneCall(t *testing.T) {
	for _, r := range table {
		t.Run(r.event, func(t *testing.T) {
			c := connected(t)
			c.LowerDown(epoch, io.EOF)
			cause := c.Err()
			r.fire(c, epoch.Add(time.Hour))
			if !c.Done() || c.Err() != cause || len(c.Pending()) != 0 || !c.NextTimeout().IsZero() {
				t.Errorf("state %v, cause %v, timer %v", c.State(), c.Err(), c.NextTimeout())
			}
		})
	}
}
