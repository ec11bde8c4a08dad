package ppp

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

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

// A password for one login is neither sent nor proved twice: not to another
// challenge, and not when LCP is negotiated anew.
func TestOnce(t *testing.T) {
	t.Run("same challenge", func(t *testing.T) {
		s := connect(t, Config{Once: true})
		s.establish(authMSv2)
		s.send(chap(CHAPChallenge, 1, challenge1))
		first := s.next()
		s.send(chap(CHAPChallenge, 1, challenge1))
		s.want(first)
		s.wantAlive()
	})
	t.Run("another challenge", func(t *testing.T) {
		s := connect(t, Config{Once: true})
		s.establish(authMSv2)
		s.send(chap(CHAPChallenge, 1, challenge1))
		s.next()
		s.send(chap(CHAPChallenge, 2, challenge1))
		wantOnce(t, s, 2)
	})
	t.Run("CHAP again", func(t *testing.T) {
		s := connect(t, Config{Once: true})
		s.network()
		s.send(lcp(ConfigureRequest, 2, authMSv2))
		_, pkt := parse(t, s.next())
		s.want(lcp(ConfigureAck, 2, authMSv2))
		s.send(lcp(ConfigureAck, pkt.Identifier, ourMagic))
		s.send(chap(CHAPChallenge, 9, challenge1))
		wantOnce(t, s, pkt.Identifier+1)
	})
	t.Run("PAP again", func(t *testing.T) {
		s := connect(t, Config{Once: true, Methods: []Method{PAP}})
		s.establish(authPAP)
		s.next()
		s.send(lcp(ConfigureRequest, 2, authPAP))
		_, pkt := parse(t, s.next())
		s.want(lcp(ConfigureAck, 2, authPAP))
		s.send(lcp(ConfigureAck, pkt.Identifier, ourMagic))
		wantOnce(t, s, pkt.Identifier+1)
	})
}

// wantOnce wants the end of the link and nothing before it.
func wantOnce(t *testing.T, s *server, id uint8) {
	t.Helper()
	if !errors.Is(s.l.Err(), ErrOnce) {
		t.Errorf("got %v, want ErrOnce", s.l.Err())
	}
	s.want(lcp(TerminateRequest, id))
	s.wantIdle()
}

// What a login was made of is gone when it is over, and the keys when they were
// taken.
func TestSecretsWiped(t *testing.T) {
	a := auth{
		request:   Packet{Data: []byte("alice wonderland")},
		exchanges: []exchange{{response: []byte("an answer"), hlak: [32]byte{1, 2, 3}}},
		hlak:      [32]byte{1, 2, 3},
	}
	l := &Link{auth: a}
	exchanges, request := l.auth.exchanges, l.auth.request.Data
	l.ForgetKey()
	if l.auth.hlak != [32]byte{} || exchanges[0].hlak != [32]byte{} {
		t.Errorf("keys left: %x, %x", l.auth.hlak, exchanges[0].hlak)
	}
	exchanges[0].hlak[0] = 1 // of a later challenge
	l.auth.stop()
	if left := slices.Concat(exchanges[0].hlak[:], exchanges[0].response, request); bytes.Count(left, []byte{0}) != len(left) {
		t.Errorf("left in memory: %x", left)
	}
}

// The oldest exchange that makes room for another one goes the same way.
func TestOldExchangeWiped(t *testing.T) {
	var a auth
	oldest := []byte("an answer")
	a.keep(exchange{response: oldest})
	for range keptExchanges {
		a.keep(exchange{})
	}
	if bytes.Count(oldest, []byte{0}) != len(oldest) {
		t.Errorf("left in memory: %x", oldest)
	}
}
