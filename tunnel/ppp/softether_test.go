package ppp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// The frames marked "transcript" are octet for octet those of the lab
// recordings, but for our own identifiers where the probe made other Requests.

// seEcho is SoftEther's LCP Echo-Request: magic number 0 and 16 octets.
var seEcho = lcp(EchoRequest, 0, "00000000 41686f2042616b61204d616e756b6500")

// replaying supplies the magic number and a transcript's peer challenges.
func replaying(challenges ...string) *bytes.Reader {
	random := octets("01020304")
	for _, c := range challenges {
		random = append(random, octets(c)...)
	}
	return bytes.NewReader(random)
}

// softEtherLCP plays LCP up to CHAP or PAP: magic rejected, EAP first.
func softEtherLCP(s *server) {
	s.t.Helper()
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureReject, 1, ourMagic))
	s.want(lcp(ConfigureRequest, 2))
	s.send(lcp(ConfigureAck, 2))
	s.send(lcp(ConfigureRequest, 0, authEAP))
	s.want(lcp(ConfigureNak, 0, s.l.cfg.Methods[0].hexOption()))
	s.send(seEcho) // before Opened: no answer
	s.wantIdle()
}

func (m Method) hexOption() string {
	return hex.EncodeToString(AppendOptions(nil, []Option{m.Option()}))
}

func TestSoftEtherTranscript(t *testing.T) {
	s := connect(t, Config{Rand: replaying("0be9f68d07c3885c458c7eea818b63a6")})
	softEtherLCP(s)
	s.send(lcp(ConfigureRequest, 1, authMSv2))
	s.want(lcp(ConfigureAck, 1, authMSv2))
	s.wait(608 * time.Millisecond)
	s.send(chap(CHAPChallenge, 2, "1033b0760c3cfdd56aeae35bad022ca412766d"))
	s.want(chap(CHAPResponse, 2, "310be9f68d07c3885c458c7eea818b63a60000000000000000"+
		"b14791e9ab6fce6fe731c18be5c12f5b432c4b4b4d9b379800616c696365")) // transcript
	s.wantPhase(PhaseAuthenticate)
	s.send(chap(CHAPSuccess, 2, text("S=424D0A6D7C2C95CFD862DAC2E630EF62C43BDF7E")))
	if _, ok := s.l.Authenticated(); !ok || s.l.Method() != MSCHAPv2 {
		t.Fatalf("not authenticated, method %v", s.l.Method())
	}
	s.want(ipcp(ConfigureRequest, 3, zeroIPCP))
	s.send(ipcp(ConfigureNak, 3, leaseIPCP))
	s.want(ipcp(ConfigureRequest, 4, leaseIPCP))
	s.send(ipcp(ConfigureRequest, 3, gateway))
	s.want(ipcp(ConfigureAck, 3, gateway))
	s.wait(1568 * time.Millisecond) // its Ack is that late, and ours is not repeated
	s.wantIdle()
	s.send(ipcp(ConfigureAck, 4, leaseIPCP))
	s.wantIdle()
	v, ok := s.l.IPv4()
	dns := []netip.Addr{netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("10.80.0.1")}
	if !ok || v.Addr.String() != "10.80.0.10" || v.Peer.String() != "10.80.0.1" || !slices.Equal(v.DNS, dns) {
		t.Errorf("IPv4: got %+v, %v", v, ok)
	}
	s.send(seEcho)
	s.want(lcp(EchoReply, 0, "00000000 41686f2042616b61204d616e756b6500"))
	if s.l.MTU() != 1500 {
		t.Errorf("MTU: got %d, want 1500", s.l.MTU())
	}
	s.wantAlive()
}

