package ppp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"go/build"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// errorAs reports whether err is a *T, and returns it.
func errorAs[T error](t *testing.T, err error) T {
	t.Helper()
	got, ok := errors.AsType[T](err)
	if !ok {
		t.Fatalf("got error %v, want a %T", err, got)
	}
	return got
}

func TestBeforeUp(t *testing.T) {
	l := NewLink(Config{})
	l.Receive(epoch, lcp(ConfigureRequest, 1, authMSv2))
	l.Advance(epoch.Add(time.Hour))
	if l.Pending() != nil || !l.NextTimeout().IsZero() || l.Done() || l.Err() != nil || l.Phase() != PhaseDead {
		t.Errorf("a link that is not up did something: phase %v, error %v", l.Phase(), l.Err())
	}
	l.Close(epoch)
	l.Up(epoch)
	if !l.Done() || !errors.Is(l.Err(), ErrClosed) || l.Pending() != nil {
		t.Errorf("closed before Up: done %v, error %v", l.Done(), l.Err())
	}
	if l.MTU() != 1500 || l.Method() != 0 {
		t.Errorf("MTU %d, method %v", l.MTU(), l.Method())
	}
}

func TestClose(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	s.l.Close(s.now)
	s.collect()
	s.want(lcp(TerminateRequest, 4))
	s.wantPhase(PhaseTerminate)
	if s.l.Opened() || s.l.Done() || !errors.Is(s.l.Err(), ErrClosed) {
		t.Errorf("opened %v, done %v, error %v", s.l.Opened(), s.l.Done(), s.l.Err())
	}
	s.send(ipcp(ConfigureRequest, 9, gateway)) // out of phase
	s.send(lcp(EchoRequest, 9, "00000000"))
	s.wantIdle()
	s.send(lcp(TerminateAck, 4))
	s.bye()
}

// Max-Terminate: two Terminate-Requests, 3 s apart, and an end 6 s later.
func TestMaxTerminate(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	s.l.Close(s.now)
	s.collect()
	s.wait(2999 * time.Millisecond)
	s.want(lcp(TerminateRequest, 4))
	s.wantIdle()
	s.wait(time.Millisecond)
	s.want(lcp(TerminateRequest, 5))
	s.wait(2999 * time.Millisecond)
	s.wantPhase(PhaseTerminate)
	s.wait(time.Millisecond)
	s.bye()
	if !errors.Is(s.l.Err(), ErrClosed) {
		t.Errorf("got %v", s.l.Err())
	}
}

func TestDown(t *testing.T) {
	for name, s := range inEveryPhase(t) {
		s.l.Down(s.now)
		s.collect()
		s.wantIdle()
		s.bye()
		if want := map[string]error{"Terminate": ErrClosed}[name]; want == nil && !errors.Is(s.l.Err(), ErrDown) ||
			want != nil && !errors.Is(s.l.Err(), want) {
			t.Errorf("%s: got %v", name, s.l.Err())
		}
		if s.l.Opened() {
			t.Errorf("%s: still opened", name)
		}
	}
}

// Max-Configure: ten Requests, the second early, then nothing but the error.
func TestMaxConfigure(t *testing.T) {
	s := connect(t, Config{})
	var at []time.Duration
	for range 10 {
		at = append(at, s.now.Sub(epoch))
		s.want(lcp(ConfigureRequest, 1, ourMagic))
		s.wantIdle()
		next := s.l.NextTimeout()
		s.wait(next.Sub(s.now))
	}
	if at[1] != 250*time.Millisecond || at[9] != 250*time.Millisecond+8*3*time.Second {
		t.Errorf("sent at %v", at)
	}
	if e := errorAs[*ConfigError](t, s.l.Err()); e.Protocol != ProtoLCP {
		t.Errorf("got %v", e)
	}
	s.bye()
}

func TestPAPRetries(t *testing.T) {
	s := connect(t, Config{Methods: []Method{PAP}, EchoInterval: -1})
	s.establish(authPAP)
	for range 10 {
		s.want(pap(PAPRequest, 2, "05616c6963650a776f6e6465726c616e64"))
		s.wantIdle()
		s.wait(3 * time.Second)
	}
	if e := errorAs[*ConfigError](t, s.l.Err()); e.Protocol != ProtoPAP {
		t.Errorf("got %v", e)
	}
}

func TestPAPNak(t *testing.T) {
	s := connect(t, Config{Methods: []Method{PAP}})
	s.establish(authPAP)
	s.next()
	s.send(pap(PAPNak, 2, "03", text("no\n")))
	if e := errorAs[*AuthError](t, s.l.Err()); e.Method != PAP || e.Text != "no" {
		t.Errorf("got %+v", e)
	}
	s.want(lcp(TerminateRequest, 3))
}

