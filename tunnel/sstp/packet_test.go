package sstp_test

import (
	"bytes"
	"errors"
	"testing"

	"sstproxy/tunnel/sstp"
)

func TestParsePacketRejectsLostFraming(t *testing.T) {
	for _, test := range []struct{ name, in string }{
		{"version 2.0", "2001000800080000"},
		{"version at the first octet already", "48"},
		{"length 0", "10000000"},
		{"length 3", "10000003"},
		{"control, length 3", "10010003"},
		{"control, length 4", "10010004"},
		{"control, length 7, seen before the rest is there", "10010007"},
		{"reserved bits do not lengthen", "1001f007000800"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, n, err := sstp.ParsePacket(unhex(t, test.in)); n != 0 || !errors.Is(err, sstp.ErrFraming) {
				t.Errorf("got %d, %v, want 0, ErrFraming", n, err)
			}
		})
	}
}

func TestParsePacketAcceptsWhatIsIgnoredOnReceipt(t *testing.T) {
	for _, test := range []struct {
		name, in string
		control  bool
	}{
		{"reserved bits of length set", "1001f00800080000", true},
		{"reserved bits of C octet set", "10ff000800080000", true},
		{"reserved bits without C", "10fe0006ff03", false},
		{"data packet with no PPP octets", "10000004", false},
		{"data packet FF 03 only", "10000006ff03", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := unhex(t, test.in)
			p, n, err := sstp.ParsePacket(in)
			if err != nil || n != len(in) || p.Control != test.control || !bytes.Equal(p.Payload, in[4:]) {
				t.Errorf("got %+v, %d, %v", p, n, err)
			}
		})
	}
}

// Several packets may share one read, and one packet may need many.
func TestParsePacketWalksAStream(t *testing.T) {
	var stream []byte
	var want []namedPacket
	for _, p := range controlPackets(t) {
		stream = append(stream, p.Packet...)
		want = append(want, p)
	}
	frame := bytes.Repeat([]byte{0x45}, sstp.MaxPayloadLen)
	stream = sstp.AppendData(stream, frame)
	for _, w := range want {
		p, n, err := sstp.ParsePacket(stream)
		if err != nil || !p.Control || !bytes.Equal(stream[:n], w.Packet) {
			t.Fatalf("%s: got %x, %v", w.Name, stream[:n], err)
		}
		stream = stream[n:]
	}
	p, n, err := sstp.ParsePacket(stream)
	if err != nil || p.Control || n != sstp.MaxPacketLen || !bytes.Equal(p.Payload, frame) {
		t.Fatalf("data: got %d octets, %v", n, err)
	}
	if cap(p.Payload) != len(p.Payload) {
		t.Error("payload can be appended to over what follows it")
	}
}

func TestEveryPrefixOfAPacketIsIncomplete(t *testing.T) {
	packets := controlPackets(t)
	packets = append(packets, namedPacket{"data", sstp.AppendData(nil, []byte{0xff, 0x03, 0, 0x21, 0x45})})
	for _, p := range packets {
		for i := range p.Packet {
			if _, n, err := sstp.ParsePacket(p.Packet[:i]); n != 0 || err != nil {
				t.Errorf("%s: %d of %d octets: got %d, %v, want 0, nil", p.Name, i, len(p.Packet), n, err)
			}
		}
	}
}

func TestDataVectors(t *testing.T) {
	for _, id := range []string{"sstp-data-ipv4", "lab-sstp-data-rx"} {
		var in struct {
			IP octets `json:"ip_packet"`
		}
		var out struct {
			Packet octets `json:"sstp_packet"`
		}
		decode(t, id, &in, &out)
		frame := append([]byte{0xff, 0x03, 0x00, 0x21}, in.IP...)
		if got := sstp.AppendData([]byte("before"), frame); !bytes.Equal(got, append([]byte("before"), out.Packet...)) {
			t.Errorf("%s: AppendData = %x, want %x", id, got, out.Packet)
		}
		p, n, err := sstp.ParsePacket(out.Packet)
		if err != nil || n != len(out.Packet) || p.Control || !bytes.Equal(p.Payload, frame) {
			t.Errorf("%s: ParsePacket = %+v, %d, %v", id, p, n, err)
		}
	}
}

func TestPutHeader(t *testing.T) {
	for _, test := range []struct {
		control bool
		length  int
		want    string
	}{
		{false, 4, "10000004"},
		{true, 8, "10010008"},
		{false, 4095, "10000fff"},
	} {
		b := []byte{0xaa, 0xaa, 0xaa, 0xaa, 0xaa}
		sstp.PutHeader(b, test.control, test.length)
		if want := append(unhex(t, test.want), 0xaa); !bytes.Equal(b, want) {
			t.Errorf("PutHeader(%v, %d) = %x, want %x", test.control, test.length, b, want)
		}
	}
}

func TestPacketsThatDoNotFitPanic(t *testing.T) {
	for name, f := range map[string]func(){
		"length 3":           func() { sstp.PutHeader(make([]byte, 4), false, 3) },
		"length 4096":        func() { sstp.PutHeader(make([]byte, 4), false, 4096) },
		"frame of 4092":      func() { sstp.AppendData(nil, make([]byte, 4092)) },
		"attribute too long": func() { with(sstp.CallAbort, sstp.Attribute{Value: make([]byte, 4091)}).Append(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

func TestDataPathDoesNotAllocate(t *testing.T) {
	frame := make([]byte, 1500)
	buf := make([]byte, 0, 4096)
	packet := sstp.AppendData(nil, frame)
	call := connected(t)
	for name, f := range map[string]func(){
		"ParsePacket": func() { _, _, _ = sstp.ParsePacket(packet) },
		"PutHeader":   func() { sstp.PutHeader(buf[:8], false, 1504) },
		"AppendData":  func() { buf = sstp.AppendData(buf[:0], frame) },
		"Heard":       func() { call.Heard(epoch) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times, want 0", name, n)
		}
	}
}

func BenchmarkParsePacket(b *testing.B) {
	packet := sstp.AppendData(nil, make([]byte, 1504))
	b.SetBytes(int64(len(packet)))
	for b.Loop() {
		if _, n, err := sstp.ParsePacket(packet); n != len(packet) || err != nil {
			b.Fatal(n, err)
		}
	}
}
