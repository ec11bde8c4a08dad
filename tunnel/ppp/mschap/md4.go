package mschap

import (
	"encoding/binary"
	"math/bits"
)

const md4BlockLen = 64

// md4 is the MD4 message digest (RFC 1320). It is broken as a hash; MS-CHAPv2
// is defined with it and has nothing else. Messages here are passwords, so it
// digests one slice at a time.
func md4(msg []byte) [16]byte {
	s := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476} // RFC 1320 §3.3
	for b := md4Pad(msg); len(b) > 0; b = b[md4BlockLen:] {
		md4Block(&s, b[:md4BlockLen])
	}
	var sum [16]byte
	for i, w := range s {
		binary.LittleEndian.PutUint32(sum[4*i:], w)
	}
	return sum
}

// md4Pad appends a one bit, zeros and the length in bits, up to a whole number
// of blocks (RFC 1320 §3.1, §3.2).
func md4Pad(msg []byte) []byte {
	b := make([]byte, 0, len(msg)+2*md4BlockLen)
	b = append(append(b, msg...), 0x80)
	for len(b)%md4BlockLen != md4BlockLen-8 {
		b = append(b, 0)
	}
	return binary.LittleEndian.AppendUint64(b, uint64(len(msg))*8)
}

// The order in which each round takes the words of a block, and its rotations
// (RFC 1320 §3.4).
var (
	md4Words = [3][16]int{
		{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15},
		{0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15},
	}
	md4Shifts = [3][4]int{{3, 7, 11, 19}, {3, 5, 9, 13}, {3, 9, 11, 15}}
	md4Sums   = [3]uint32{0, 0x5a827999, 0x6ed9eba1}
)

// md4Block mixes one block into the state (RFC 1320 §3.4).
func md4Block(s *[4]uint32, block []byte) {
	var x [16]uint32
	for i := range x {
		x[i] = binary.LittleEndian.Uint32(block[4*i:])
	}
	a, b, c, d := s[0], s[1], s[2], s[3]
	for round := range 3 {
		for i, k := range md4Words[round] {
			t := a + md4Mix(round, b, c, d) + x[k] + md4Sums[round]
			a, b, c, d = d, bits.RotateLeft32(t, md4Shifts[round][i%4]), b, c
		}
	}
	s[0], s[1], s[2], s[3] = s[0]+a, s[1]+b, s[2]+c, s[3]+d
}

// md4Mix is F, G or H, by the round.
func md4Mix(round int, x, y, z uint32) uint32 {
	switch round {
	case 0:
		return x&y | ^x&z
	case 1:
		return x&y | x&z | y&z
	}
	return x ^ y ^ z
}