func TestPAPTooLong(t *testing.T) {
	s := connect(t, Config{User: strings.Repeat("u", 256), Password: "p", Methods: []Method{PAP}})
	s.establish(authPAP)
	if s.l.Err() == nil {
		t.Error("no error")
	}
	s.want(lcp(TerminateRequest, 2))
}

// The peer sets the pace of CHAP, but not for ever.
func TestChallengeNeverComes(t *testing.T) {
	s := connect(t, Config{EchoInterval: -1})
	s.establish(authMSv2)
	s.wait(59 * time.Second)
	s.wantAlive()
	s.wantIdle()
	s.wait(time.Second)
	if e := errorAs[*ConfigError](t, s.l.Err()); e.Protocol != ProtoCHAP {
		t.Errorf("got %v", e)
	}
}

// A Success that does not prove the password ends the link before any key is
// given out.
func TestServerNotProved(t *testing.T) {
	for _, msg := range []string{"", "M=Welcome", "S=", "S=407A5589115FD0D6209F510FE9C04566932CDA56",
		"S=zz7A5589115FD0D6209F510FE9C04566932CDA56 M=Welcome"} {
		s := connect(t, Config{})
		s.establish(authMSv2)
		s.send(chap(CHAPChallenge, 1, challenge1))
		s.next()
		s.send(chap(CHAPSuccess, 1, text(msg)))
		if _, ok := s.l.Authenticated(); ok || !errors.Is(s.l.Err(), ErrServerNotProved) {
			t.Errorf("%q: authenticated %v, error %v", msg, ok, s.l.Err())
		}
		s.want(lcp(TerminateRequest, 2))
		s.wantIdle() // no IPCP
	}
}

// A Success before any challenge, and a Failure of another protocol, are noise.
func TestUnaskedSuccess(t *testing.T) {
	for _, auth := range []string{authMSv2, authMD5} {
		s := connect(t, Config{Methods: []Method{MSCHAPv2, CHAPMD5}})
		s.establish(auth)
		s.send(chap(CHAPSuccess, 1, text("S=407A5589115FD0D6209F510FE9C04566932CDA56")))
		s.send(pap(PAPAck, 1))
		s.send(chap(9, 1))
		s.wantIdle()
		s.wantAlive()
		s.wantPhase(PhaseAuthenticate)
	}
}

// R=1 invites another try, with other credentials: ours are not tried again.
func TestRetryIsNotTaken(t *testing.T) {
	s := connect(t, Config{})
	s.establish(authMSv2)
	s.send(chap(CHAPChallenge, 1, challenge1))
	s.next()
	s.send(chap(CHAPFailure, 1, text("E=691 R=1 C=00112233445566778899AABBCCDDEEFF V=3 M=again")))
	if e := errorAs[*AuthError](t, s.l.Err()); !e.Failure.Retry || e.Failure.Message != "again" {
		t.Errorf("got %+v", e)
	}
	s.want(lcp(TerminateRequest, 2))
	s.wantIdle()
}

func TestFailureWithoutCode(t *testing.T) {
	s := connect(t, Config{Methods: []Method{CHAPMD5}})
	s.establish(authMD5)
	s.send(chap(CHAPChallenge, 1, "0101"))
	s.next()
	s.send(chap(CHAPFailure, 1, text("go away\x07")))
	if e := errorAs[*AuthError](t, s.l.Err()); e.Text != "go away" || !strings.Contains(e.Error(), `"go away"`) {
		t.Errorf("got %v", e)
	}
	m := connect(t, Config{})
	m.establish(authMSv2)
	m.send(chap(CHAPFailure, 1, text("garbage")))
	if e := errorAs[*AuthError](t, m.l.Err()); e.Text != "garbage" {
		t.Errorf("got %v", e)
	}
}

// DOMAIN\user: the name goes out whole, the hash is over the user alone.
func TestDomainUser(t *testing.T) {
	s := connect(t, Config{User: `CORP\alice`, Password: "wonderland"})
	s.establish(authMSv2)
	s.authenticate(1) // proofOf compares the name and the hash
	s.wantPhase(PhaseNetwork)
}

func TestPasswordNotUTF8(t *testing.T) {
	s := connect(t, Config{User: "alice", Password: "p\xe4ss"})
	s.establish(authMSv2)
	s.send(chap(CHAPChallenge, 1, challenge1))
	if err := s.l.Err(); err == nil || strings.Contains(err.Error(), "p\xe4ss") {
		t.Errorf("got %v", err)
	}
	s.want(lcp(TerminateRequest, 2))
}

