package sstp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"sstproxy/tunnel/sstp"
)

// script drives a call in virtual time, like a transcript.
type script struct {
	t   *testing.T
	c   *sstp.Call
	now time.Time
}

func newScript(t *testing.T, cfg sstp.CallConfig) *script {
	s := &script{t, sstp.NewCall(cfg), epoch}
	s.c.Start(s.now)
	s.want("CallConnectRequest EncapsulatedProtocolID{2 octets}")
	return s
}

// connect brings the call to ClientCallConnected.
func (s *script) connect() {
	s.t.Helper()
	s.recv(ack(sstp.HashSHA256))
	s.c.Authenticated(s.now, [32]byte{})
	s.want("CallConnected CryptoBinding{SHA-256}")
}

func (s *script) recv(m sstp.Message) { s.c.Receive(s.now, payload(m)) }

// pass lets time pass, calling Advance whenever the call wants it and at the end.
func (s *script) pass(d time.Duration) {
	end := s.now.Add(d)
	for next := s.c.NextTimeout(); !next.IsZero() && !next.After(end); next = s.c.NextTimeout() {
		s.now = next
		s.c.Advance(s.now)
	}
	s.now = end
	s.c.Advance(s.now)
}

func (s *script) want(sent ...string) {
	s.t.Helper()
	if got := lines(s.t, s.c); !slices.Equal(got, sent) {
		s.t.Errorf("at %v sent %q, want %q", s.now.Sub(epoch), got, sent)
	}
}

func (s *script) wantState(want sstp.State) {
	s.t.Helper()
	if s.c.State() != want {
		s.t.Errorf("at %v state %v, want %v", s.now.Sub(epoch), s.c.State(), want)
	}
}

func (s *script) wantErr(want error) {
	s.t.Helper()
	if !errors.Is(s.c.Err(), want) {
		s.t.Errorf("cause %v, want %v", s.c.Err(), want)
	}
}

const (
	request = "CallConnectRequest EncapsulatedProtocolID{2 octets}"
	retries = 3
)

// The whole exchange of each vector, octet by octet.
func TestCallConnectedVectors(t *testing.T) {
	der := testCertificate(t)
	for id, v := range bindingVectors(t) {
		if len(v.in.Ack) > 0 {
			continue // 4.7 does not publish the certificate
		}
		t.Run(id, func(t *testing.T) {
			c := sstp.NewCall(sstp.CallConfig{Certificate: der})
			c.Start(epoch)
			if got := c.Pending(); len(got) != 1 || !bytes.Equal(got[0], packetNamed(t, "CallConnectRequest")) {
				t.Fatalf("sent %x", got)
			}
			ack := packetNamed(t, map[string]string{"SHA1": "CallConnectAck sha1", "SHA256": "CallConnectAck both"}[v.in.Hash])
			c.Receive(epoch, ack[sstp.HeaderLen:])
			if c.Hash() != v.hash() {
				t.Errorf("hash %v, want %v", c.Hash(), v.hash())
			}
			c.Authenticated(epoch, v.hlak())
			if got := c.Pending(); len(got) != 1 || !bytes.Equal(got[0], v.out.CallConnected) {
				t.Errorf("sent %x, want %x", got, v.out.CallConnected)
			}
		})
	}
}

// The packets of 4.7 that need no certificate.
func TestPublishedExchange(t *testing.T) {
	for id, v := range bindingVectors(t) {
		if len(v.in.Ack) == 0 {
			continue
		}
		c := sstp.NewCall(sstp.CallConfig{})
		c.Start(epoch)
		if got := c.Pending(); len(got) != 1 || !bytes.Equal(got[0], v.in.Request) {
			t.Errorf("%s: sent %x, want %x", id, got, v.in.Request)
		}
		c.Receive(epoch, v.in.Ack[sstp.HeaderLen:])
		if c.State() != sstp.ClientConnectAckReceived || c.Hash() != v.hash() {
			t.Errorf("%s: state %v, hash %v", id, c.State(), c.Hash())
		}
		c.Authenticated(epoch, v.hlak())
		sent := c.Pending()
		value, _ := parse(t, sent[0]).Attribute(sstp.AttrCryptoBinding)
		if b, err := sstp.ParseCryptoBinding(value); err != nil || b.Nonce != [32]byte(v.in.Nonce) || !b.Verify(v.hlak()) {
			t.Errorf("%s: binding %v, %v", id, b, err)
		}
	}
}

