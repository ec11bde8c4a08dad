package offload

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// slowSum is RFC 1071 as it stands there.
func slowSum(b []byte) uint16 {
	var acc uint32
	for i, o := range b {
		if i%2 == 0 {
			acc += uint32(o) << 8
		} else {
			acc += uint32(o)
		}
		acc = acc>>16 + acc&0xFFFF
	}
	return uint16(acc>>16 + acc&0xFFFF)
}

func TestSum(t *testing.T) {
	// RFC 1071 §3
	if got := Sum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 0); got != 0xddf2 {
		t.Errorf("example of RFC 1071: got %#x, want 0xddf2", got)
	}
	b := bytes.Repeat([]byte{0xFF}, 300)
	for n := range 300 {
		if got, want := Sum(b[:n], 0xFFFF), slowSum(append([]byte{0xFF, 0xFF}, b[:n]...)); got != want {
			t.Errorf("%d octets: got %#x, want %#x", n, got, want)
		}
	}
	r := rand.NewPCG(1, 2)
	for i := range b {
		b[i] = byte(r.Uint64())
	}
	for n := range 300 {
		if got, want := Sum(b[:n], 0), slowSum(b[:n]); got != want {
			t.Errorf("%d octets: got %#x, want %#x", n, got, want)
		}
		if got, want := Sum(b[n:], 0), slowSum(b[n:]); got != want {
			t.Errorf("from %d on: got %#x, want %#x", n, got, want)
		}
		if n%2 == 0 && Sum(b[n:], Sum(b[:n], 0)) != slowSum(b) {
			t.Errorf("in two parts at %d: got %#x, want %#x", n, Sum(b[n:], Sum(b[:n], 0)), slowSum(b))
		}
	}
}

// TestChecksum: UDP has none that is zero (RFC 768), TCP may.
func TestChecksum(t *testing.T) {
	all := []byte{0xFF, 0xFF}
	if tcp, udp := Checksum(TCP, all, 0), Checksum(UDP, all, 0); tcp != 0 || udp != 0xFFFF {
		t.Errorf("got %#x for TCP and %#x for UDP, want 0 and 0xffff", tcp, udp)
	}
}

func BenchmarkSum(b *testing.B) {
	packet := make([]byte, 1400)
	b.SetBytes(int64(len(packet)))
	for b.Loop() {
		Sum(packet, 0)
	}
}