// Challenges after Success are answered, and change neither keys nor phase.
func TestReauthentication(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	hlak, _ := s.l.Authenticated()
	s.authenticate(8)
	again, ok := s.l.Authenticated()
	if !ok || again != hlak || hlak == [32]byte{} {
		t.Errorf("keys changed: %x, %x", hlak, again)
	}
	s.wantPhase(PhaseNetwork)
	s.wantIdle()
	s.send(chap(CHAPFailure, 8, text("E=691 R=0")))
	errorAs[*AuthError](t, s.l.Err())
}

// Different challenges without end come to one.
func TestChallengeFlood(t *testing.T) {
	for _, opened := range []bool{false, true} {
		s := connect(t, Config{})
		if opened {
			s.network()
		} else {
			s.establish(authMSv2)
		}
		answers := 0
		for n := range 255 {
			s.send(chap(CHAPChallenge, uint8(n), "10 05bd62fb1b9ad0e46a57e22a733adab8"))
			if s.l.Err() != nil {
				break
			}
			answers++
			s.next()
		}
		if e := errorAs[*ConfigError](t, s.l.Err()); e.Protocol != ProtoCHAP || answers != maxChallenges {
			t.Errorf("%d answers, error %v", answers, e)
		}
		if len(s.l.auth.exchanges) > keptExchanges {
			t.Errorf("%d exchanges kept", len(s.l.auth.exchanges))
		}
	}
	// One a minute may go on.
	s := connect(t, Config{})
	s.network()
	for n := range 100 {
		s.wait(time.Minute / 4)
		s.l.Heard(s.now)
		s.got = nil
		s.send(chap(CHAPChallenge, uint8(n), challenge1))
		s.success(uint8(n))
		s.wantAlive()
	}
}

// A server without authentication is as good as PAP, and no better.
func TestNoAuthentication(t *testing.T) {
	s := connect(t, Config{Methods: []Method{MSCHAPv2, CHAPMD5}})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	s.send(lcp(ConfigureRequest, 1))
	s.want(lcp(ConfigureAck, 1))
	if _, ok := s.l.Authenticated(); ok || !errors.Is(s.l.Err(), ErrNoAuthentication) {
		t.Errorf("authenticated %v, error %v", ok, s.l.Err())
	}
	s.want(lcp(TerminateRequest, 2))

	s = connect(t, Config{Methods: []Method{MSCHAPv2, PAP}})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	s.send(lcp(ConfigureRequest, 1))
	s.want(lcp(ConfigureAck, 1))
	if hlak, ok := s.l.Authenticated(); !ok || hlak != [32]byte{} || s.l.Method() != 0 {
		t.Errorf("got %x, %v, %v", hlak, ok, s.l.Method())
	}
	s.lease(2)
	s.send(AppendFrame(nil, 0, Packet{Code: CHAPChallenge, Data: []byte{1, 1}}.Append(nil)))
	s.want(lcp(ProtocolReject, 4, "0000 0100 0006 0101"))
}

// The full way down: LCP is negotiated again in Opened, the NCPs with it, and
// the keys of the first success stay.
func TestRenegotiationInNetwork(t *testing.T) {
	s := connect(t, Config{IPv6: true})
	s.network()
	s.want(ipv6cp(ConfigureRequest, 4, "010a15161718191a1b1c"))
	s.send(ipv6cp(ConfigureAck, 4, "010a15161718191a1b1c"))
	s.send(ipv6cp(ConfigureRequest, 1, "010a0000000000000001"))
	s.want(ipv6cp(ConfigureAck, 1, "010a0000000000000001"))
	first, _ := s.l.Authenticated()
	s.send(lcp(ConfigureRequest, 2, authMSv2, "010405aa"))
	s.want(lcp(ConfigureRequest, 5, ourMagic))
	s.want(lcp(ConfigureAck, 2, authMSv2, "010405aa"))
	if s.l.Opened() || s.l.Phase() != PhaseEstablish {
		t.Fatalf("opened %v in phase %v", s.l.Opened(), s.l.Phase())
	}
	s.send(ipcp(ConfigureRequest, 7, gateway))
	s.wantIdle()
	s.send(lcp(ConfigureAck, 5, ourMagic))
	s.authenticate(4)
	if again, ok := s.l.Authenticated(); !ok || again != first {
		t.Error("the keys of the first exchange are gone")
	}
	s.want(ipcp(ConfigureRequest, 6, leaseIPCP)) // the address is asked for again
	s.send(ipcp(ConfigureAck, 6, leaseIPCP))
	s.send(ipcp(ConfigureRequest, 8, gateway))
	s.want(ipcp(ConfigureAck, 8, gateway))
	s.want(ipv6cp(ConfigureRequest, 7, "010a15161718191a1b1c"))
	if !s.l.Opened() || s.l.MTU() != 1450 {
		t.Errorf("opened %v, MTU %d", s.l.Opened(), s.l.MTU())
	}
	s.wantAlive()
}

