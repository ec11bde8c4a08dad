package ppp

import (
	"errors"
	"strings"
	"testing"
)

// longest is the largest information field a control packet of ours may have:
// what any peer takes, whatever was agreed.
const longest = 1500

// wantShort takes all the Link's frames and wants them to fit everywhere.
func (s *server) wantShort() {
	s.t.Helper()
	for _, f := range s.got {
		if len(f) > HeaderLen+longest {
			s.t.Errorf("a frame of %d octets, want at most %d", len(f), HeaderLen+longest)
		}
	}
	s.got = nil
}

// A Nak is longer than the option it answers. A Request full of them must not
// make an answer that fits in no packet of the lower layer, which has 4091
// octets for a frame in SSTP.
func TestNakDoesNotGrow(t *testing.T) {
	for name, option := range map[string]string{
		"magic number": "0502", "MRU": "0102", "authentication protocol": "0302",
	} {
		for _, n := range []int{700, 2040} {
			s := connect(t, Config{})
			s.want(lcp(ConfigureRequest, 1, ourMagic))
			s.send(lcp(ConfigureRequest, 1, strings.Repeat(option, n)))
			if n == 700 {
				if _, pkt := parse(t, s.got[0]); pkt.Code != ConfigureNak || len(pkt.Data) > 6 {
					t.Errorf("%s: got %v with %d octets, want a Nak with one option", name, pkt.Code, len(pkt.Data))
				}
			}
			s.wantShort()
			s.wantAlive()
		}
	}
}

// A peer that takes large packets gets no larger answers for that: its MRU does
// not count our header, and SSTP has no room for more.
func TestAnswersFitTheLowerLayer(t *testing.T) {
	for _, mru := range []string{"01040ffb", "0104ffff"} { // 4091 and 65535
		s := connect(t, Config{})
		s.want(lcp(ConfigureRequest, 1, ourMagic))
		s.send(lcp(ConfigureAck, 1, ourMagic))
		s.send(lcp(ConfigureRequest, 1, authMSv2, mru))
		s.want(lcp(ConfigureAck, 1, authMSv2, mru))
		s.authenticate(1)
		s.next()
		big := strings.Repeat("07ff"+strings.Repeat("00", 253), 16) // 4080 octets of options
		for _, f := range [][]byte{
			ctl(ProtoCCP, 1, 1, big), lcp(99, 1, big), ipcp(99, 1, big), ipcp(ConfigureRequest, 1, big),
			lcp(EchoRequest, 1, "00000000", big), lcp(ConfigureRequest, 9, big), lcp(ConfigureReject, 9, big),
		} {
			s.send(f[2:]) // without FF 03, so that the answer has less room than the question
			s.wantShort()
		}
		if err := s.l.Err(); err != nil {
			t.Errorf("MRU %s: %v", mru, err)
		}
	}
}

// The end of an IPCP that had given an address is not a lack of addresses.
func TestEndOfIPCPIsNotNoAddress(t *testing.T) {
	for name, play := range map[string]func(*server){
		"terminated": func(s *server) { s.send(ipcp(TerminateRequest, 9, text("lease ended"))) },
		"rejected":   func(s *server) { s.send(lcp(ProtocolReject, 9, "8021")) },
	} {
		s := connect(t, Config{})
		s.network()
		play(s)
		for range 30 {
			s.l.Heard(s.now)
			s.wait(1e9)
		}
		if err := s.l.Err(); err == nil || errors.Is(err, ErrNoAddress) {
			t.Errorf("%s: got %v, want the cause alone", name, err)
		}
	}
}
