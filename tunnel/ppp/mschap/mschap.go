package mschap

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"layeh.com/radius/rfc2759"
	"layeh.com/radius/rfc3079"
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
// without byte order mark or terminator (RFC 2759 §8.3). The error is
// ErrNotUTF8.
func NTPasswordHash(password string) (hash [16]byte, err error) {
	if err := check(password); err != nil {
		return hash, err
	}
	wide, err := rfc2759.ToUTF16([]byte(password))
	if err != nil {
		return hash, fmt.Errorf("mschap: %w", err)
	}
	defer clear(wide)
	return [16]byte(rfc2759.NTPasswordHash(wide)), nil
}

// ChallengeHash is the 8-octet challenge both sides compute with
// (RFC 2759 §8.2). user enters as given; see HashedUser.
func ChallengeHash(peerChallenge, authChallenge [16]byte, user string) [8]byte {
	return [8]byte(rfc2759.ChallengeHash(peerChallenge[:], authChallenge[:], []byte(user)))
}

// NTResponse is the 24 octets that answer a challenge (RFC 2759 §8.1). user
// enters as given; see HashedUser. The error is ErrNotUTF8.
func NTResponse(authChallenge, peerChallenge [16]byte, user, password string) (nt [24]byte, err error) {
	if err := check(password); err != nil {
		return nt, err
	}
	b, err := rfc2759.GenerateNTResponse(authChallenge[:], peerChallenge[:], []byte(user), []byte(password))
	if err != nil {
		return nt, fmt.Errorf("mschap: %w", err)
	}
	return [24]byte(b), nil
}

// AuthenticatorResponse is "S=" and 40 upper-case hex digits: the server's
// proof that it knows the password too (RFC 2759 §8.7). user enters as given;
// see HashedUser. Compare it in constant time. The error is ErrNotUTF8.
func AuthenticatorResponse(authChallenge, peerChallenge [16]byte, ntResponse [24]byte, user, password string) (string, error) {
	if err := check(password); err != nil {
		return "", err
	}
	s, err := rfc2759.GenerateAuthenticatorResponse(authChallenge[:], peerChallenge[:], ntResponse[:], []byte(user), []byte(password))
	if err != nil {
		return "", fmt.Errorf("mschap: %w", err)
	}
	return s, nil
}

// Keys are the client's 128-bit MPPE start keys of a successful exchange
// (RFC 3079 §3.3, §3.4); the server's are the same two the other way round.
// The error is ErrNotUTF8.
func Keys(ntResponse [24]byte, password string) (send, receive [16]byte, err error) {
	if err := check(password); err != nil {
		return send, receive, err
	}
	// The library's isSend is the view of the server.
	s, err := rfc3079.MakeKey(ntResponse[:], []byte(password), false)
	if err != nil {
		return send, receive, fmt.Errorf("mschap: %w", err)
	}
	defer clear(s)
	r, err := rfc3079.MakeKey(ntResponse[:], []byte(password), true)
	if err != nil {
		return send, receive, fmt.Errorf("mschap: %w", err)
	}
	defer clear(r)
	return [16]byte(s), [16]byte(r), nil
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

func check(password string) error {
	if !utf8.ValidString(password) {
		return ErrNotUTF8
	}
	return nil
}