// IPCP alone may be negotiated again.
func TestRenegotiationOfIPCP(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	s.send(ipcp(ConfigureRequest, 2, "03060a500002"))
	s.want(ipcp(ConfigureRequest, 4, leaseIPCP))
	s.want(ipcp(ConfigureAck, 2, "03060a500002"))
	if s.l.Opened() {
		t.Error("still opened")
	}
	s.send(ipcp(ConfigureAck, 4, leaseIPCP))
	if v, ok := s.l.IPv4(); !ok || v.Peer.String() != "10.80.0.2" {
		t.Errorf("got %v, %v", v, ok)
	}
}

// A peer that renegotiates again and again is left; one that does so now and
// then is not.
func TestRenegotiationFlood(t *testing.T) {
	again := func(s *server, id uint8) {
		s.send(lcp(ConfigureRequest, id, authMSv2))
		if s.l.Err() != nil {
			return
		}
		_, pkt := parse(s.t, s.next())
		s.want(lcp(ConfigureAck, id, authMSv2))
		s.send(lcp(ConfigureAck, pkt.Identifier, ourMagic))
	}
	s := connect(t, Config{})
	s.establish(authMSv2)
	for id := uint8(2); s.l.Err() == nil; id++ {
		if id == 200 {
			t.Fatal("no end")
		}
		again(s, id)
	}
	if e := errorAs[*ConfigError](t, s.l.Err()); e.Protocol != ProtoLCP {
		t.Errorf("got %v", e)
	}
	s = connect(t, Config{EchoInterval: -1})
	s.network()
	for id := uint8(2); id < 200; id++ {
		s.wait(2 * time.Minute)
		again(s, id)
		s.authenticate(id)
		_, pkt := parse(t, s.next())
		s.send(ipcp(ConfigureAck, pkt.Identifier, leaseIPCP))
		s.send(ipcp(ConfigureRequest, id, gateway))
		s.want(ipcp(ConfigureAck, id, gateway))
		s.wantAlive()
	}
}

// Requests, Naks and Rejects that do not converge come to an end for every
// protocol.
func TestNegotiationFlood(t *testing.T) {
	s := connect(t, Config{})
	s.establish(authMSv2)
	s.authenticate(1)
	for n := 0; s.l.Err() == nil; n++ {
		if n > 100 {
			t.Fatal("IPCP Naks without end")
		}
		_, pkt := parse(t, s.next())
		s.send(ipcp(ConfigureNak, pkt.Identifier, "0306000000"+hex.EncodeToString([]byte{byte(n)})))
	}
	if e := errorAs[*ConfigError](t, s.l.Err()); e.Protocol != ProtoIPCP || !errors.Is(s.l.Err(), ErrNoAddress) {
		t.Errorf("got %v", s.l.Err())
	}

	s = connect(t, Config{})
	for n := 0; s.l.Err() == nil; n++ {
		if n > 100 {
			t.Fatal("LCP Requests without end")
		}
		s.send(lcp(ConfigureRequest, uint8(n), "0702"))
	}
	errorAs[*ConfigError](t, s.l.Err())

	// An Ack for each of our Requests, but never a Request.
	s = connect(t, Config{})
	for s.l.Err() == nil {
		if s.now.Sub(epoch) > time.Hour {
			t.Fatal("Acks without end")
		}
		for len(s.got) > 0 {
			_, pkt := parse(t, s.next())
			s.send(lcp(ConfigureAck, pkt.Identifier, ourMagic))
		}
		s.wait(time.Second)
	}
	errorAs[*ConfigError](t, s.l.Err())
}

// Max-Failure: five Naks, then Rejects.
func TestMaxFailure(t *testing.T) {
	s := connect(t, Config{})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	for id := range uint8(5) {
		s.send(lcp(ConfigureRequest, id, authMSv2, "01040020"))
		s.want(lcp(ConfigureNak, id, "010405dc"))
	}
	s.send(lcp(ConfigureRequest, 5, authMSv2, "01040020"))
	s.want(lcp(ConfigureReject, 5, "01040020"))
	s.send(lcp(ConfigureRequest, 6, authMSv2))
	s.want(lcp(ConfigureAck, 6, authMSv2))
}

