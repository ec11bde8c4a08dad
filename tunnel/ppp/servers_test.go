package ppp

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

const (
	accelTail = "01040578 05065ded4059" // MRU 1400 and its magic number
	accelGate = "03060a490001"
)

func TestAccelTranscript(t *testing.T) {
	s := connect(t, Config{IPv6: true, Rand: replaying("8417b751634d2502df0f2e77f697c6e3", "90f0c39566f0b18f")})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureRequest, 189, authMSv2, accelTail)) // it starts by itself
	s.want(lcp(ConfigureAck, 189, authMSv2, accelTail))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	s.send(chap(CHAPChallenge, 1, "104e70f46630cf33487ef59dc1926b36fd"))
	s.want(chap(CHAPResponse, 1, "318417b751634d2502df0f2e77f697c6e30000000000000000"+
		"c462c6df2268abf3884b0c7ca960a7152c36e2b79ca30f2700616c696365")) // transcript
	s.send(chap(CHAPSuccess, 1, text("S=A56211ADD3D7DA21D22992230345BD96051A8922 M=Authentication succeeded")))
	hlak, ok := s.l.Authenticated()
	if want := "f9f61722d119bbcc7052d13499c9a51bc56664f7c79730990d82ef217c34a595"; !ok || hex.EncodeToString(hlak[:]) != want {
		t.Errorf("HLAK: got %x, want %s", hlak, want) // accel-ppp verifies the binding made with it
	}
	s.want(ipcp(ConfigureRequest, 2, zeroIPCP))
	s.send(ipcp(ConfigureRequest, 38, accelGate)) // right behind the Success
	s.want(ipcp(ConfigureAck, 38, accelGate))
	s.send(ipv6cp(ConfigureRequest, 160, "010a0000000000000001")) // before we start IPV6CP
	s.wantIdle()
	s.send(ipcp(ConfigureReject, 2, "830600000000"))
	s.want(ipcp(ConfigureRequest, 3, "030600000000 810600000000"))
	s.send(ipcp(ConfigureNak, 3, "03060a49000e 81060a4a0002"))
	s.want(ipcp(ConfigureRequest, 4, "03060a49000e 81060a4a0002"))
	s.send(ipcp(ConfigureAck, 4, "03060a49000e 81060a4a0002"))
	s.want(ipv6cp(ConfigureRequest, 5, "010a90f0c39566f0b18f"))
	s.want(ipv6cp(ConfigureAck, 160, "010a0000000000000001")) // the held Request
	s.send(ipv6cp(ConfigureAck, 5, "010a90f0c39566f0b18f"))
	s.wantIdle()
	if v, ok := s.l.IPv6(); !ok || v.PeerInterfaceID != [8]byte{7: 1} {
		t.Errorf("IPv6: got %x, %v", v, ok)
	}
	if v, ok := s.l.IPv4(); !ok || v.Addr.String() != "10.73.0.14" || len(v.DNS) != 1 {
		t.Errorf("IPv4: got %v, %v", v, ok)
	}
	if s.l.MTU() != 1400 {
		t.Errorf("MTU: got %d, want 1400", s.l.MTU())
	}
}

func TestAccelNaksMRU(t *testing.T) {
	s := connect(t, Config{MRU: 4091})
	s.want(lcp(ConfigureRequest, 1, "01040ffb", ourMagic))
	s.send(lcp(ConfigureRequest, 121, authMSv2, accelTail))
	s.want(lcp(ConfigureAck, 121, authMSv2, accelTail))
	s.send(lcp(ConfigureNak, 1, "01040578"))
	s.want(lcp(ConfigureRequest, 2, "01040578", ourMagic))
	s.send(lcp(ConfigureAck, 2, "01040578", ourMagic))
	s.wantPhase(PhaseAuthenticate)
}

