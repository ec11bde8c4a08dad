package mschap

import (
	"crypto/des"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrNotUTF8 is returned for a password that is not valid UTF-8 and so has no
// UTF-16 form to hash.
var ErrNotUTF8 = errors.New("mschap: password is not valid UTF-8")

// HashedUser returns the part of a user name that enters the challenge hash:
// "DOMAIN\user" loses everything up to its last backslash, "user@domain" stays
// whole (RFC 2759 §4, §8.2). The Name field carries the name as typed.
func HashedUser(user string) string {
	return user[strings.LastIndexByte(user, '\\')+1:]
}

// NTPasswordHash is the MD4 digest of the password in UTF-16, little-endian,
// without byte order mark or terminator (RFC 2759 §8.3).
func NTPasswordHash(password string) ([16]byte, error) {
	if !utf8.ValidString(password) {
		return [16]byte{}, ErrNotUTF8
	}
	units := utf16.Encode([]rune(password))
	b := make([]byte, 0, 2*len(units))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return md4(b), nil
}

// ChallengeHash is the 8-octet challenge both sides compute with
// (RFC 2759 §8.2). user enters as given; see HashedUser.
func ChallengeHash(peerChallenge, authChallenge [16]byte, user string) [8]byte {
	h := sha1.New()
	h.Write(peerChallenge[:])
	h.Write(authChallenge[:])
	h.Write([]byte(user))
	return [8]byte(h.Sum(nil)[:8])
}

// NTResponse is the 24 octets that answer a challenge (RFC 2759 §8.1). user
// enters as given; see HashedUser. The error is ErrNotUTF8.
func NTResponse(authChallenge, peerChallenge [16]byte, user, password string) ([24]byte, error) {
	hash, err := NTPasswordHash(password)
	if err != nil {
		return [24]byte{}, err
	}
	return challengeResponse(ChallengeHash(peerChallenge, authChallenge, user), hash)
}

// challengeResponse encrypts the challenge with the three thirds of the
// zero-padded password hash (RFC 2759 §8.5).
func challengeResponse(challenge [8]byte, hash [16]byte) (resp [24]byte, err error) {
	var padded [21]byte
	copy(padded[:], hash[:])
	for i := range 3 {
		key := desKey([7]byte(padded[7*i:]))
		c, err := des.NewCipher(key[:])
		if err != nil {
			return [24]byte{}, fmt.Errorf("mschap: des: %w", err)
		}
		c.Encrypt(resp[8*i:], challenge[:])
	}
	return resp, nil
}

// desKey spreads 56 bits over eight octets, each with odd parity in its lowest
// bit (RFC 2759 §8.6, §9.3).
func desKey(k [7]byte) (key [8]byte) {
	var v uint64
	for _, b := range k {
		v = v<<8 | uint64(b)
	}
	for i := range key {
		b := byte(v>>(49-7*i)) << 1
		if bits.OnesCount8(b)%2 == 0 {
			b |= 1
		}
		key[i] = b
	}
	return key
}

// The texts RFC 2759 §8.7 and RFC 3079 §3.4 mix in.
const (
	magicSigning = "Magic server to client signing constant"
	magicPad     = "Pad to make it do more than one iteration"
	magicMaster  = "This is the MPPE Master Key"
	magicSend    = "On the client side, this is the send key; on the server side, it is the receive key."
	magicReceive = "On the client side, this is the receive key; on the server side, it is the send key."
)

// AuthenticatorResponse is "S=" and 40 upper-case hex digits: the server's
// proof that it knows the password too (RFC 2759 §8.7). user enters as given;
// see HashedUser. Compare it in constant time. The error is ErrNotUTF8.
func AuthenticatorResponse(authChallenge, peerChallenge [16]byte, ntResponse [24]byte, user, password string) (string, error) {
	hash, err := NTPasswordHash(password)
	if err != nil {
		return "", err
	}
	hashHash := md4(hash[:])
	challenge := ChallengeHash(peerChallenge, authChallenge, user)
	digest := sum(hashHash[:], ntResponse[:], []byte(magicSigning))
	digest = sum(digest[:], challenge[:], []byte(magicPad))
	return fmt.Sprintf("S=%X", digest), nil
}

// Keys are the client's 128-bit MPPE start keys of a successful exchange
// (RFC 3079 §3.3, §3.4); the server's are the same two the other way round.
// The error is ErrNotUTF8.
func Keys(ntResponse [24]byte, password string) (send, receive [16]byte, err error) {
	hash, err := NTPasswordHash(password)
	if err != nil {
		return send, receive, err
	}
	hashHash := md4(hash[:])
	master := masterKey(hashHash, ntResponse)
	return startKey(master, magicSend), startKey(master, magicReceive), nil
}

// HLAK is the higher-layer authentication key that SSTP's crypto binding takes
// from MS-CHAPv2: the client's send key, then its receive key ([MS-SSTP]
// 3.2.5.2.2). The error is ErrNotUTF8.
func HLAK(ntResponse [24]byte, password string) (hlak [32]byte, err error) {
	send, receive, err := Keys(ntResponse, password)
	if err != nil {
		return hlak, err
	}
	copy(hlak[:16], send[:])
	copy(hlak[16:], receive[:])
	return hlak, nil
}

// masterKey is GetMasterKey of RFC 3079 §3.4.
func masterKey(hashHash [16]byte, ntResponse [24]byte) [16]byte {
	d := sum(hashHash[:], ntResponse[:], []byte(magicMaster))
	return [16]byte(d[:16])
}

// startKey is GetAsymmetricStartKey of RFC 3079 §3.4 for 128 bits, with its
// two pads of 40 octets.
func startKey(master [16]byte, magic string) [16]byte {
	var pad1, pad2 [40]byte
	for i := range pad2 {
		pad2[i] = 0xF2
	}
	d := sum(master[:], pad1[:], []byte(magic), pad2[:])
	return [16]byte(d[:16])
}

// sum is the SHA-1 digest of the parts one after the other.
func sum(parts ...[]byte) (d [sha1.Size]byte) {
	h := sha1.New()
	for _, p := range parts {
		h.Write(p)
	}
	return [sha1.Size]byte(h.Sum(nil))
}
