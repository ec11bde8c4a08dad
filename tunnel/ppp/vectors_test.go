package ppp

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"sstproxy/tunnel/ppp/mschap"
)

// proofOf computes the authenticator response to a Response packet.
func proofOf(t *testing.T, pkt Packet, challenge, user, password string) string {
	t.Helper()
	value, name, err := ParseCHAPValue(pkt.Data)
	if err != nil {
		t.Fatal(err)
	}
	if string(name) != user {
		t.Errorf("name: got %q, want %q", name, user)
	}
	peer, nt, err := ParseMSCHAPv2Response(value)
	if err != nil {
		t.Fatal(err)
	}
	auth := [16]byte(octets(challenge)[1:17])
	hashed := mschap.HashedUser(user)
	if want, err := mschap.NTResponse(auth, peer, hashed, password); err != nil || nt != want {
		t.Errorf("NT-Response: got %x, want %x, error %v", nt, want, err)
	}
	proof, err := mschap.AuthenticatorResponse(auth, peer, nt, hashed, password)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

// vector reads one vector's in and out.
func vector(t *testing.T, id string, in, out any) {
	t.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			ID      string
			In, Out json.RawMessage
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	for _, v := range file.Vectors {
		if v.ID != id {
			continue
		}
		if err := errors.Join(json.Unmarshal(v.In, in), json.Unmarshal(v.Out, out)); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no vector %q", id)
}

// vectorFrame is a row of the vector ppp-frames.
type vectorFrame struct {
	Name, Dir string
	PPPFrame  string `json:"ppp_frame"`
}

func vectorFrames(t *testing.T) []vectorFrame {
	t.Helper()
	var out struct{ Frames []vectorFrame }
	vector(t, "ppp-frames", &struct{}{}, &out)
	if len(out.Frames) < 34 {
		t.Fatalf("%d frames, want 34 or more", len(out.Frames))
	}
	return out.Frames
}

// Every frame parses, comes out the same again, and has no prefix that parses.
func TestVectorFrames(t *testing.T) {
	for _, f := range vectorFrames(t) {
		t.Run(f.Name, func(t *testing.T) {
			frame := octets(f.PPPFrame)
			p, pkt := parse(t, frame)
			whole := HeaderLen + packetHeaderLen + len(pkt.Data)
			if got := AppendFrame(nil, p, pkt.Append(nil)); !bytes.Equal(got, frame[:whole]) {
				t.Errorf("again: got %x, want %x", got, frame[:whole])
			}
			for n := range whole {
				if _, info, err := ParseFrame(frame[:n:n]); err == nil {
					if _, err = ParsePacket(info); !errors.Is(err, ErrMalformed) {
						t.Errorf("prefix of %d octets: got error %v, want ErrMalformed", n, err)
					}
				}
			}
			if pkt.Code <= ConfigureReject && (p == ProtoLCP || p == ProtoIPCP || p == ProtoIPV6CP) {
				checkOptions(t, pkt.Data)
			}
		})
	}
}

// checkOptions parses options, appends them again, and tries every prefix that
// does not end between two options.
func checkOptions(t *testing.T, data []byte) {
	t.Helper()
	opts, err := ParseOptions(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := AppendOptions(nil, opts); !bytes.Equal(got, data) {
		t.Errorf("options again: got %x, want %x", got, data)
	}
	ends := map[int]bool{0: true}
	for n := 0; n < len(data); n += int(data[n+1]) {
		ends[n] = true
	}
	for n := range data {
		if _, err := ParseOptions(data[:n:n]); (err == nil) != ends[n] {
			t.Errorf("options, prefix of %d octets: error %v", n, err)
		}
	}
}

func TestVectorCompressedFraming(t *testing.T) {
	var in map[string]string
	var out struct{ Payload, Protocol string }
	vector(t, "ppp-compressed-framing", &in, &out)
	for name, frame := range in {
		p, info, err := ParseFrame(octets(frame))
		if err != nil || p != ProtoIPv4 || hex.EncodeToString(info) != out.Payload {
			t.Errorf("%s: got %v %x, error %v", name, p, info, err)
		}
	}
	if len(in) != 4 {
		t.Errorf("%d forms, want 4", len(in))
	}
}

func TestVectorFailureStrings(t *testing.T) {
	type parsed struct {
		E, R, V int
		C, M    string
	}
	var in struct{ Strings []string }
	var out struct{ Parsed []parsed }
	vector(t, "mschapv2-failure-strings", &in, &out)
	for i, s := range in.Strings {
		f, want := ParseFailure([]byte(s)), out.Parsed[i]
		if f.Code != want.E || f.Retry != (want.R == 1) || f.Version != want.V ||
			hex.EncodeToString(f.Challenge) != want.C || f.Message != want.M {
			t.Errorf("%q: got %+v, want %+v", s, f, want)
		}
	}
}

func TestVectorCHAPMD5(t *testing.T) {
	var in, out map[string]string
	vector(t, "chap-md5", &in, &out)
	got := MD5Response(octets(in["identifier"])[0], in["secret"], octets(in["challenge"]))
	if hex.EncodeToString(got[:]) != out["response"] {
		t.Errorf("got %x, want %s", got, out["response"])
	}
}

// The octets of RFC 2759 §9.2 as packets: our Response, and both Successes.
func TestVectorCHAPFrames(t *testing.T) {
	frames := map[string][]byte{}
	for _, f := range vectorFrames(t) {
		frames[f.Name] = octets(f.PPPFrame)
	}
	var in, keys map[string]string
	vector(t, "mschapv2-rfc2759", &in, &map[string]string{})
	vector(t, "hlak-mschapv2", &map[string]string{}, &keys)
	for _, success := range []string{"CHAP success", "CHAP success with text"} {
		random := append(octets("deadbeef"), octets(in["peer_challenge"])...)
		s := connect(t, Config{User: in["user"], Password: in["password"], Rand: bytes.NewReader(random)})
		s.want(lcp(ConfigureRequest, 1, "0506deadbeef"))
		s.send(lcp(ConfigureAck, 1, "0506deadbeef"))
		s.send(frames["ConfReq MS-CHAPv2"])
		s.want(frames["our Ack"])
		s.send(frames["CHAP challenge"])
		s.want(frames["CHAP response"])
		s.send(frames[success])
		hlak, ok := s.l.Authenticated()
		if !ok || hex.EncodeToString(hlak[:]) != keys["hlak_client"] {
			t.Errorf("%s: got HLAK %x, %v, want %s", success, hlak, ok, keys["hlak_client"])
		}
	}
}

// Live exchanges of the lab, the second with a hub in the user name.
func TestVectorLabExchanges(t *testing.T) {
	for _, id := range []string{"lab-softether-mschapv2-1", "lab-softether-mschapv2-hub"} {
		var in, out map[string]string
		vector(t, id, &in, &out)
		random := append(octets("deadbeef"), octets(in["peer_challenge"])...)
		s := connect(t, Config{User: in["user"], Password: in["password"], Rand: bytes.NewReader(random)})
		s.want(lcp(ConfigureRequest, 1, "0506deadbeef"))
		s.send(lcp(ConfigureAck, 1, "0506deadbeef"))
		s.send(lcp(ConfigureRequest, 1, authMSv2))
		s.want(lcp(ConfigureAck, 1, authMSv2))
		s.send(chap(CHAPChallenge, 2, "10", in["authenticator_challenge"], text("vm")))
		s.want(chap(CHAPResponse, 2, "31", in["peer_challenge"], "0000000000000000",
			out["nt_response"], "00", text(in["user"])))
		s.send(chap(CHAPSuccess, 2, text(out["authenticator_response"])))
		if hlak, ok := s.l.Authenticated(); !ok || hex.EncodeToString(hlak[:]) != out["hlak_client"] {
			t.Errorf("%s: got HLAK %x, %v, want %s", id, hlak, ok, out["hlak_client"])
		}
	}
}

// The PPP cases of negative-inputs: a Link in any phase discards them.
func TestVectorNegativeInputs(t *testing.T) {
	var out struct {
		Cases []struct{ Name, Input, Expect string }
	}
	vector(t, "negative-inputs", &struct{}{}, &out)
	const sstpHeaderLen = 4
	tried := 0
	for _, c := range out.Cases {
		frame := octets(c.Input)
		if len(frame) < sstpHeaderLen || frame[0] != 0x10 || frame[1] != 0 ||
			strings.HasPrefix(c.Name, "length") {
			continue
		}
		tried++
		for name, s := range inEveryPhase(t) {
			s.send(frame[sstpHeaderLen:])
			if c.Name == "EAP length 3" && s.l.Phase() == PhaseNetwork {
				s.next() // EAP as a whole is rejected there, whatever is in it
			}
			if name != "Dead" {
				s.wantIdle()
			}
			if s.l.Err() != nil && name != "Terminate" && name != "Dead" {
				t.Errorf("%s in phase %s: error %v", c.Name, name, s.l.Err())
			}
		}
	}
	if tried < 10 {
		t.Errorf("%d cases tried, want 10 or more", tried)
	}
}

// phasesUnderTest are the situations of inPhase.
var phasesUnderTest = []string{"Dead", "Establish", "Authenticate", "Network", "Opened", "Terminate"}

// inPhase returns a Link in the phase, with nothing pending; "Opened" is
// PhaseNetwork with IPCP open and IPV6CP under way.
func inPhase(t *testing.T, name string) *server {
	t.Helper()
	s := connect(t, Config{IPv6: name == "Opened"})
	switch name {
	case "Dead":
		s.l.Down(s.now)
	case "Authenticate":
		s.establish(authMSv2)
	case "Network":
		s.establish(authMSv2)
		s.authenticate(1)
	case "Opened":
		s.network()
	case "Terminate":
		s.network()
		s.l.Close(s.now)
	}
	s.collect()
	s.got = nil
	return s
}

func inEveryPhase(t *testing.T) map[string]*server {
	t.Helper()
	all := map[string]*server{}
	for _, name := range phasesUnderTest {
		all[name] = inPhase(t, name)
	}
	return all
}

// No prefix of any vector frame does harm in any phase.
func TestPrefixesInEveryPhase(t *testing.T) {
	for _, f := range vectorFrames(t) {
		frame := octets(f.PPPFrame)
		for n := range frame {
			for _, s := range inEveryPhase(t) {
				s.send(frame[:n:n])
			}
		}
	}
}

func TestFailureWords(t *testing.T) {
	for _, code := range []int{646, 647, 648, 649, 691, 709, 942} {
		if (Failure{Code: code}).Words() == "" {
			t.Errorf("no words for %d", code)
		}
	}
	if w := (Failure{Code: 1}).Words(); w != "" {
		t.Errorf("code 1: got %q", w)
	}
	odd := ParseFailure([]byte("M=a E=691"))
	if odd.Message != "a E=691" || odd.Code != 0 {
		t.Errorf("message first: got %+v", odd)
	}
	big := ParseFailure([]byte("E=99999999999999999999 R=2 V=-1 C=00"))
	if big.Code != 0 || big.Retry || big.Version != 0 || big.Challenge != nil {
		t.Errorf("nonsense values: got %+v", big)
	}
}

func TestPAPCodec(t *testing.T) {
	data, err := AppendPAPRequest(nil, "alice", "wonderland")
	if err != nil || hex.EncodeToString(data) != "05616c6963650a776f6e6465726c616e64" {
		t.Fatalf("got %x, error %v", data, err)
	}
	id, password, err := ParsePAPRequest(data)
	if err != nil || string(id) != "alice" || string(password) != "wonderland" {
		t.Errorf("got %q %q, error %v", id, password, err)
	}
	for n := range data {
		if _, _, err := ParsePAPRequest(data[:n:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("prefix of %d octets: got %v", n, err)
		}
	}
	long := strings.Repeat("x", 256)
	if _, err := AppendPAPRequest(nil, long, ""); err == nil || strings.Contains(err.Error(), long) {
		t.Errorf("long name: got %v", err)
	}
	if _, err := AppendPAPRequest(nil, "", long); err == nil || strings.Contains(err.Error(), long) {
		t.Errorf("long password: got %v", err)
	}
	for in, want := range map[string]string{"": "", "00": "", "024142": "AB", "05414243": "ABC", "0141ff": "A"} {
		if got := ParsePAPMessage(octets(in)); string(got) != want {
			t.Errorf("message %s: got %q, want %q", in, got, want)
		}
	}
	if got := ParsePAPMessage(AppendPAPMessage(nil, long)); len(got) != 255 {
		t.Errorf("long message: got %d octets", len(got))
	}
}

func TestCHAPCodec(t *testing.T) {
	data := AppendCHAPValue(nil, []byte{1, 2, 3}, "name")
	for n := range len(data) - len("name") {
		if _, _, err := ParseCHAPValue(data[:n:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("prefix of %d octets: got %v", n, err)
		}
	}
	value, name, err := ParseCHAPValue(data)
	if err != nil || !bytes.Equal(value, []byte{1, 2, 3}) || string(name) != "name" {
		t.Errorf("got %x %q, error %v", value, name, err)
	}
	if _, _, err := ParseCHAPValue([]byte{0, 'x'}); !errors.Is(err, ErrMalformed) {
		t.Errorf("empty value: got %v", err)
	}
	if _, _, err := ParseMSCHAPv2Response(make([]byte, 48)); !errors.Is(err, ErrMalformed) {
		t.Errorf("48 octets: got %v", err)
	}
	for msg, want := range map[string]bool{
		"S=407A5589115FD0D6209F510FE9C04566932CDA56":      true,
		"S=407a5589115fd0d6209f510fe9c04566932cda56 M=Hi": true,
		"S=407A5589115FD0D6209F510FE9C04566932CDA5":       false,
		"S=407A5589115FD0D6209F510FE9C04566932CDA5G":      false,
		"M=Hi S=407A5589115FD0D6209F510FE9C04566932CDA56": false,
		"": false, "S=": false, "M=Authentication succeeded": false,
	} {
		if got, ok := parseAuthenticatorResponse([]byte(msg)); ok != want || ok && got != "S=407A5589115FD0D6209F510FE9C04566932CDA56" {
			t.Errorf("%q: got %q, %v", msg, got, ok)
		}
	}
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		ProtoIPV6CP.String(): "IPV6CP", Protocol(0x1234).String(): "protocol 0x1234",
		ConfigureNak.String(): "Configure-Nak", Code(0).String(): "code 0x00", Code(200).String(): "code 0xc8",
		PAP.String(): "PAP", Method(0).String(): "none", Method(9).String(): "method 9",
		PhaseNetwork.String(): "Network", Phase(9).String(): "phase 9", ackRcvd.String(): "AckRcvd",
		authName(Option{3, octets("c227")}): "EAP", authName(Option{3, octets("c22380")}): "MS-CHAPv1",
		authName(Option{3, octets("c22399")}): "CHAP algorithm 99", authName(Option{3, octets("c2")}): "malformed option c2",
		authName(Option{3, octets("c023")}): "PAP", authName(Option{3, octets("c029")}): "Callback",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, m := range []Method{MSCHAPv2, CHAPMD5, PAP} {
		if got, ok := MethodOf(m.Option()); !ok || got != m {
			t.Errorf("%v: its option is %v, %v", m, got, ok)
		}
	}
}

// Describe never shows what must not be in a log, and never fails.
func TestDescribe(t *testing.T) {
	for frame, want := range map[string]string{
		string(lcp(ConfigureRequest, 1, authMSv2, ourMagic)):  "LCP Configure-Request id=1 <3 c22381> <5 01020304>",
		string(lcp(ConfigureRequest, 1, "01")):                "LCP Configure-Request id=1 malformed options 01",
		string(lcp(TerminateRequest, 2, text("bye\n"))):       `LCP Terminate-Request id=2 "bye"`,
		string(lcp(Identification, 2, "00000000", text("x"))): `LCP Identification id=2 "x"`,
		string(lcp(ProtocolReject, 2, "80fd")):                "LCP Protocol-Reject id=2 80fd",
		string(lcp(EchoRequest, 2, "00000000")):               "LCP Echo-Request id=2 len=8",
		string(pap(PAPRequest, 3, "0161 0170")):               "PAP Authenticate-Request id=3",
		string(pap(PAPNak, 3, "0161")):                        `PAP Authenticate-Nak id=3 "a"`,
		string(chap(CHAPResponse, 4, "0161")):                 "CHAP Response id=4",
		string(chap(CHAPSuccess, 4, text("S=00"))):            "CHAP Success id=4",
		string(chap(CHAPFailure, 4, text("E=691 R=0"))):       `CHAP Failure id=4 E=691 R=false M=""`,
		string(chap(9, 4)):                                    "CHAP code 0x09 id=4",
		"\xff\x03\x00\x21\x45":                                "IPv4 len=1",
		"\xff\x03":                                            "2 octets without a protocol",
		"\xff\x03\xc0\x21\x01":                                "LCP malformed len=1",
	} {
		if got := Describe([]byte(frame)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, f := range vectorFrames(t) {
		got := Describe(octets(f.PPPFrame))
		if got == "" || strings.Contains(got, "wonderland") || strings.Contains(got, "407A5589") {
			t.Errorf("%s: %q", f.Name, got)
		}
	}
}

func TestPutHeader(t *testing.T) {
	b := make([]byte, 6)
	PutHeader(b, ProtoIPv6)
	if !bytes.Equal(b, octets("ff030057 0000")) {
		t.Errorf("got %x", b)
	}
	frame := AppendFrame(nil, ProtoIPv4, bytes.Repeat([]byte{0x45}, 1400))
	if n := testing.AllocsPerRun(100, func() {
		PutHeader(b, ProtoIPv4)
		if _, info, err := ParseFrame(frame); err != nil || len(info) != 1400 {
			t.Error("parse failed")
		}
	}); n != 0 {
		t.Errorf("%v allocations per packet, want 0", n)
	}
	if !slices.Equal(frame[:4], octets("ff030021")) {
		t.Errorf("got %x", frame[:4])
	}
}