// accel-ppp walks its modules whatever we ask for.
func TestAccelPAPTranscript(t *testing.T) {
	s := connect(t, Config{Methods: []Method{PAP}})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	for i, auth := range []string{authMSv2, authMSv1, authMD5} {
		s.send(lcp(ConfigureRequest, 63+uint8(i), auth, accelTail))
		s.want(lcp(ConfigureNak, 63+uint8(i), authPAP))
	}
	s.send(lcp(ConfigureRequest, 66, authPAP, accelTail))
	s.want(lcp(ConfigureAck, 66, authPAP, accelTail))
	s.want(pap(PAPRequest, 2, "05616c6963650a776f6e6465726c616e64"))
	s.send(pap(PAPAck, 2, "18", text("Authentication succeeded")))
	s.want(ipcp(ConfigureRequest, 3, zeroIPCP))
}

func TestAccelWrongPassword(t *testing.T) {
	s := connect(t, Config{})
	s.establish(authMSv2)
	s.send(chap(CHAPChallenge, 1, challenge1))
	s.next()
	s.send(chap(CHAPFailure, 1, text("E=691 R=0 V=3 M=Authentication failure"))) // no C=
	var auth *AuthError
	if err := s.l.Err(); !errors.As(err, &auth) || auth.Method != MSCHAPv2 || auth.Failure.Code != 691 ||
		auth.Failure.Challenge != nil || auth.Failure.Message != "Authentication failure" {
		t.Fatalf("got %v", err)
	}
	s.want(lcp(TerminateRequest, 2))
	s.send(lcp(TerminateRequest, 170))
	s.want(lcp(TerminateAck, 170))
	s.wantPhase(PhaseTerminate)
}

// accel-ppp drops an IPCP Request that comes within some milliseconds of its
// Success. The first retransmission is early and keeps the identifier; from
// then on the Restart timer is the RFC's.
func TestAccelDropsFirstIPCPRequest(t *testing.T) {
	s := connect(t, Config{FirstRestart: 200 * time.Millisecond})
	s.establish(authMSv2)
	s.authenticate(1)
	s.want(ipcp(ConfigureRequest, 2, zeroIPCP)) // dropped
	s.send(ipcp(ConfigureRequest, 38, accelGate))
	s.want(ipcp(ConfigureAck, 38, accelGate))
	s.wait(199 * time.Millisecond)
	s.wantIdle()
	s.wait(time.Millisecond)
	s.want(ipcp(ConfigureRequest, 2, zeroIPCP))
	s.wait(2999 * time.Millisecond)
	s.wantIdle()
	s.wait(time.Millisecond)
	s.want(ipcp(ConfigureRequest, 2, zeroIPCP))
	s.send(ipcp(ConfigureNak, 2, leaseIPCP))
	s.want(ipcp(ConfigureRequest, 3, leaseIPCP))
	s.wait(2999 * time.Millisecond) // the peer is there: no early one any more
	s.wantIdle()
	s.wait(time.Millisecond)
	s.want(ipcp(ConfigureRequest, 3, leaseIPCP))
}

// A Request that went out twice is acknowledged twice: accel-ppp acks in Opened
// without going down. The second Ack is no event.
func TestAccelAcksTwice(t *testing.T) {
	s := connect(t, Config{})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.wait(250 * time.Millisecond)
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	s.wantIdle()
	s.send(lcp(ConfigureRequest, 5, authMSv2, accelTail))
	s.want(lcp(ConfigureAck, 5, authMSv2, accelTail))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	s.send(lcp(ConfigureNak, 1, "01040578"))
	s.wantIdle()
	s.wantPhase(PhaseAuthenticate)
}

// accel-ppp's Protocol-Reject may carry the two octets of the protocol alone.
func TestAccelShortProtocolReject(t *testing.T) {
	s := connect(t, Config{IPv6: true})
	s.network()
	s.next()
	s.send(lcp(ProtocolReject, 9, "8057"))
	s.wantIdle()
	s.wantAlive()
	if s.l.ipv6cp.state != stopped {
		t.Errorf("IPV6CP in %v, want Stopped", s.l.ipv6cp.state)
	}
}

