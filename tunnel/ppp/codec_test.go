package ppp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
)

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
