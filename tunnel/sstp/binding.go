package sstp

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
)

// HashProtocol is a hash protocol of the crypto binding, and in a Crypto
// Binding Request a bitmask of them (2.2.6, 2.2.7).
type HashProtocol uint8

// The two hash protocols.
const (
	HashSHA1   HashProtocol = 0x01
	HashSHA256 HashProtocol = 0x02
)

// String names one hash protocol or the members of a bitmask.
func (h HashProtocol) String() string {
	switch h {
	case 0:
		return "none"
	case HashSHA1:
		return "SHA-1"
	case HashSHA256:
		return "SHA-256"
	case HashSHA1 | HashSHA256:
		return "SHA-1|SHA-256"
	}
	return fmt.Sprintf("HashProtocol(0x%02x)", uint8(h))
}

// ChooseHash takes the strongest hash protocol of a bitmask; unknown bits are
// passed over, and ok is false if there are no others. An empty bitmask gives
// SHA-256: sorz/sstp-server sends one when it was given no certificate, and
// verifies nothing then.
func ChooseHash(bitmask HashProtocol) (h HashProtocol, ok bool) {
	switch {
	case bitmask&HashSHA256 != 0 || bitmask == 0:
		return HashSHA256, true
	case bitmask&HashSHA1 != 0:
		return HashSHA1, true
	}
	return 0, false
}

// new is the hash function: SHA-1 for HashSHA1, SHA-256 for everything else.
func (h HashProtocol) new() hash.Hash {
	if h == HashSHA1 {
		return sha1.New()
	}
	return sha256.New()
}

// CertificateHash is the hash of the server's certificate, which is the DER of
// the leaf as TLS delivered it (2.2.7). With SHA-1 the last 12 octets are
// zero. Values other than HashSHA1 mean SHA-256.
func CertificateHash(h HashProtocol, der []byte) [32]byte {
	sum := h.new()
	sum.Write(der)
	var out [32]byte
	copy(out[:], sum.Sum(nil))
	return out
}

// cmkSeed is the seed S of the PRF that makes the compound MAC key (3.2.5.2).
const cmkSeed = "SSTP inner method derived CMK"

// CompoundMACKey derives the CMK from the HLAK, the higher-layer
// authentication key (3.2.5.2): 20 octets with SHA-1, otherwise 32. It is a
// secret. One block of the PRF is the whole key, so that the only round is
// HMAC(HLAK, seed | LEN | 01).
func CompoundMACKey(h HashProtocol, hlak [32]byte) []byte {
	mac := hmac.New(h.new, hlak[:])
	mac.Write([]byte(cmkSeed))
	// LEN is little-endian, alone in this protocol; the published vectors of
	// 4.7 come out with nothing else.
	mac.Write(binary.LittleEndian.AppendUint16(nil, uint16(mac.Size())))
	mac.Write([]byte{1})
	return mac.Sum(nil)
}

// CallConnectedMessage is the 112-octet Call Connected that carries b (2.2.11).
func CallConnectedMessage(b CryptoBinding) Message {
	return Message{CallConnected, []Attribute{b.Attribute()}}
}

// Sign returns b with the compound MAC over its Call Connected (3.2.5.2).
// hlak is the higher-layer authentication key: 32 zero octets after PAP and
// CHAP-MD5. It is not kept.
func (b CryptoBinding) Sign(hlak [32]byte) CryptoBinding {
	// The MAC covers the packet with its own 32 octets zero.
	b.CompoundMAC = [32]byte{}
	key := CompoundMACKey(b.Hash, hlak)
	defer clear(key)
	mac := hmac.New(b.Hash.new, key)
	mac.Write(CallConnectedMessage(b).Append(nil))
	copy(b.CompoundMAC[:], mac.Sum(nil))
	return b
}

// Verify reports whether the compound MAC is the one hlak gives, in constant
// time. It is false for a Hash that is not one of the two. Whether nonce and
// certificate hash are the right ones is for the caller to compare.
func (b CryptoBinding) Verify(hlak [32]byte) bool {
	if b.Hash != HashSHA1 && b.Hash != HashSHA256 {
		return false
	}
	want := b.Sign(hlak)
	return hmac.Equal(b.CompoundMAC[:], want.CompoundMAC[:])
}