// IPV6CP identifiers (RFC 5072 §4.1), Max-Failure included.
func TestIPv6Identifiers(t *testing.T) {
	s := connect(t, Config{IPv6: true})
	s.network()
	const ours = "010a15161718191a1b1c"
	s.want(ipv6cp(ConfigureRequest, 4, ours))
	for id, bad := range []string{"010a0000000000000000", ours, ours, ours, ours} {
		s.send(ipv6cp(ConfigureRequest, uint8(id), bad))
		_, pkt := parse(t, s.next())
		opts, err := ParseOptions(pkt.Data)
		if err != nil || pkt.Code != ConfigureNak || len(opts) != 1 || len(opts[0].Data) != 8 ||
			bytes.Equal(pkt.Data, octets(bad)) || bytes.Equal(pkt.Data, octets(ours)) {
			t.Fatalf("%s: got %v %x, error %v", bad, pkt.Code, pkt.Data, err)
		}
	}
	s.send(ipv6cp(ConfigureRequest, 5, ours, "0204004f"))
	s.want(ipv6cp(ConfigureReject, 5, ours, "0204004f"))
	s.send(ipv6cp(ConfigureRequest, 6, ours))
	s.want(ipv6cp(ConfigureReject, 6, ours))
	s.send(ipv6cp(ConfigureNak, 4, "010a0000000000000000")) // no suggestion: a new one of ours
	if _, pkt := parse(t, s.next()); bytes.Equal(pkt.Data, octets(ours)) || bytes.Equal(pkt.Data[2:], make([]byte, 8)) {
		t.Errorf("got %x", pkt.Data)
	}
	s.send(ipv6cp(ConfigureReject, s.l.ipv6cp.sentID, hex.EncodeToString(AppendOptions(nil, s.l.ipv6cp.sent))))
	s.want(ipv6cp(ConfigureRequest, s.l.id))
	s.send(ipv6cp(ConfigureAck, s.l.id))
	s.send(ipv6cp(ConfigureRequest, 7, "010a0000000000000001"))
	s.want(ipv6cp(ConfigureAck, 7, "010a0000000000000001"))
	s.want(ipv6cp(TerminateRequest, s.l.id)) // of no use without an identifier
	if _, ok := s.l.IPv6(); ok {
		t.Error("IPv6 open without an identifier")
	}
	s.wantAlive()
}

// IPv6 needs 1280 octets (RFC 8200 §5); with less it is left off.
func TestNoIPv6BelowMinimumMTU(t *testing.T) {
	s := connect(t, Config{IPv6: true})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	s.send(lcp(ConfigureRequest, 1, authMSv2, "010404ff"))
	s.want(lcp(ConfigureAck, 1, authMSv2, "010404ff"))
	s.authenticate(1)
	s.lease(2)
	s.wantIdle()
	s.send(ipv6cp(ConfigureRequest, 1, "010a0000000000000001"))
	s.want(lcp(ProtocolReject, 4, "8057 0101000e 010a0000000000000001"))
}

func TestNoAddress(t *testing.T) {
	for name, play := range map[string]func(*server){
		"zero acknowledged": func(s *server) {
			s.send(ipcp(ConfigureAck, 2, zeroIPCP))
			s.send(ipcp(ConfigureRequest, 1, gateway))
		},
		"option rejected": func(s *server) {
			s.send(ipcp(ConfigureReject, 2, zeroIPCP))
			s.send(ipcp(ConfigureAck, 3))
			s.send(ipcp(ConfigureRequest, 1, gateway))
		},
		"terminated":        func(s *server) { s.send(ipcp(TerminateRequest, 1, text("no lease"))) },
		"protocol rejected": func(s *server) { s.send(lcp(ProtocolReject, 1, "8021")) },
		"code rejected":     func(s *server) { s.send(ipcp(CodeReject, 1, "01020016")) },
		"silence": func(s *server) {
			for range 40 {
				s.wait(time.Second)
				s.l.Heard(s.now)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := connect(t, Config{})
			s.establish(authMSv2)
			s.authenticate(1)
			s.want(ipcp(ConfigureRequest, 2, zeroIPCP))
			play(s)
			if !errors.Is(s.l.Err(), ErrNoAddress) || s.l.Opened() {
				t.Errorf("opened %v, error %v", s.l.Opened(), s.l.Err())
			}
			if strings.Contains(s.l.Err().Error(), errNoValue.Error()) {
				t.Errorf("got %v", s.l.Err())
			}
		})
	}
}

// An IPCP that the peer ends in Opened ends the link once the automaton's wait
// is over, unless the peer comes back.
func TestIPCPTerminatedInOpened(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	s.send(ipcp(TerminateRequest, 9))
	s.want(ipcp(TerminateAck, 9))
	if s.l.Opened() {
		t.Error("still opened")
	}
	s.wantAlive()
	s.wait(3 * time.Second)
	if e := errorAs[*TerminatedError](t, s.l.Err()); e.Phase != PhaseNetwork || !errors.Is(s.l.Err(), ErrNoAddress) {
		t.Errorf("got %v", s.l.Err())
	}
}

func TestTerminatedByPeer(t *testing.T) {
	for name, s := range inEveryPhase(t) {
		if name == "Dead" || name == "Terminate" {
			continue
		}
		s.send(lcp(TerminateRequest, 77, text("bye")))
		s.want(lcp(TerminateAck, 77))
		if e := errorAs[*TerminatedError](t, s.l.Err()); e.Text != "bye" {
			t.Errorf("%s: got %v", name, e)
		}
		s.wantPhase(PhaseTerminate)
		s.wait(6 * time.Second)
		s.got = nil
		s.bye()
	}
}