func TestSoftEtherNaksMRU(t *testing.T) {
	s := connect(t, Config{MRU: 4091})
	s.want(lcp(ConfigureRequest, 1, "01040ffb", ourMagic))
	s.send(lcp(ConfigureReject, 1, ourMagic))
	s.want(lcp(ConfigureRequest, 2, "01040ffb"))
	s.send(lcp(ConfigureNak, 2, "010405dc"))
	s.want(lcp(ConfigureRequest, 3, "010405dc"))
	s.send(lcp(ConfigureRequest, 1, authMSv2))
	s.want(lcp(ConfigureAck, 1, authMSv2))
	s.wantPhase(PhaseEstablish)
	s.wait(300 * time.Millisecond) // transcript: this Ack took 0.3 s
	s.wantIdle()
	s.send(lcp(ConfigureAck, 3, "010405dc"))
	s.wantPhase(PhaseAuthenticate)
	if s.l.MTU() != 1500 {
		t.Errorf("MTU: got %d, want the peer's 1500", s.l.MTU())
	}
}

// The hub without a second DNS server; IPV6CP waits until IPCP is open, and
// SoftEther's own choice of our interface identifier is taken.
func TestSoftEtherHubWithIPv6(t *testing.T) {
	s := connect(t, Config{User: "alice@LABBR", Password: "wonderland", IPv6: true,
		Rand: replaying("9917008342a73ab801a5095f50ef292b", "3ace77ffa5bbebb8")})
	softEtherLCP(s)
	s.send(lcp(ConfigureRequest, 1, authMSv2))
	s.want(lcp(ConfigureAck, 1, authMSv2))
	s.send(chap(CHAPChallenge, 2, "102c30119559070777790016ecd30d7938766d"))
	s.want(chap(CHAPResponse, 2, "319917008342a73ab801a5095f50ef292b0000000000000000"+
		"ac298373a09734ab09777efac641fb7574f0141b08e4eea400616c696365404c41424252")) // transcript
	s.send(chap(CHAPSuccess, 2, text("S=3D06E5D5BF2531706F48E8B69E22FA70B4D3670E")))
	s.want(ipcp(ConfigureRequest, 3, zeroIPCP))
	s.wantIdle() // no IPV6CP yet
	s.send(ipcp(ConfigureReject, 3, "830600000000"))
	s.want(ipcp(ConfigureRequest, 4, "030600000000 810600000000"))
	s.send(ipcp(ConfigureRequest, 3, "03060a4f0001"))
	s.want(ipcp(ConfigureAck, 3, "03060a4f0001"))
	s.send(ipcp(ConfigureRequest, 3, "03060a4f0001")) // the same again
	s.want(ipcp(ConfigureAck, 3, "03060a4f0001"))
	s.send(ipcp(ConfigureNak, 4, "03060a4f0070 81060a4f0001"))
	s.want(ipcp(ConfigureRequest, 5, "03060a4f0070 81060a4f0001"))
	s.wantIdle()
	s.send(ipcp(ConfigureAck, 5, "03060a4f0070 81060a4f0001"))
	if v, ok := s.l.IPv4(); !ok || len(v.DNS) != 1 || v.DNS[0].String() != "10.79.0.1" {
		t.Errorf("IPv4: got %+v, %v", v, ok)
	}
	s.want(ipv6cp(ConfigureRequest, 6, "010a38ce77ffa5bbebb8")) // universal bit cleared
	s.send(ipv6cp(ConfigureRequest, 4, "010aed6558b10b1781aa"))
	s.want(ipv6cp(ConfigureAck, 4, "010aed6558b10b1781aa"))
	s.send(ipv6cp(ConfigureNak, 6, "010ad3e6cafeffd3e6c8"))
	s.want(ipv6cp(ConfigureRequest, 7, "010ad3e6cafeffd3e6c8"))
	s.send(ipv6cp(ConfigureAck, 7, "010ad3e6cafeffd3e6c8"))
	v, ok := s.l.IPv6()
	if !ok || hex.EncodeToString(v.InterfaceID[:]) != "d3e6cafeffd3e6c8" ||
		hex.EncodeToString(v.PeerInterfaceID[:]) != "ed6558b10b1781aa" {
		t.Errorf("IPv6: got %x, %v", v, ok)
	}
	s.wantIdle()
}

