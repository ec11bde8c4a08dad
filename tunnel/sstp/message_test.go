package sstp_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"sstproxy/tunnel/sstp"
)

func TestControlPacketVectors(t *testing.T) {
	want := map[string]string{
		"CallConnectRequest":                       "CallConnectRequest EncapsulatedProtocolID{2 octets}",
		"CallConnectAck sha256":                    "CallConnectAck CryptoBindingRequest{SHA-256}",
		"CallConnectAck sha1":                      "CallConnectAck CryptoBindingRequest{SHA-1}",
		"CallConnectAck both":                      "CallConnectAck CryptoBindingRequest{SHA-1|SHA-256}",
		"CallConnectAck none (sorz without cert)":  "CallConnectAck CryptoBindingRequest{none}",
		"CallConnectNak bad encapsulated protocol": "CallConnectNak StatusInfo{VALUE_NOT_SUPPORTED in EncapsulatedProtocolID}",
		"CallConnectNak attribute missing":         "CallConnectNak StatusInfo{REQUIRED_ATTRIBUTE_MISSING in EncapsulatedProtocolID}",
		"CallAbort unaccepted frame":               "CallAbort StatusInfo{UNACCEPTED_FRAME_RECEIVED}",
		"CallAbort binding mismatch":               "CallAbort StatusInfo{VALUE_NOT_SUPPORTED in CryptoBinding}",
		"CallAbort bare (SoftEther)":               "CallAbort",
		"CallAbort accel-ppp binding failure":      "CallAbort StatusInfo{INVALID_FRAME_RECEIVED in StatusInfo}",
		"CallDisconnect":                           "CallDisconnect StatusInfo{NO_ERROR}",
		"CallDisconnect bare (SoftEther)":          "CallDisconnect",
		"CallDisconnectAck":                        "CallDisconnectAck",
		"EchoRequest":                              "EchoRequest",
		"EchoResponse":                             "EchoResponse",
		"CallAbort short status (sorz)":            "CallAbort StatusInfo{UNACCEPTED_FRAME_RECEIVED}",
	}
	for _, p := range controlPackets(t) {
		t.Run(p.Name, func(t *testing.T) {
			m := parse(t, p.Packet)
			if got := m.String(); got != want[p.Name] {
				t.Errorf("got %q, want %q", got, want[p.Name])
			}
			if got := m.Append(nil); !bytes.Equal(got, p.Packet) {
				t.Errorf("Append = %x, want %x", got, p.Packet)
			}
		})
	}
}

// What this package builds from its typed values is what the vectors hold.
func TestBuiltPackets(t *testing.T) {
	refused := sstp.StatusInfo{AttribID: sstp.AttrEncapsulatedProtocolID, Status: sstp.StatusValueNotSupported, Value: []byte{0, 2}}
	for _, test := range []struct {
		name string
		m    sstp.Message
	}{
		{"CallConnectAck sha256", ack(sstp.HashSHA256)},
		{"CallConnectAck both", ack(sstp.HashSHA1 | sstp.HashSHA256)},
		{"CallConnectNak bad encapsulated protocol", with(sstp.CallConnectNak, refused.Attribute())},
		{"CallAbort unaccepted frame", status(sstp.CallAbort, 0, sstp.StatusUnacceptedFrameReceived)},
		{"CallDisconnect", status(sstp.CallDisconnect, 0, sstp.StatusNoError)},
		{"CallDisconnectAck", with(sstp.CallDisconnectAck)},
		{"EchoRequest", with(sstp.EchoRequest)},
	} {
		if got, want := test.m.Append(nil), packetNamed(t, test.name); !bytes.Equal(got, want) {
			t.Errorf("%s: got %x, want %x", test.name, got, want)
		}
	}
}

func TestEveryPrefixOfAMessageIsMalformed(t *testing.T) {
	for _, p := range controlPackets(t) {
		whole := p.Packet[sstp.HeaderLen:]
		for i := range whole {
			m, err := sstp.ParseMessage(whole[:i])
			if !errors.Is(err, sstp.ErrMalformed) {
				t.Errorf("%s: %d of %d octets: got %v, want ErrMalformed", p.Name, i, len(whole), err)
			}
			if want := parse(t, p.Packet).Type; i >= 2 && m.Type != want {
				t.Errorf("%s: %d octets: type %v, want %v", p.Name, i, m.Type, want)
			}
		}
	}
}