// The Request of RRAS: one Reject of all we do not take, then the Nak of EAP.
func TestRRASRequest(t *testing.T) {
	frames := map[string][]byte{}
	for _, f := range vectorFrames(t) {
		frames[f.Name] = octets(f.PPPFrame)
	}
	s := connect(t, Config{})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	s.send(frames["RRAS-like ConfReq"])
	s.want(frames["our Reject of 7,8,13,17,19"])
	s.send(lcp(ConfigureRequest, 1, "01040ffb", authEAP, "050601020305"))
	s.want(lcp(ConfigureNak, 1, authMSv2))
	s.send(lcp(ConfigureRequest, 2, "01040ffb", authMSv2, "050601020305"))
	s.want(lcp(ConfigureAck, 2, "01040ffb", authMSv2, "050601020305"))
	if s.l.MTU() != 4091 {
		t.Errorf("MTU: got %d, want 4091", s.l.MTU())
	}
	s.send(lcp(Identification, 3, "01020305", text("MSRASV5.20\x00")))
	s.wantIdle()
	if got := s.l.Identification(); got != "MSRASV5.20" {
		t.Errorf("identification: got %q", got)
	}
}

// An RRAS whose policy is EAP alone repeats its Request, and then gives up.
func TestRRASWithEAPOnly(t *testing.T) {
	for name, end := range map[string]func(*server){
		"terminate": func(s *server) { s.send(lcp(TerminateRequest, 9)) },
		"down":      func(s *server) { s.l.Down(s.now) },
		"silence":   func(s *server) { s.wait(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			s := connect(t, Config{Methods: []Method{MSCHAPv2, PAP}})
			s.send(lcp(ConfigureRequest, 1, authEAP))
			s.send(lcp(ConfigureRequest, 2, authEAP))
			s.want(lcp(ConfigureRequest, 1, ourMagic))
			s.want(lcp(ConfigureNak, 1, authMSv2))
			s.want(lcp(ConfigureNak, 2, authPAP)) // MS-CHAPv2 was refused
			end(s)
			var none *NoCommonAuthError
			if err := s.l.Err(); !errors.As(err, &none) || !slices.Equal(none.Offered, []string{"EAP"}) {
				t.Errorf("got %v, want *NoCommonAuthError", err)
			}
		})
	}
}

// MikroTik's PAP-Ack says Length 4 and then has a text behind it.
func TestMikroTikPAPAckPadding(t *testing.T) {
	s := connect(t, Config{Methods: []Method{PAP}})
	s.establish(authPAP)
	s.next()
	s.send(octets("ff03c023 02 02 0004 08 4c6f67696e206f6b"))
	s.wantPhase(PhaseNetwork)
}

// MikroTik and Keenetic bring MPLSCP, others BACP: each is rejected by itself.
func TestKeeneticMPLSCP(t *testing.T) {
	s := connect(t, Config{})
	s.establish(authMSv2)
	s.send(ctl(ProtoMPLSCP, ConfigureRequest, 1)) // not in this phase
	s.wantIdle()
	s.authenticate(1)
	s.next()
	rejected := []Protocol{ProtoMPLSCP, ProtoCCP, ProtoECP, ProtoBACP, ProtoBAP, ProtoLQR, ProtoEAP, ProtoIPV6CP, 0x4221, 0}
	for i, p := range rejected {
		s.send(ctl(p, ConfigureRequest, 1))
		s.want(lcp(ProtocolReject, 3+uint8(i), hex.EncodeToString([]byte{byte(p >> 8), byte(p)}), "01010004"))
	}
	s.send(ipcp(ConfigureNak, 2, leaseIPCP))
	s.want(ipcp(ConfigureRequest, 3+uint8(len(rejected)), leaseIPCP)) // IPCP goes on
	s.wantAlive()
}

// sorz, with pppd behind it, asks for ACCM, magic number, PFC and ACFC.
func TestSorzRequest(t *testing.T) {
	s := connect(t, Config{})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureRequest, 1, "020600000000", authMSv2, "050699887766 0702 0802"))
	s.want(lcp(ConfigureReject, 1, "0702 0802"))
	s.send(lcp(ConfigureRequest, 2, "020600000000", authMSv2, "050699887766"))
	s.want(lcp(ConfigureAck, 2, "020600000000", authMSv2, "050699887766"))
}