func TestSoftEtherWrongPassword(t *testing.T) {
	s := connect(t, Config{})
	softEtherLCP(s)
	s.send(lcp(ConfigureRequest, 1, authMSv2))
	s.want(lcp(ConfigureAck, 1, authMSv2))
	s.send(chap(CHAPChallenge, 2, "106d947ea4ddc51141c8c63e0b3a3b94a4766d"))
	s.next()
	s.send(chap(CHAPFailure, 2, text("E=691 R=0 C=6D947EA4DDC51141C8C63E0B3A3B94A4 V=3")))
	var auth *AuthError
	if err := s.l.Err(); !errors.As(err, &auth) || auth.Failure.Code != 691 || auth.Failure.Retry ||
		hex.EncodeToString(auth.Failure.Challenge) != "6d947ea4ddc51141c8c63e0b3a3b94a4" {
		t.Fatalf("got %v", err)
	}
	if _, ok := s.l.Authenticated(); ok {
		t.Error("authenticated")
	}
	s.want(lcp(TerminateRequest, 3))
	s.send(lcp(TerminateRequest, 3))
	s.want(lcp(TerminateAck, 3))
	s.send(lcp(TerminateAck, 3))
	s.bye()
}

func TestSoftEtherPAPTranscript(t *testing.T) {
	s := connect(t, Config{Methods: []Method{PAP}})
	softEtherLCP(s)
	s.send(lcp(ConfigureRequest, 1, authMSv2)) // the hint was ignored
	s.want(lcp(ConfigureNak, 1, authPAP))
	s.wait(300 * time.Millisecond)
	s.send(lcp(ConfigureRequest, 2, authPAP))
	s.want(lcp(ConfigureAck, 2, authPAP))
	s.want(pap(PAPRequest, 3, "05616c6963650a776f6e6465726c616e64"))
	s.wait(304 * time.Millisecond)
	s.wantIdle()
	s.send(pap(PAPAck, 3)) // Length 4: not even the length octet of the text
	hlak, ok := s.l.Authenticated()
	if !ok || hlak != [32]byte{} || s.l.Method() != PAP {
		t.Errorf("got %x, %v, %v", hlak, ok, s.l.Method())
	}
	s.want(ipcp(ConfigureRequest, 4, zeroIPCP))
}

// After wrong PAP credentials SoftEther sends a Terminate-Request and no word.
func TestSoftEtherPAPRefusedByTerminate(t *testing.T) {
	s := connect(t, Config{Methods: []Method{PAP}})
	s.establish(authPAP)
	s.want(pap(PAPRequest, 2, "05616c6963650a776f6e6465726c616e64"))
	s.send(lcp(TerminateRequest, 3))
	var auth *AuthError
	if err := s.l.Err(); !errors.As(err, &auth) || auth.Method != PAP {
		t.Fatalf("got %v, want *AuthError", err)
	}
	s.want(lcp(TerminateAck, 3))
	s.wantPhase(PhaseTerminate)
	s.wait(3 * time.Second)
	s.bye()
}

// Before anything of the credentials went out a Terminate-Request says nothing
// about them.
func TestTerminateBeforeCredentials(t *testing.T) {
	s := connect(t, Config{})
	s.establish(authMSv2)
	s.send(lcp(TerminateRequest, 3, text("shutdown")))
	var end *TerminatedError
	if err := s.l.Err(); !errors.As(err, &end) || end.Phase != PhaseAuthenticate || end.Text != "shutdown" {
		t.Fatalf("got %v", err)
	}
}