func TestAckHashes(t *testing.T) {
	for _, test := range []struct{ offered, want sstp.HashProtocol }{
		{0, sstp.HashSHA256}, // sorz without a certificate
		{sstp.HashSHA1, sstp.HashSHA1},
		{sstp.HashSHA256, sstp.HashSHA256},
		{sstp.HashSHA1 | sstp.HashSHA256, sstp.HashSHA256},
		{0xf1, sstp.HashSHA1},
		{0xf2, sstp.HashSHA256},
	} {
		s := newScript(t, sstp.CallConfig{})
		s.recv(ack(test.offered))
		s.wantState(sstp.ClientConnectAckReceived)
		if s.c.Hash() != test.want {
			t.Errorf("offered %v: got %v, want %v", test.offered, s.c.Hash(), test.want)
		}
	}
}

func TestAckWithUnknownAttributes(t *testing.T) {
	s := newScript(t, sstp.CallConfig{})
	unknown := sstp.Attribute{ID: 0x7f, Value: []byte("?")}
	s.recv(with(sstp.CallConnectAck, unknown, ack(2).Attributes[0], unknown))
	s.wantState(sstp.ClientConnectAckReceived)
}

func TestNakRetries(t *testing.T) {
	s := newScript(t, sstp.CallConfig{})
	nak := parse(t, packetNamed(t, "CallConnectNak bad encapsulated protocol"))
	for range retries {
		s.pass(59 * time.Second) // each retry restarts the negotiation timer
		s.recv(nak)
		s.want(request)
		s.wantState(sstp.ClientConnectRequestSent)
	}
	wire := payload(nak)
	s.c.Receive(s.now, wire)
	clear(wire) // the cause keeps nothing of it
	s.want("CallAbort StatusInfo{RETRY_COUNT_EXCEEDED}")
	s.wantState(sstp.CallAbortPending)
	var refused *sstp.NakError
	if !errors.As(s.c.Err(), &refused) || len(refused.Infos) != 1 || !bytes.Equal(refused.Infos[0].Value, []byte{0, 2}) {
		t.Fatalf("cause %v", s.c.Err())
	}
	const want = "sstp: call connect request refused by the server: VALUE_NOT_SUPPORTED in EncapsulatedProtocolID (a value was refused)"
	if got := s.c.Err().Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.pass(3 * time.Second)
	if !s.c.Done() {
		t.Error("not done after abort timer 1")
	}
}

func TestNakRetriesThenAck(t *testing.T) {
	s := newScript(t, sstp.CallConfig{})
	for range retries {
		s.recv(with(sstp.CallConnectNak))
		s.want(request)
	}
	s.recv(ack(2))
	s.wantState(sstp.ClientConnectAckReceived)
}

