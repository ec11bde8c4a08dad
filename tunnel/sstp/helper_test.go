package sstp_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"

	"sstproxy/tunnel/sstp"
)

// vector is one entry of testdata/vectors.json.
type vector struct {
	ID, Kind, Source, Citation string

	In  json.RawMessage
	Out json.RawMessage
}

func loadVectors(tb testing.TB) []vector {
	tb.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(b, &file); err != nil {
		tb.Fatal(err)
	}
	return file.Vectors
}

// decode reads the in and out parts of the vector with that id.
func decode(tb testing.TB, id string, in, out any) {
	tb.Helper()
	for _, v := range loadVectors(tb) {
		if v.ID != id {
			continue
		}
		if err := json.Unmarshal(v.In, in); err != nil {
			tb.Fatal(err)
		}
		if err := json.Unmarshal(v.Out, out); err != nil {
			tb.Fatal(err)
		}
		return
	}
	tb.Fatalf("no vector %q", id)
}

// octets is a hex string in a vector.
type octets []byte

func (o *octets) UnmarshalText(text []byte) (err error) {
	*o, err = hex.DecodeString(string(text))
	return err
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// namedPacket is one row of the vector sstp-control-packets.
type namedPacket struct {
	Name   string
	Packet octets
}

func controlPackets(tb testing.TB) []namedPacket {
	tb.Helper()
	var out struct{ Packets []namedPacket }
	decode(tb, "sstp-control-packets", &struct{}{}, &out)
	if len(out.Packets) != 17 {
		tb.Fatalf("%d control packets, want 17", len(out.Packets))
	}
	return out.Packets
}

// packetNamed is the control packet of that name.
func packetNamed(tb testing.TB, name string) []byte {
	tb.Helper()
	for _, p := range controlPackets(tb) {
		if p.Name == name {
			return p.Packet
		}
	}
	tb.Fatalf("no control packet %q", name)
	return nil
}

// testCertificate is the DER of the published test certificate.
func testCertificate(tb testing.TB) []byte {
	tb.Helper()
	var out struct {
		DER octets `json:"cert_der"`
	}
	decode(tb, "test-certificate", &struct{}{}, &out)
	return out.DER
}

// epoch is when the calls of the tests begin.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// parse reads a whole control packet.
func parse(tb testing.TB, packet []byte) sstp.Message {
	tb.Helper()
	p, n, err := sstp.ParsePacket(packet)
	if err != nil || n != len(packet) || !p.Control {
		tb.Fatalf("ParsePacket(%x) = %+v, %d, %v", packet, p, n, err)
	}
	m, err := sstp.ParseMessage(p.Payload)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// payload is the payload of a message.
func payload(m sstp.Message) []byte { return m.Append(nil)[sstp.HeaderLen:] }

// with is a message with those attributes.
func with(t sstp.MessageType, attributes ...sstp.Attribute) sstp.Message {
	return sstp.Message{Type: t, Attributes: attributes}
}

// status is a message that carries that Status Info.
func status(t sstp.MessageType, id sstp.AttributeID, s sstp.Status) sstp.Message {
	return with(t, sstp.StatusInfo{AttribID: id, Status: s}.Attribute())
}

// ack is a Call Connect Ack that offers those hashes.
func ack(hashes sstp.HashProtocol) sstp.Message {
	r := sstp.CryptoBindingRequest{Hashes: hashes}
	for i := range r.Nonce {
		r.Nonce[i] = 0xa0 + byte(i)
	}
	return with(sstp.CallConnectAck, r.Attribute())
}

// lines is the packets that a call wants to send, as the debug log shows them.
func lines(tb testing.TB, c *sstp.Call) []string {
	tb.Helper()
	var got []string
	for _, packet := range c.Pending() {
		got = append(got, parse(tb, packet).String())
	}
	return got
}