// sorz was seen to Nak the magic number without end.
func TestSorzNaksMagicForEver(t *testing.T) {
	s := connect(t, Config{})
	for n := 0; s.l.Err() == nil; n++ {
		if n > 100 {
			t.Fatal("no end")
		}
		_, pkt := parse(t, s.next())
		s.send(lcp(ConfigureNak, pkt.Identifier, "050677777777"))
	}
	var config *ConfigError
	if !errors.As(s.l.Err(), &config) || config.Protocol != ProtoLCP {
		t.Errorf("got %v", s.l.Err())
	}
}

// ogital offers PAP first, which is refused unless it is permitted.
func TestOgitalOffersPAPFirst(t *testing.T) {
	s := connect(t, Config{Methods: []Method{MSCHAPv2, CHAPMD5}})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureRequest, 1, authPAP))
	s.want(lcp(ConfigureNak, 1, authMSv2))
	s.send(lcp(ConfigureRequest, 2, authMD5)) // not the first choice, but accepted
	s.want(lcp(ConfigureAck, 2, authMD5))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	s.send(chap(CHAPChallenge, 7, "04 01020304", text("ogital")))
	want := MD5Response(7, "wonderland", octets("01020304"))
	s.want(chap(CHAPResponse, 7, "10", hex.EncodeToString(want[:]), text("alice")))
	s.send(chap(CHAPSuccess, 7, text("welcome")))
	if hlak, ok := s.l.Authenticated(); !ok || hlak != [32]byte{} || s.l.Method() != CHAPMD5 {
		t.Errorf("got %x, %v, %v", hlak, ok, s.l.Method())
	}
}

// A server without IPv4 to give may still have IPv6.
func TestIPv6Alone(t *testing.T) {
	s := connect(t, Config{IPv6: true})
	s.establish(authMSv2)
	s.authenticate(1)
	s.want(ipcp(ConfigureRequest, 2, zeroIPCP))
	s.send(lcp(ProtocolReject, 9, "8021 01020016"))
	s.want(ipv6cp(ConfigureRequest, 3, "010a15161718191a1b1c"))
	s.send(ipv6cp(ConfigureAck, 3, "010a15161718191a1b1c"))
	s.send(ipv6cp(ConfigureRequest, 1, "010a0000000000000001"))
	s.want(ipv6cp(ConfigureAck, 1, "010a0000000000000001"))
	s.wantAlive()
	if _, ok := s.l.IPv4(); ok || !s.l.Opened() {
		t.Error("want IPv6 alone")
	}
	s.send(lcp(ProtocolReject, 10, "8057")) // and now that is gone as well
	s.want(ipv6cp(TerminateRequest, 4))     // as RFC 1661 has it
	s.wantAlive()
	s.send(lcp(ProtocolReject, 11, "8057"))
	var rejected *RejectedError
	if err := s.l.Err(); !errors.Is(err, ErrNoAddress) || !errors.As(err, &rejected) || rejected.Protocol != ProtoIPCP {
		t.Errorf("got %v", err)
	}
}

// SoftEther takes a static address; a peer that rejects the option leaves us
// with it.
func TestStaticAddress(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.7")
	s := connect(t, Config{Addr: addr})
	s.establish(authMSv2)
	s.authenticate(1)
	s.want(ipcp(ConfigureRequest, 2, "0306c0000207 810600000000 830600000000"))
	s.send(ipcp(ConfigureReject, 2, "0306c0000207 810600000000 830600000000"))
	s.want(ipcp(ConfigureRequest, 3))
	s.send(ipcp(ConfigureAck, 3))
	s.send(ipcp(ConfigureRequest, 1))
	s.want(ipcp(ConfigureAck, 1))
	if v, ok := s.l.IPv4(); !ok || v.Addr != addr || v.Peer.IsValid() || v.DNS != nil {
		t.Errorf("got %v, %v", v, ok)
	}
}