func TestNakWithoutReasons(t *testing.T) {
	s := newScript(t, sstp.CallConfig{})
	for range retries + 1 {
		s.recv(with(sstp.CallConnectNak, sstp.Attribute{ID: 9}, sstp.Attribute{ID: sstp.AttrStatusInfo}))
	}
	if got, want := s.c.Err().Error(), "sstp: call connect request refused by the server: no reason given"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNegotiationTimer(t *testing.T) {
	t.Run("request unanswered", func(t *testing.T) {
		s := newScript(t, sstp.CallConfig{})
		s.pass(60*time.Second - 1)
		s.want()
		s.pass(1)
		s.want("CallAbort StatusInfo{NEGOTIATION_TIMEOUT}")
		s.wantErr(sstp.ErrNegotiationTimeout)
	})
	t.Run("begins again with the ack", func(t *testing.T) {
		s := newScript(t, sstp.CallConfig{})
		s.pass(50 * time.Second)
		s.recv(ack(2))
		s.pass(60*time.Second - 1)
		s.want()
		s.wantState(sstp.ClientConnectAckReceived)
		s.pass(1)
		s.want("CallAbort StatusInfo{NEGOTIATION_TIMEOUT}")
	})
	t.Run("data does not restart it", func(t *testing.T) {
		s := newScript(t, sstp.CallConfig{})
		s.recv(ack(2))
		s.pass(59 * time.Second)
		s.c.Heard(s.now)
		s.recv(with(sstp.EchoRequest))
		s.want("EchoResponse")
		s.pass(time.Second)
		s.want("CallAbort StatusInfo{NEGOTIATION_TIMEOUT}")
	})
	t.Run("ends with Call Connected", func(t *testing.T) {
		s := newScript(t, sstp.CallConfig{HelloInterval: time.Hour})
		s.pass(59 * time.Second)
		s.connect()
		s.pass(59 * time.Minute)
		s.want()
		s.wantState(sstp.ClientCallConnected)
	})
}

func TestHelloExpiryClosesWithoutAbort(t *testing.T) {
	s := newScript(t, sstp.CallConfig{})
	s.connect()
	s.pass(60*time.Second - 1)
	s.want()
	s.pass(1)
	s.want("EchoRequest")
	s.pass(60*time.Second - 1)
	s.want()
	s.wantState(sstp.ClientCallConnected)
	s.pass(1)
	s.want()
	s.wantErr(sstp.ErrHelloTimeout)
	if !s.c.Done() {
		t.Error("not done")
	}
}

// SoftEther never answers an Echo Request; data is its only sign of life.
func TestHelloIsRestartedByAnyPacket(t *testing.T) {
	for name, sign := range map[string]func(*script){
		"data packet":     func(s *script) { s.c.Heard(s.now) },
		"Echo Response":   func(s *script) { s.recv(with(sstp.EchoResponse)) },
		"Echo Request":    func(s *script) { s.recv(with(sstp.EchoRequest)); s.want("EchoResponse") },
		"unknown message": func(s *script) { s.recv(with(0x4242)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, sstp.CallConfig{HelloInterval: 10 * time.Second})
			s.connect()
			for range 5 {
				s.pass(19 * time.Second)
				s.want("EchoRequest")
				sign(s)
			}
			for range 5 {
				s.pass(9 * time.Second)
				sign(s)
				s.want()
			}
			s.wantState(sstp.ClientCallConnected)
			s.pass(20 * time.Second)
			s.want()
			s.wantErr(sstp.ErrHelloTimeout)
		})
	}
}

// The time of the last packet may be told again and again: it is older than the
// Echo Request and no answer to it.
func TestHelloIsNotRestartedByOldNews(t *testing.T) {
	s := newScript(t, sstp.CallConfig{})
	s.connect()
	s.pass(10 * time.Second)
	last := s.now
	s.c.Heard(last)
	for range 24 {
		s.pass(5*time.Second - 1)
		s.c.Heard(last)
		s.pass(1)
		if s.now.Sub(last) == 60*time.Second {
			s.want("EchoRequest")
		} else {
			s.want()
		}
	}
	s.wantErr(sstp.ErrHelloTimeout)
}

// After a suspend the clock has jumped over several intervals: that is one
// expiry, not two.
func TestHelloAfterAJumpOfTheClock(t *testing.T) {
	s := newScript(t, sstp.CallConfig{})
	s.connect()
	s.now = s.now.Add(8 * time.Hour)
	s.c.Advance(s.now)
	s.want("EchoRequest")
	s.recv(with(sstp.EchoResponse))
	s.wantState(sstp.ClientCallConnected)
}

