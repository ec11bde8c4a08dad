package offload

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds the Internet checksum of b (RFC 1071) to a partial one over an even
// number of octets. The result is not complemented: over data that include their
// checksum it is 0xFFFF.
//
// It adds words in the machine's byte order: "the sum of 16-bit integers can be
// computed in either byte order" (RFC 1071 §2).
func Sum(b []byte, partial uint16) uint16 {
	e := binary.NativeEndian
	acc, carry := uint64(swap(partial)), uint64(0)
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		acc, carry = bits.Add64(acc, e.Uint64(p[0:]), 0)
		acc, carry = bits.Add64(acc, e.Uint64(p[8:]), carry)
		acc, carry = bits.Add64(acc, e.Uint64(p[16:]), carry)
		acc, carry = bits.Add64(acc, e.Uint64(p[24:]), carry)
		acc, carry = bits.Add64(acc, e.Uint64(p[32:]), carry)
		acc, carry = bits.Add64(acc, e.Uint64(p[40:]), carry)
		acc, carry = bits.Add64(acc, e.Uint64(p[48:]), carry)
		acc, carry = bits.Add64(acc, e.Uint64(p[56:]), carry)
		acc += carry
		b = b[64:]
	}
	for len(b) >= 16 {
		p := (*[16]byte)(b)
		acc, carry = bits.Add64(acc, e.Uint64(p[0:]), 0)
		acc, carry = bits.Add64(acc, e.Uint64(p[8:]), carry)
		acc += carry
		b = b[16:]
	}
	// What is left has no more than 15 octets, and its words add up to less than
	// 32 bits more.
	acc = acc>>32 + acc&0xFFFFFFFF
	for ; len(b) >= 4; b = b[4:] {
		acc += uint64(e.Uint32(b))
	}
	if len(b) >= 2 {
		acc += uint64(e.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		acc += uint64(swap(uint16(b[0]) << 8))
	}
	return swap(fold(acc))
}

// fold adds up the 16-bit words of a sum.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xFFFFFFFF
	acc = acc>>16 + acc&0xFFFF
	acc = acc>>16 + acc&0xFFFF
	return uint16(acc>>16 + acc)
}

// swap turns a sum in the machine's byte order into one in that of the network,
// or back.
func swap(sum uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], sum)
	return binary.BigEndian.Uint16(b[:])
}