func TestEveryPrefixOfABindingIsMalformed(t *testing.T) {
	request := sstp.CryptoBindingRequest{}.Attribute().Value
	binding := sstp.CryptoBinding{}.Attribute().Value
	for i := range request {
		if _, err := sstp.ParseCryptoBindingRequest(request[:i]); !errors.Is(err, sstp.ErrMalformed) {
			t.Errorf("request of %d octets: %v", i, err)
		}
	}
	for i := range binding {
		if _, err := sstp.ParseCryptoBinding(binding[:i]); !errors.Is(err, sstp.ErrMalformed) {
			t.Errorf("binding of %d octets: %v", i, err)
		}
	}
	if _, err := sstp.ParseCryptoBindingRequest(append(request, 0)); !errors.Is(err, sstp.ErrMalformed) {
		t.Errorf("long request: %v", err)
	}
	if _, err := sstp.ParseCryptoBinding(append(binding, 0)); !errors.Is(err, sstp.ErrMalformed) {
		t.Errorf("long binding: %v", err)
	}
}

// The rows of negative-inputs that are about SSTP; the others are whole data
// packets to SSTP and malformed only to PPP.
func TestNegativeInputs(t *testing.T) {
	want := map[string]string{
		"version 2.0":                                  "framing",
		"length below 4":                               "framing",
		"length 0":                                     "framing",
		"control shorter than 8":                       "framing",
		"reserved bits of length set":                  "EchoRequest",
		"reserved bits of C octet set":                 "EchoRequest",
		"attribute longer than packet":                 "malformed",
		"attribute length 0":                           "malformed",
		"attribute count too high":                     "malformed",
		"trailing octets after the counted attributes": "EchoRequest",
		"unknown message type":                         "MessageType(0x00ff)",
	}
	var out struct {
		Cases []struct {
			Name  string
			Input octets
		}
	}
	decode(t, "negative-inputs", &struct{}{}, &out)
	for _, test := range out.Cases {
		t.Run(test.Name, func(t *testing.T) {
			expected, ok := want[test.Name]
			if !ok {
				expected = "data"
			}
			if got := reaction(test.Input); got != expected {
				t.Errorf("%x: got %s, want %s", test.Input, got, expected)
			}
		})
	}
}

func reaction(in []byte) string {
	p, n, err := sstp.ParsePacket(in)
	switch {
	case errors.Is(err, sstp.ErrFraming):
		return "framing"
	case n != len(in):
		return fmt.Sprintf("%d of %d octets", n, len(in))
	case !p.Control:
		return "data"
	}
	m, err := sstp.ParseMessage(p.Payload)
	if errors.Is(err, sstp.ErrMalformed) {
		return "malformed"
	}
	return m.String()
}