// accel-ppp and sorz abort when they get an Echo Request too early.
func TestNoEchoRequestBeforeCallConnected(t *testing.T) {
	for _, state := range []sstp.State{sstp.ClientConnectRequestSent, sstp.ClientConnectAckReceived} {
		c := reach(t, state)
		for now := epoch; !c.Done(); now = now.Add(time.Second) {
			c.Heard(now)
			c.Advance(now)
			if slices.Contains(lines(t, c), "EchoRequest") {
				t.Errorf("%v: Echo Request after %v", state, now.Sub(epoch))
			}
		}
	}
}

func TestEchoFloodIsBounded(t *testing.T) {
	c := connected(t)
	for range 10000 {
		c.Receive(epoch, payload(with(sstp.EchoRequest)))
	}
	if n := len(c.Pending()); n == 0 || n > 16 {
		t.Errorf("%d packets pending, want 1 to 16", n)
	}
	c.Receive(epoch, payload(with(sstp.EchoRequest)))
	if got := lines(t, c); !slices.Equal(got, []string{"EchoResponse"}) {
		t.Errorf("after the flood sent %q", got)
	}
}

func TestAbortByPeer(t *testing.T) {
	for _, test := range []struct {
		name, packet, want string
	}{
		{"bare", "CallAbort bare (SoftEther)", "sstp: call aborted by the server in state ClientCallConnected: no reason given"},
		{"four octets", "CallAbort short status (sorz)", "sstp: call aborted by the server in state ClientCallConnected: UNACCEPTED_FRAME_RECEIVED (a message is not allowed in this state)"},
		{"binding", "CallAbort binding mismatch", "sstp: call aborted by the server in state ClientCallConnected: VALUE_NOT_SUPPORTED in CryptoBinding (the crypto binding does not match)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScript(t, sstp.CallConfig{})
			s.connect()
			s.pass(2 * time.Second)
			s.c.Receive(s.now, packetNamed(t, test.packet)[sstp.HeaderLen:])
			s.want("CallAbort StatusInfo{NO_ERROR}")
			var abort *sstp.AbortError
			if !errors.As(s.c.Err(), &abort) || !abort.ByPeer || abort.Cause != nil ||
				!abort.AfterConnected || abort.SinceConnected != 2*time.Second {
				t.Fatalf("cause %+v", s.c.Err())
			}
			if got := abort.Error(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			s.pass(time.Second)
			if !s.c.Done() {
				t.Error("not done after abort timer 2")
			}
		})
	}
}

func TestBindingRefused(t *testing.T) {
	for _, test := range []struct {
		name    string
		abort   sstp.Message
		elapsed time.Duration
		want    bool
	}{
		{"Windows", status(sstp.CallAbort, sstp.AttrCryptoBinding, sstp.StatusValueNotSupported), time.Second, true},
		{"Windows, late", status(sstp.CallAbort, sstp.AttrCryptoBinding, sstp.StatusValueNotSupported), time.Minute, true},
		{"Windows, attribute missing", status(sstp.CallAbort, sstp.AttrStatusInfo, sstp.StatusAttribNotSupportedInMsg), 0, true},
		{"accel-ppp", status(sstp.CallAbort, sstp.AttrStatusInfo, sstp.StatusInvalidFrameReceived), 100 * time.Millisecond, true},
		{"accel-ppp, late", status(sstp.CallAbort, sstp.AttrStatusInfo, sstp.StatusInvalidFrameReceived), 6 * time.Second, false},
		{"SoftEther", with(sstp.CallAbort), time.Second, false},
		{"another status", status(sstp.CallAbort, 0, sstp.StatusUnacceptedFrameReceived), time.Second, false},
		{"our own abort", with(sstp.CallDisconnectAck), time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScript(t, sstp.CallConfig{})
			s.connect()
			s.pass(test.elapsed)
			s.recv(test.abort)
			var abort *sstp.AbortError
			if !errors.As(s.c.Err(), &abort) || abort.BindingRefused() != test.want {
				t.Errorf("%v: BindingRefused is not %v", s.c.Err(), test.want)
			}
		})
	}
	before := reach(t, sstp.ClientConnectAckReceived)
	before.Receive(epoch, payload(status(sstp.CallAbort, sstp.AttrCryptoBinding, sstp.StatusValueNotSupported)))
	var abort *sstp.AbortError
	if !errors.As(before.Err(), &abort) || abort.BindingRefused() || abort.AfterConnected {
		t.Errorf("before Call Connected: %+v", before.Err())
	}
}