// An EAP Nak, which we never send, makes SoftEther negotiate LCP again; so may
// others in PhaseAuthenticate. The link goes down to Establish and comes back.
func TestSoftEtherReopensLCPDuringAuthenticate(t *testing.T) {
	s := connect(t, Config{})
	s.establish(authMSv2)
	s.wantPhase(PhaseAuthenticate)
	s.send(lcp(ConfigureRequest, 2, authMSv2))
	s.want(lcp(ConfigureRequest, 2, ourMagic))
	s.want(lcp(ConfigureAck, 2, authMSv2))
	s.wantPhase(PhaseEstablish)
	s.send(chap(CHAPChallenge, 1, challenge1)) // out of phase
	s.wantIdle()
	s.send(lcp(ConfigureAck, 2, ourMagic))
	s.wantPhase(PhaseAuthenticate)
	s.authenticate(7)
	s.lease(3)
	s.wantAlive()
}

// SoftEther repeats its IPCP Request after our Ack, also in Opened.
func TestSoftEtherRepeatsItsRequest(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	for range 200 {
		s.send(ipcp(ConfigureRequest, 1, gateway))
		s.want(ipcp(ConfigureAck, 1, gateway))
		if !s.l.Opened() {
			t.Fatal("went down for a retransmission")
		}
	}
	s.send(lcp(ConfigureRequest, 1, authMSv2))
	s.want(lcp(ConfigureAck, 1, authMSv2))
	s.wantPhase(PhaseNetwork)
}

// SoftEther drops a control packet that repeats the identifier before it: each
// of our Requests, of any protocol, has the next one.
func TestSoftEtherWantsRisingIdentifiers(t *testing.T) {
	s := connect(t, Config{IPv6: true, EchoInterval: time.Second})
	s.network()
	s.send(ctl(ProtoECP, ConfigureRequest, 1))
	s.wait(3500 * time.Millisecond)
	s.l.Close(s.now)
	s.collect()
	want := uint8(4)
	for _, f := range s.got {
		p, pkt := parse(t, f)
		if p == ProtoIPV6CP && pkt.Identifier == 4 {
			continue // and its retransmissions
		}
		if want++; pkt.Identifier != want {
			t.Errorf("%s: want identifier %d", Describe(f), want)
		}
	}
	if want < 8 {
		t.Errorf("%d identifiers seen", want)
	}
}

// With a RADIUS proxy SoftEther sends a second challenge before its Success:
// the last pair counts, whatever the identifiers are.
func TestSoftEtherDoubleMSCHAPv2(t *testing.T) {
	const challenge2 = "10 33b0760c3cfdd56aeae35bad022ca412 766d"
	s := connect(t, Config{})
	s.establish(authMSv2)
	s.send(chap(CHAPChallenge, 1, challenge1))
	s.next()
	s.send(chap(CHAPChallenge, 1, challenge2))
	_, pkt := parse(t, s.next())
	s.send(chap(CHAPSuccess, 1, text(proofOf(t, pkt, challenge2, "alice", "wonderland"))))
	if _, ok := s.l.Authenticated(); !ok {
		t.Fatalf("not authenticated: %v", s.l.Err())
	}
}

// A Success that is late, for the challenge before the last, proves as much.
func TestSuccessForEarlierChallenge(t *testing.T) {
	s := connect(t, Config{})
	s.establish(authMSv2)
	s.send(chap(CHAPChallenge, 1, challenge1))
	proof := s.proof(1)
	s.send(chap(CHAPChallenge, 2, "10 33b0760c3cfdd56aeae35bad022ca412 766d"))
	s.next()
	s.send(chap(CHAPSuccess, 1, text(proof)))
	s.wantPhase(PhaseNetwork)
}