func TestParseMessageErrorNamesThePlace(t *testing.T) {
	// The second attribute states three octets.
	_, err := sstp.ParseMessage(unhex(t, "00050002"+"0002000c0000000000000005"+"00020003"))
	const want = "sstp: CallAbort: attribute 2 of 2: StatusInfo: length 3, want 4 to 4: malformed message"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestParseMessageKeepsWhatCameBeforeTheFault(t *testing.T) {
	m, err := sstp.ParseMessage(unhex(t, "00060002"+"0002000c0000000000000008"+"00"))
	if !errors.Is(err, sstp.ErrMalformed) {
		t.Fatal(err)
	}
	if info, ok := m.StatusInfo(); !ok || info.Status != sstp.StatusNegotiationTimeout {
		t.Errorf("got %v, %v", info, ok)
	}
}

func TestParseMessageBoundsItsInput(t *testing.T) {
	if _, err := sstp.ParseMessage(make([]byte, sstp.MaxPayloadLen+1)); !errors.Is(err, sstp.ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

func TestStatusInfoIsLenient(t *testing.T) {
	const abort = "0005"
	for _, test := range []struct {
		name, in string
		want     sstp.StatusInfo
		ok       bool
	}{
		{"bare (SoftEther)", abort + "0000", sstp.StatusInfo{}, false},
		{"four octets (sorz)", abort + "0001" + "00020008" + "00000005", sstp.StatusInfo{Status: 5}, true},
		{"attribute 0 (sorz, Call Disconnect)", "00060001" + "00000008" + "00000007", sstp.StatusInfo{Status: 7}, true},
		{"attribute 0, whole", "00060001" + "0000000c" + "0000000300000004", sstp.StatusInfo{AttribID: 3, Status: 4}, true},
		{"eight octets", abort + "0001" + "0002000c" + "0000000300000004", sstp.StatusInfo{AttribID: 3, Status: 4}, true},
		{"reserved octets set", abort + "0001" + "0002000c" + "ffffff0300000004", sstp.StatusInfo{AttribID: 3, Status: 4}, true},
		{"five octets", abort + "0001" + "00020009" + "0000000000", sstp.StatusInfo{}, false},
		{"no octets", abort + "0001" + "00020004", sstp.StatusInfo{}, false},
		{"after another attribute", abort + "0002" + "007f0004" + "0002000c" + "0000000000000008", sstp.StatusInfo{Status: 8}, true},
		{"unknown status", abort + "0001" + "0002000c" + "00000000deadbeef", sstp.StatusInfo{Status: 0xdeadbeef}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := sstp.ParseMessage(unhex(t, test.in))
			if err != nil {
				t.Fatal(err)
			}
			got, ok := m.StatusInfo()
			if ok != test.ok || got.AttribID != test.want.AttribID || got.Status != test.want.Status {
				t.Errorf("got %v, %v, want %v, %v", got, ok, test.want, test.ok)
			}
		})
	}
}

func TestStatusInfoValue(t *testing.T) {
	in := sstp.StatusInfo{AttribID: 1, Status: 4, Value: bytes.Repeat([]byte{7}, 70)}
	value := in.Attribute().Value
	got, err := sstp.ParseStatusInfo(value)
	if err != nil || len(got.Value) != 64 || !bytes.Equal(got.Value, in.Value[:64]) {
		t.Errorf("got %d octets, %v, want the first 64", len(got.Value), err)
	}
	for i := range 8 {
		if _, err := sstp.ParseStatusInfo(value[:i]); !errors.Is(err, sstp.ErrMalformed) {
			t.Errorf("%d octets: %v", i, err)
		}
	}
	if got, err := sstp.ParseStatusInfo(value[:8]); err != nil || got.Value != nil {
		t.Errorf("8 octets: %v, %v", got, err)
	}
}

func TestNames(t *testing.T) {
	for _, test := range []struct {
		got  fmt.Stringer
		want string
	}{
		{sstp.MessageType(0), "MessageType(0x0000)"},
		{sstp.EchoResponse, "EchoResponse"},
		{sstp.MessageType(10), "MessageType(0x000a)"},
		{sstp.AttrNoError, "NoError"},
		{sstp.AttributeID(5), "AttributeID(0x05)"},
		{sstp.StatusStatusInfoNotSupportedInMsg, "STATUS_INFO_NOT_SUPPORTED_IN_MSG"},
		{sstp.Status(12), "Status(0x0000000c)"},
		{sstp.HashSHA1, "SHA-1"},
		{sstp.HashSHA256, "SHA-256"},
		{sstp.HashProtocol(0x84), "HashProtocol(0x84)"},
		{sstp.CallDisconnectTimeoutPending, "CallDisconnectTimeoutPending"},
		{sstp.State(99), "State(99)"},
		{with(0x77, sstp.Attribute{ID: 9, Value: []byte("abc")}), "MessageType(0x0077) AttributeID(0x09){3 octets}"},
		{with(sstp.CallAbort, sstp.Attribute{ID: sstp.AttrStatusInfo}), "CallAbort StatusInfo{0 octets}"},
		{sstp.CallConnectedMessage(sstp.CryptoBinding{Hash: sstp.HashSHA256}), "CallConnected CryptoBinding{SHA-256}"},
	} {
		if got := test.got.String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestStatusWords(t *testing.T) {
	seen := map[string]sstp.Status{}
	for s := range sstp.Status(12) {
		words := s.Words()
		if other, dup := seen[words]; dup || words == "" {
			t.Errorf("%v and %v say the same: %q", s, other, words)
		}
		seen[words] = s
	}
	if got := sstp.Status(12).Words(); got != "no known reason" {
		t.Errorf("unknown status: %q", got)
	}
	binding := sstp.StatusInfo{AttribID: sstp.AttrCryptoBinding, Status: sstp.StatusValueNotSupported}
	if got := binding.Words(); got != "the crypto binding does not match" {
		t.Errorf("binding: %q", got)
	}
}
