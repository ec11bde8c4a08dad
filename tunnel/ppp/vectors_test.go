package ppp

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
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