// The peer refuses what we cannot do without.
func TestRejected(t *testing.T) {
	for name, c := range map[string]struct {
		frame []byte
		want  RejectedError
	}{
		"LCP":               {lcp(ProtocolReject, 1, "c021"), RejectedError{ProtoLCP, 0}},
		"CHAP":              {lcp(ProtocolReject, 1, "c223 02"), RejectedError{ProtoCHAP, 0}},
		"Configure-Request": {lcp(CodeReject, 1, "01010004"), RejectedError{ProtoLCP, ConfigureRequest}},
	} {
		s := connect(t, Config{})
		s.establish(authMSv2)
		s.send(c.frame)
		if e := errorAs[*RejectedError](t, s.l.Err()); *e != c.want || e.Error() == "" {
			t.Errorf("%s: got %v", name, e)
		}
		s.want(lcp(TerminateRequest, 2))
		s.wantPhase(PhaseTerminate)
	}
	s := connect(t, Config{})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ProtocolReject, 1, "c021")) // not in Opened
	s.wantAlive()
	s.send(lcp(CodeReject, 1, "01010004"))
	errorAs[*RejectedError](t, s.l.Err())
	s.bye()
}

// What may be rejected without harm.
func TestTolerableRejects(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	for _, f := range [][]byte{
		lcp(ProtocolReject, 1), lcp(ProtocolReject, 1, "80"), lcp(ProtocolReject, 1, "8057"),
		lcp(ProtocolReject, 1, "0021 45"), lcp(ProtocolReject, 1, "c223"), lcp(ProtocolReject, 1, "80fd"),
		lcp(CodeReject, 1), lcp(CodeReject, 1, "09010008"), ipcp(CodeReject, 1, "0c"),
		lcp(DiscardRequest, 1, "00000000"), lcp(EchoReply, 1, "00000000"), lcp(EchoRequest, 1, "000000"),
		lcp(Identification, 1), lcp(TimeRemaining, 1, "00000000"), ipcp(TerminateAck, 1)[:7],
		AppendFrame(nil, ProtoIPv4, []byte{0x45}), AppendFrame(nil, ProtoIPv6, []byte{0x60}), nil, {0x80},
	} {
		s.send(f)
	}
	s.wantIdle()
	s.wantAlive()
	if !s.l.Opened() {
		t.Error("not opened any more")
	}
}

func TestTimeRemaining(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	if _, ok := s.l.TimeRemaining(); ok {
		t.Error("told before it was")
	}
	s.send(lcp(TimeRemaining, 1, "00000000 ffffffff"))
	if _, ok := s.l.TimeRemaining(); ok {
		t.Error("no limit taken for one")
	}
	s.send(lcp(TimeRemaining, 1, "00000000 0000003c", text("soon")))
	if d, ok := s.l.TimeRemaining(); !ok || d != time.Minute {
		t.Errorf("got %v, %v", d, ok)
	}
	s.send(lcp(Identification, 1, "00000000", strings.Repeat("41", 1000)))
	if n := len(s.l.Identification()); n != maxText {
		t.Errorf("%d octets kept", n)
	}
}

// Rejected packets and echoed data are cut to the peer's MRU.
func TestCutToMRU(t *testing.T) {
	s := connect(t, Config{})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	s.send(lcp(ConfigureRequest, 1, authMSv2, "01040044")) // 68
	s.want(lcp(ConfigureAck, 1, authMSv2, "01040044"))
	s.authenticate(1)
	s.next()
	big := strings.Repeat("aa", 500)
	for _, f := range [][]byte{ctl(ProtoCCP, 1, 1, big), lcp(99, 1, big), ipcp(99, 1, big), lcp(EchoRequest, 1, "00000000", big)} {
		s.send(f)
		if got := s.next(); len(got) != HeaderLen+68 {
			t.Errorf("%s: %d octets, want %d", Describe(f), len(got), HeaderLen+68)
		}
	}
}

// Silence ends the link; any packet defers that.
func TestEchoTimeout(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	s.wait(44 * time.Second)
	s.wantAlive()
	if len(s.got) != 8 {
		t.Errorf("%d Echo-Requests in 44 s, want 8", len(s.got))
	}
	s.l.Heard(s.now)
	s.wait(44 * time.Second)
	s.wantAlive()
	s.wait(time.Second)
	if !errors.Is(s.l.Err(), ErrEchoTimeout) {
		t.Errorf("got %v", s.l.Err())
	}
	s = connect(t, Config{EchoInterval: -1})
	s.network()
	s.wait(24 * time.Hour)
	s.wantIdle()
	s.wantAlive()
	if !s.l.NextTimeout().IsZero() {
		t.Errorf("timeout %v", s.l.NextTimeout())
	}
}

