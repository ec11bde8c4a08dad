package netns

import (
	"encoding/binary"
	"math/bits"
)

// sum adds the Internet checksum of b (RFC 1071) to a partial one. The result is
// not complemented.
func sum(b []byte, partial uint16) uint16 {
	acc, carry := uint64(partial), uint64(0)
	for len(b) >= 32 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[24:]), carry)
		acc, carry = bits.Add64(acc, 0, carry)
		b = b[32:]
	}
	acc = acc>>32 + acc&0xFFFFFFFF + carry
	for ; len(b) >= 2; b = b[2:] {
		acc += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		acc += uint64(b[0]) << 8
	}
	for acc > 0xFFFF {
		acc = acc>>16 + acc&0xFFFF
	}
	return uint16(acc)
}

// pseudo is the sum over the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1) of an
// IP packet's upper layer, which has n octets.
func pseudo(packet []byte, proto byte, n int) uint16 {
	length := [4]byte{0, proto}
	binary.BigEndian.PutUint16(length[2:], uint16(n))
	if packet[0]>>4 == 4 {
		return sum(packet[12:20], sum(length[:], 0))
	}
	return sum(packet[8:40], sum(length[:], 0))
}