func TestOurAbort(t *testing.T) {
	for _, test := range []struct {
		name  string
		state sstp.State
		in    []byte
		want  string
	}{
		{"unaccepted", sstp.ClientConnectAckReceived, payload(with(sstp.EchoResponse)),
			"sstp: call aborted in state ClientConnectAckReceived: UNACCEPTED_FRAME_RECEIVED (a message is not allowed in this state): EchoResponse received"},
		{"unknown", sstp.ClientConnectAckReceived, payload(with(0xff)),
			"sstp: call aborted in state ClientConnectAckReceived: INVALID_FRAME_RECEIVED (a message is unknown or malformed): MessageType(0x00ff) received"},
		{"malformed", sstp.ClientConnectRequestSent, []byte{0, 2, 0, 1, 0, 4, 0, 3},
			"sstp: call aborted in state ClientConnectRequestSent: INVALID_FRAME_RECEIVED (a message is unknown or malformed): CallConnectAck: attribute 1 of 1: CryptoBindingRequest: length 3, want 4 to 4: malformed message"},
		{"no hash", sstp.ClientConnectRequestSent, payload(ack(0x10)),
			"sstp: call aborted in state ClientConnectRequestSent: VALUE_NOT_SUPPORTED in CryptoBindingRequest (a value was refused): call connect ack: no known hash protocol offered: HashProtocol(0x10)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := reach(t, test.state)
			c.Receive(epoch, test.in)
			var abort *sstp.AbortError
			if !errors.As(c.Err(), &abort) || abort.ByPeer || abort.State != test.state || !abort.HasInfo {
				t.Fatalf("cause %+v", c.Err())
			}
			if got := abort.Error(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if errors.Is(abort, sstp.ErrMalformed) != (test.name == "malformed") {
				t.Errorf("%v: ErrMalformed", abort)
			}
		})
	}
}

// Both sides abort at once: each takes the other's Abort for the answer.
func TestAbortsCross(t *testing.T) {
	s := newScript(t, sstp.CallConfig{})
	s.connect()
	s.recv(with(sstp.CallDisconnectAck))
	s.want("CallAbort StatusInfo{UNACCEPTED_FRAME_RECEIVED}")
	s.pass(2 * time.Second)
	s.recv(with(sstp.CallAbort))
	s.want()
	s.pass(time.Second - 1)
	s.wantState(sstp.CallAbortTimeoutPending)
	s.pass(1)
	if !s.c.Done() {
		t.Error("not done")
	}
}

func TestDisconnect(t *testing.T) {
	t.Run("acknowledged", func(t *testing.T) {
		s := newScript(t, sstp.CallConfig{})
		s.connect()
		s.c.Disconnect(s.now)
		s.want("CallDisconnect StatusInfo{NO_ERROR}")
		s.wantErr(sstp.ErrClosed)
		s.recv(with(sstp.CallDisconnectAck))
		s.want()
		if !s.c.Done() {
			t.Error("not done")
		}
	})
	t.Run("not acknowledged", func(t *testing.T) {
		s := newScript(t, sstp.CallConfig{})
		s.c.Disconnect(s.now)
		s.want("CallDisconnect StatusInfo{NO_ERROR}")
		s.pass(5*time.Second - 1)
		s.wantState(sstp.CallDisconnectAckPending)
		s.pass(1)
		if !s.c.Done() {
			t.Error("not done")
		}
		s.wantErr(sstp.ErrClosed)
	})
	t.Run("crossing", func(t *testing.T) {
		s := newScript(t, sstp.CallConfig{})
		s.connect()
		s.c.Disconnect(s.now)
		s.want("CallDisconnect StatusInfo{NO_ERROR}")
		s.recv(with(sstp.CallDisconnect))
		s.want("CallDisconnectAck")
		s.recv(with(sstp.CallDisconnectAck))
		s.wantState(sstp.CallDisconnectTimeoutPending)
		s.pass(time.Second)
		if !s.c.Done() {
			t.Error("not done")
		}
		s.wantErr(sstp.ErrClosed)
	})
}