// Our own magic number in the peer's packets, round after round.
func TestLoop(t *testing.T) {
	for name, frame := range map[string]func(*server) []byte{
		"request": func(s *server) []byte {
			s.now = s.now.Add(time.Millisecond)
			return lcp(ConfigureRequest, uint8(s.now.Nanosecond()/1e6), authMSv2, ourMagic)
		},
		"nak": func(s *server) []byte {
			return lcp(ConfigureNak, s.l.lcp.sentID, hex.EncodeToString(AppendOptions(nil, s.l.lcp.sent)))
		},
		"echo": func(s *server) []byte {
			s.l.lcp.state = opened
			return lcp(EchoRequest, 1, ourMagic[4:])
		},
	} {
		s := connect(t, Config{EchoInterval: -1})
		rounds := 0
		for ; s.l.Err() == nil && rounds < 100; rounds++ {
			s.send(frame(s))
		}
		if !errors.Is(s.l.Err(), ErrLoop) || rounds != maxLoops+1 {
			t.Errorf("%s: %d rounds, error %v", name, rounds, s.l.Err())
		}
	}
	// One round is chance: the numbers are changed, and all is well.
	s := connect(t, Config{})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureRequest, 1, authMSv2, ourMagic))
	s.want(lcp(ConfigureNak, 1, "050605060708"))
	s.send(lcp(ConfigureNak, 1, ourMagic))
	s.want(lcp(ConfigureRequest, 2, "0506090a0b0c"))
	s.wantAlive()
}

// Replies that do not fit our Request are discarded and count for nothing.
func TestWrongReplies(t *testing.T) {
	s := connect(t, Config{MRU: 1400})
	s.want(lcp(ConfigureRequest, 1, "01040578", ourMagic))
	for _, f := range [][]byte{
		lcp(ConfigureAck, 2, "01040578", ourMagic), lcp(ConfigureAck, 1, ourMagic, "01040578"),
		lcp(ConfigureAck, 1, "01040578"), lcp(ConfigureAck, 1), lcp(ConfigureReject, 1, "0702"),
		lcp(ConfigureReject, 1), lcp(ConfigureReject, 9, ourMagic), lcp(ConfigureNak, 1), lcp(ConfigureNak, 9, "010405dc"),
		lcp(ConfigureNak, 1, "0104"), lcp(ConfigureRequest, 1, "0100"), lcp(TerminateAck, 7),
	} {
		for range 20 {
			s.send(f)
		}
	}
	s.wantIdle()
	if s.l.lcp.state != reqSent || s.l.lcp.limit.exchanges != 0 {
		t.Errorf("state %v, %d exchanges", s.l.lcp.state, s.l.lcp.limit.exchanges)
	}
	s.send(lcp(ConfigureNak, 1, "01040010")) // too small to be taken: back to the default
	s.want(lcp(ConfigureRequest, 2, ourMagic))
	s.send(lcp(ConfigureNak, 2, "010405dc 0304c223 0999")[:0])
	s.send(lcp(ConfigureNak, 2, "01040500 0304c023"))
	s.want(lcp(ConfigureRequest, 3, "01040500", ourMagic))
	s.send(lcp(ConfigureReject, 3, "01040500", ourMagic))
	s.want(lcp(ConfigureRequest, 4))
	s.wantIdle()
}

func TestPeerOptions(t *testing.T) {
	for _, c := range []struct{ name, request, code, answer string }{
		{"quality", authMSv2 + "0404c025", "reject", "0404c025"},
		{"FCS", authMSv2 + "090302", "reject", "090302"},
		{"unknown", authMSv2 + "fe03aa" + "fd02", "reject", "fe03aafd02"},
		{"ACCM length", authMSv2 + "0204ffff", "reject", "0204ffff"},
		{"MRU length", authMSv2 + "010305", "nak", "010405dc"},
		{"magic zero", authMSv2 + "050600000000", "nak", "050605060708"},
		{"magic length", authMSv2 + "050400aa", "nak", "050605060708"},
		{"auth length", "0303c2", "nak", authMSv2},
		{"MS-CHAPv1", authMSv1, "nak", authMSv2},
		{"MD5 with tail", "0306c2230500", "nak", authMSv2},
		{"reject before nak", authEAP + "01040010" + "0702", "reject", "0702"},
		{"two naks", authEAP + "01040010", "nak", authMSv2 + "010405dc"},
		{"MRU 68", authMSv2 + "01040044", "ack", authMSv2 + "01040044"},
	} {
		s := connect(t, Config{})
		s.want(lcp(ConfigureRequest, 1, ourMagic))
		s.send(lcp(ConfigureRequest, 5, c.request))
		code := map[string]Code{"ack": ConfigureAck, "nak": ConfigureNak, "reject": ConfigureReject}[c.code]
		t.Run(c.name, func(t *testing.T) { s.t = t; s.want(lcp(code, 5, c.answer)) })
	}
}