// SoftEther 4: PAP first, MS-CHAPv2 next; the challenge comes each second, also
// after Success, until it sees IPCP; its address is 1.0.0.1; no IPv6.
func TestSoftEther4(t *testing.T) {
	s := connect(t, Config{IPv6: true})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureReject, 1, ourMagic))
	s.want(lcp(ConfigureRequest, 2))
	s.send(lcp(ConfigureAck, 2))
	s.send(lcp(ConfigureRequest, 0, authPAP))
	s.want(lcp(ConfigureNak, 0, authMSv2))
	s.send(lcp(ConfigureRequest, 1, authMSv2))
	s.want(lcp(ConfigureAck, 1, authMSv2))
	s.send(chap(CHAPChallenge, 0, challenge1))
	first := s.got[0]
	proof := s.proof(0)
	for range 30 {
		s.wait(time.Second)
		s.got = nil
		s.send(chap(CHAPChallenge, 0, challenge1))
		s.want(first)
	}
	s.send(chap(CHAPSuccess, 0, text(proof)))
	s.want(ipcp(ConfigureRequest, s.l.ipcp.sentID, zeroIPCP)) // at once
	s.send(chap(CHAPChallenge, 0, challenge1))
	s.want(first)
	s.send(chap(CHAPSuccess, 0, text(proof)))
	s.wantIdle()
	id := s.l.ipcp.sentID
	s.send(ipcp(ConfigureRequest, 1, "030601000001"))
	s.want(ipcp(ConfigureAck, 1, "030601000001"))
	s.send(ipcp(ConfigureNak, id, leaseIPCP))
	s.want(ipcp(ConfigureRequest, id+1, leaseIPCP))
	s.send(ipcp(ConfigureAck, id+1, leaseIPCP))
	s.want(ipv6cp(ConfigureRequest, id+2, "010a15161718191a1b1c"))
	s.send(lcp(ProtocolReject, 9, "8057 01"))
	s.wantIdle()
	s.wantAlive()
	if _, ok := s.l.IPv6(); ok || !s.l.Opened() {
		t.Errorf("IPv6 %v, opened %v", ok, s.l.Opened())
	}
}

// SoftEther hangs up after 20 s without a packet of ours (version 4: 10 s), set-
// up included, and never answers an SSTP echo: LCP Echo-Requests go out each 5 s
// of silence, as soon as LCP is open.
func TestSoftEtherKeepalive(t *testing.T) {
	s := connect(t, Config{})
	s.establish(authMSv2)
	s.wait(5 * time.Second)
	s.want(lcp(EchoRequest, 2, "01020304"))
	s.wantIdle()
	s.send(lcp(EchoReply, 2, "00000000"))
	s.wait(4999 * time.Millisecond)
	s.wantIdle()
	s.wait(time.Millisecond)
	s.want(lcp(EchoRequest, 3, "01020304"))
	s.send(lcp(EchoReply, 3, "00000000"))
	// Data that goes out counts; data that comes in does not replace it.
	for range 10 {
		s.wait(time.Second)
		s.l.Heard(s.now)
		s.l.Sent(s.now)
	}
	s.wantIdle()
	for range 5 {
		s.wait(time.Second)
		s.l.Heard(s.now)
	}
	s.want(lcp(EchoRequest, 4, "01020304"))
}

// EAP must be refused at LCP, and every time: SoftEther never gets out of a
// later refusal.
func TestSoftEtherEAPRefusedAtLCP(t *testing.T) {
	s := connect(t, Config{})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	for id := range uint8(5) {
		s.send(lcp(ConfigureRequest, id, authEAP))
		s.want(lcp(ConfigureNak, id, authMSv2))
		s.send(lcp(ConfigureRequest, id, authEAP)) // a retransmission does not count
		s.want(lcp(ConfigureNak, id, authMSv2))
	}
	s.send(lcp(ConfigureRequest, 5, authEAP))
	var none *NoCommonAuthError
	if err := s.l.Err(); !errors.As(err, &none) || !slices.Equal(none.Offered, []string{"EAP"}) ||
		!slices.Equal(none.Acceptable, []Method{MSCHAPv2}) {
		t.Fatalf("got %v", err)
	}
	s.want(lcp(TerminateRequest, 2))
}