func TestDisconnectByPeer(t *testing.T) {
	for _, test := range []struct {
		m    sstp.Message
		want string
	}{
		{with(sstp.CallDisconnect), "sstp: call disconnected by the server in state ClientCallConnected: no reason given"},
		{status(sstp.CallDisconnect, 0, 0), "sstp: call disconnected by the server in state ClientCallConnected: NO_ERROR (normal end)"},
		{with(sstp.CallDisconnect, sstp.Attribute{Value: []byte{0, 0, 0, 7}}),
			"sstp: call disconnected by the server in state ClientCallConnected: INVALID_FRAME_RECEIVED (a message is unknown or malformed)"},
	} {
		s := newScript(t, sstp.CallConfig{})
		s.connect()
		s.recv(test.m)
		s.want("CallDisconnectAck")
		var end *sstp.DisconnectError
		if !errors.As(s.c.Err(), &end) || end.State != sstp.ClientCallConnected || end.Error() != test.want {
			t.Errorf("got %v, want %s", s.c.Err(), test.want)
		}
		s.pass(time.Second)
		if !s.c.Done() {
			t.Error("not done")
		}
	}
}

func TestLinkLost(t *testing.T) {
	framing := fmt.Errorf("sstp: packet: %w", sstp.ErrFraming)
	for _, cause := range []error{io.EOF, io.ErrUnexpectedEOF, framing} {
		c := connected(t)
		c.Receive(epoch, payload(with(sstp.EchoRequest)))
		c.LowerDown(epoch, cause)
		if !errors.Is(c.Err(), sstp.ErrLinkLost) || !errors.Is(c.Err(), cause) {
			t.Errorf("cause %v, want ErrLinkLost and %v", c.Err(), cause)
		}
		if !c.Done() || len(c.Pending()) != 0 {
			t.Error("something is sent on a connection that is gone")
		}
	}
	c := connected(t)
	c.LowerDown(epoch, nil)
	if got, want := c.Err().Error(), "sstp: connection lost in state ClientCallConnected"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLinkLostAfterTheEndBegan(t *testing.T) {
	c := connected(t)
	c.Disconnect(epoch)
	c.LowerDown(epoch, io.EOF)
	if !c.Done() || c.Err() != sstp.ErrClosed {
		t.Errorf("done %v, cause %v, want ErrClosed", c.Done(), c.Err())
	}
}

func TestPendingIsHandedOutOnce(t *testing.T) {
	c := sstp.NewCall(sstp.CallConfig{})
	c.Start(epoch)
	if n := len(c.Pending()); n != 1 {
		t.Errorf("%d packets, want 1", n)
	}
	if n := len(c.Pending()); n != 0 {
		t.Errorf("%d packets again, want 0", n)
	}
}

// The HLAK is a secret: nothing of the call shows it.
func TestErrorsShowNoSecrets(t *testing.T) {
	v := bindingVectors(t)["chain-mschapv2-sha256"]
	s := newScript(t, sstp.CallConfig{Certificate: testCertificate(t)})
	s.recv(ack(2))
	s.c.Authenticated(s.now, v.hlak())
	log := parse(t, s.c.Pending()[0]).String()
	s.recv(status(sstp.CallAbort, 3, 4))
	for _, secret := range [][]byte{v.in.HLAK, v.out.CMK, v.out.MAC} {
		for _, shown := range []string{log, s.c.Err().Error(), fmt.Sprintf("%+v", s.c)} {
			if bytes.Contains([]byte(shown), secret) || bytes.Contains([]byte(shown), fmt.Appendf(nil, "%x", secret)) ||
				bytes.Contains([]byte(shown), fmt.Appendf(nil, "%v", secret)) {
				t.Errorf("%q shows a secret", shown)
			}
		}
	}
}