// IPCP: what the peer asks of us is rejected but for its address.
func TestPeerIPCPOptions(t *testing.T) {
	s := connect(t, Config{})
	s.establish(authMSv2)
	s.authenticate(1)
	s.want(ipcp(ConfigureRequest, 2, zeroIPCP))
	s.send(ipcp(ConfigureRequest, 1, "0206002d0f01", gateway, "810600000000 820600000000 9006ffffff00 010a0000000000000000"))
	s.want(ipcp(ConfigureReject, 1, "0206002d0f01", "810600000000 820600000000 9006ffffff00 010a0000000000000000"))
	s.send(ipcp(ConfigureRequest, 2, "030600000000"))
	s.want(ipcp(ConfigureAck, 2, "030600000000"))
	s.send(ipcp(ConfigureRequest, 3, "03040a50"))
	s.want(ipcp(ConfigureReject, 3, "03040a50"))
	// Reject first, then a Nak that brings one of it back, and one we never want.
	s.send(ipcp(ConfigureReject, 2, "810600000000 830600000000"))
	s.want(ipcp(ConfigureRequest, 3, "030600000000"))
	s.send(ipcp(ConfigureNak, 3, "03060a50000a 81060a4d0002 82060a4d0003 0305000000"))
	s.want(ipcp(ConfigureRequest, 4, "03060a50000a 81060a4d0002"))
}

// A frame flood without Pending in between stays within bounds.
func TestPendingBounded(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	for range 10 * maxPending {
		s.l.Receive(s.now, lcp(EchoRequest, 1, "00000000"))
	}
	if n := len(s.l.Pending()); n != maxPending {
		t.Errorf("%d frames, want %d", n, maxPending)
	}
	s.send(lcp(EchoRequest, 1, "00000000"))
	s.want(lcp(EchoReply, 1, "01020304"))
}

func TestRandomSourceFails(t *testing.T) {
	s := connect(t, Config{Rand: bytes.NewReader(octets("01020304"))})
	s.establish(authMSv2)
	s.send(chap(CHAPChallenge, 1, challenge1))
	if !errors.Is(s.l.Err(), io.EOF) {
		t.Errorf("got %v", s.l.Err())
	}
	s = connect(t, Config{Rand: bytes.NewReader(nil)})
	if !errors.Is(s.l.Err(), io.EOF) {
		t.Errorf("got %v", s.l.Err())
	}
}

// The default source is the system's: two links differ.
func TestDefaults(t *testing.T) {
	a, b := NewLink(Config{Methods: []Method{0, 77}}), NewLink(Config{})
	a.Up(epoch)
	b.Up(epoch)
	a.Up(epoch) // does nothing
	fa, fb := a.Pending(), b.Pending()
	if len(fa) != 1 || len(fb) != 1 || bytes.Equal(fa[0], fb[0]) {
		t.Errorf("got %x and %x", fa, fb)
	}
	if !slices.Equal(a.cfg.Methods, []Method{MSCHAPv2}) {
		t.Errorf("methods: %v", a.cfg.Methods)
	}
}

func TestErrorTexts(t *testing.T) {
	for _, err := range []error{
		&AuthError{Method: MSCHAPv2, Failure: Failure{Code: 691, Message: "m"}}, &AuthError{Method: PAP},
		&NoCommonAuthError{Offered: []string{"EAP"}, Acceptable: []Method{MSCHAPv2, PAP}},
		&ConfigError{ProtoIPCP}, &TerminatedError{Phase: PhaseNetwork}, &TerminatedError{Text: "t"},
		&RejectedError{ProtoCHAP, 0}, &RejectedError{ProtoLCP, ConfigureAck},
		ErrClosed, ErrDown, ErrServerNotProved, ErrNoAuthentication, ErrNoAddress, ErrEchoTimeout, ErrLoop,
	} {
		if !strings.HasPrefix(err.Error(), "ppp: ") {
			t.Errorf("%q", err)
		}
	}
}

// The package is pure: no I/O, no timers, and of our own code mschap alone.
func TestImports(t *testing.T) {
	p, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"bytes", "crypto/md5", "crypto/rand", "crypto/subtle", "encoding/binary",
		"encoding/hex", "errors", "fmt", "io", "net/netip", "slices", "sstproxy/tunnel/ppp/mschap",
		"strconv", "strings", "time", "unicode", "unicode/utf8"}
	if !slices.Equal(p.Imports, want) {
		t.Errorf("imports: got %v, want %v", p.Imports, want)
	}
}
