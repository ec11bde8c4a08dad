package ppp

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

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
		s.send(ipcp(ConfigureNak, pkt.Identifier, "03060a0000"+hex.EncodeToString([]byte{byte(n)})))
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

// Echo asks for a sign of life and sets no limit.
func TestEcho(t *testing.T) {
	s := connect(t, Config{})
	s.echo()
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.wantIdle() // LCP is not open

	s = connect(t, Config{})
	s.network()
	s.wait(time.Second)
	s.echo()
	s.want(lcp(EchoRequest, 4, "01020304"))
	s.echo()
	s.want(lcp(EchoRequest, 5, "01020304"))
	s.wait(4 * time.Second)
	s.wantIdle() // the next one is due after the last
	s.wantAlive()
}

// A probe ends the link soon, unless something is heard since it was sent.
func TestProbe(t *testing.T) {
	s := connect(t, Config{})
	s.probe(time.Second)
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.wantIdle() // the Restart timer is at work

	s = connect(t, Config{})
	s.network()
	s.wait(time.Second)
	s.probe(3 * time.Second)
	s.want(lcp(EchoRequest, 4, "01020304"))
	s.probe(time.Second) // one is under way
	s.wantIdle()
	s.l.Heard(s.now.Add(-time.Millisecond)) // before the probe
	s.wait(2999 * time.Millisecond)
	s.wantAlive()
	s.l.Heard(s.now)
	s.wait(3 * time.Second)
	s.wantAlive()
	s.probe(3 * time.Second)
	s.wait(3 * time.Second)
	if !errors.Is(s.l.Err(), ErrEchoTimeout) {
		t.Errorf("got %v", s.l.Err())
	}
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
