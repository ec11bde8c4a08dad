package ppp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

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

// grant answers IPCP's first Request with an address, and opens it.
func (s *server) grant(address string) {
	s.send(ipcp(ConfigureNak, 2, address))
	s.send(ipcp(ConfigureAck, 3, address+zeroIPCP[12:]))
	s.send(ipcp(ConfigureRequest, 1, gateway))
}

// An address of no use, and the refusal to give one, end the link at once: a
// server that goes on from there may take long, and come to nothing.
func TestUselessAddress(t *testing.T) {
	for name, tt := range map[string]struct {
		code Code
		data string
		want string
	}{
		"loopback":  {ConfigureNak, "03067f000001", "assigned 127.0.0.1, which no interface can have"},
		"multicast": {ConfigureNak, "0306e0000005", "assigned 224.0.0.5, which"},
		"broadcast": {ConfigureNak, "0306ffffffff", "assigned 255.255.255.255, which"},
		"network 0": {ConfigureNak, "030600000001", "assigned 0.0.0.1, which"},
		"rejected":  {ConfigureReject, zeroIPCP[:12], "does not assign an address"},
	} {
		t.Run(name, func(t *testing.T) {
			s := connect(t, Config{})
			s.establish(authMSv2)
			s.authenticate(1)
			s.want(ipcp(ConfigureRequest, 2, zeroIPCP))
			s.send(ipcp(tt.code, 2, tt.data))
			if e := errorAs[*AddressError](t, s.l.Err()); !errors.Is(e, ErrNoAddress) || !strings.Contains(e.Error(), tt.want) {
				t.Errorf("got %v, want %q", e, tt.want)
			}
		})
	}
}

// Where IPv6 is wanted too, a server that does not answer that either does not
// keep the cause back for long.
func TestUselessAddressSilentIPv6(t *testing.T) {
	s := connect(t, Config{IPv6: true})
	s.establish(authMSv2)
	s.authenticate(1)
	s.want(ipcp(ConfigureRequest, 2, zeroIPCP))
	s.send(ipcp(ConfigureReject, 2, zeroIPCP[:12]))
	s.wantAlive()
	begun := s.now
	for s.l.Err() == nil {
		s.wait(time.Second)
		s.l.Heard(s.now)
	}
	errorAs[*AddressError](t, s.l.Err())
	if d := s.now.Sub(begun); d < 4*time.Second || d > 10*time.Second {
		t.Errorf("ended after %v", d)
	}
}

// An address that is asked for is used although the peer rejects the option, and
// a Nak with 0.0.0.0 is no assignment.
func TestAddressAskedFor(t *testing.T) {
	s := connect(t, Config{Addr: netip.MustParseAddr("10.0.0.9")})
	s.establish(authMSv2)
	s.authenticate(1)
	s.want(ipcp(ConfigureRequest, 2, "03060a000009"+zeroIPCP[12:]))
	s.send(ipcp(ConfigureNak, 2, "030600000000"))
	s.want(ipcp(ConfigureRequest, 3, zeroIPCP))
	s.send(ipcp(ConfigureReject, 3, zeroIPCP[:12]))
	s.want(ipcp(ConfigureRequest, 4, zeroIPCP[12:]))
	s.send(ipcp(ConfigureAck, 4, zeroIPCP[12:]))
	s.send(ipcp(ConfigureRequest, 1, gateway))
	if v4, ok := s.l.IPv4(); !ok || v4.Addr != netip.MustParseAddr("10.0.0.9") {
		t.Errorf("got %v, error %v", v4, s.l.Err())
	}
}

func TestNoAddress(t *testing.T) {
	for name, play := range map[string]func(*server){
		"zero acknowledged": func(s *server) {
			s.send(ipcp(ConfigureAck, 2, zeroIPCP))
			s.send(ipcp(ConfigureRequest, 1, gateway))
		},
		"multicast": func(s *server) { s.grant("0306e0000005") },
		"broadcast": func(s *server) { s.grant("0306ffffffff") },
		"loopback":  func(s *server) { s.grant("03067f000001") },
		"network 0": func(s *server) { s.grant("030600000001") },
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
	if e := errorAs[*TerminatedError](t, s.l.Err()); e.Phase != PhaseNetwork || errors.Is(s.l.Err(), ErrNoAddress) {
		t.Errorf("got %v", s.l.Err())
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
	// A cable that returns all we send, from the start.
	s := connect(t, Config{EchoInterval: -1})
	for n := 0; s.l.Err() == nil && n < 100; n++ {
		s.send(s.next())
	}
	if !errors.Is(s.l.Err(), ErrLoop) {
		t.Errorf("cable: error %v", s.l.Err())
	}
	// One round is chance: the numbers are changed, and all is well.
	s = connect(t, Config{})
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
