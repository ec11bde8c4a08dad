package ppp

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Codes of CHAP (RFC 1994 §4).
const (
	CHAPChallenge Code = 1
	CHAPResponse  Code = 2
	CHAPSuccess   Code = 3
	CHAPFailure   Code = 4
)

// ParseCHAPValue parses the data of a Challenge or Response (RFC 1994 §4.1).
// Both results are sub-slices of data; value has at least one octet, name may
// be empty. The error wraps ErrMalformed.
func ParseCHAPValue(data []byte) (value, name []byte, err error) {
	value, name, ok := cutCounted(data)
	if !ok || len(value) == 0 {
		return nil, nil, fmt.Errorf("ppp: chap: value does not fit in %d octets: %w", len(data), ErrMalformed)
	}
	return value, name, nil
}

// AppendCHAPValue appends the data of a Challenge or Response and returns the
// extended slice. The value must have 1 to 255 octets.
func AppendCHAPValue(b, value []byte, name string) []byte {
	b = append(append(b, byte(len(value))), value...)
	return append(b, name...)
}

// MD5Response computes the response value of CHAP with MD5: the digest of
// identifier, secret and challenge (RFC 1994 §4.1).
func MD5Response(identifier uint8, secret string, challenge []byte) [16]byte {
	b := append([]byte{identifier}, secret...)
	return md5.Sum(append(b, challenge...))
}

// MSCHAPv2ChallengeLen is the length of a challenge in MS-CHAPv2 (RFC 2759 §3).
const MSCHAPv2ChallengeLen = 16

// msCHAPv2ResponseLen is the length of a response value (RFC 2759 §4).
const msCHAPv2ResponseLen = 49

// ParseMSCHAPv2Response takes the value of an MS-CHAPv2 Response apart
// (RFC 2759 §4). The reserved octets and the flags are not looked at. The
// error wraps ErrMalformed.
func ParseMSCHAPv2Response(value []byte) (peerChallenge [16]byte, ntResponse [24]byte, err error) {
	if len(value) != msCHAPv2ResponseLen {
		err = fmt.Errorf("ppp: ms-chapv2 response: %d octets, want 49: %w", len(value), ErrMalformed)
		return peerChallenge, ntResponse, err
	}
	copy(peerChallenge[:], value)
	copy(ntResponse[:], value[24:])
	return peerChallenge, ntResponse, nil
}

// AppendMSCHAPv2Response appends the 49 octets of an MS-CHAPv2 Response value
// (RFC 2759 §4) and returns the extended slice.
func AppendMSCHAPv2Response(b []byte, peerChallenge [16]byte, ntResponse [24]byte) []byte {
	b = append(b, peerChallenge[:]...)
	b = append(b, make([]byte, 8)...)
	b = append(b, ntResponse[:]...)
	return append(b, 0)
}

// Failure is the message of an MS-CHAPv2 Failure packet (RFC 2759 §6). A part
// the server left out is zero.
type Failure struct {
	Code      int    // E=: the reason, see Words
	Retry     bool   // R=1: the server would take another Response
	Challenge []byte // C=: 16 octets to use for that, or nil
	Version   int    // V=: version of the password change protocol
	Message   string // M=: text for the user
}

// ParseFailure parses the message of a Failure packet by its keys. It never
// fails: servers leave out any part, in any combination, and text without a
// known key yields the zero Failure. Nothing in the result aliases msg.
func ParseFailure(msg []byte) Failure {
	var f Failure
	head := string(msg)
	if strings.HasPrefix(head, "M=") {
		f.Message, head = head[2:], ""
	} else if before, text, ok := strings.Cut(head, " M="); ok {
		f.Message, head = text, before
	}
	for _, part := range strings.Fields(head) {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "E":
			f.Code = decimal(value)
		case "R":
			f.Retry = value == "1"
		case "V":
			f.Version = decimal(value)
		case "C":
			if c, err := hex.DecodeString(value); err == nil && len(c) == MSCHAPv2ChallengeLen {
				f.Challenge = c
			}
		}
	}
	return f
}

// decimal reads a number of up to ten digits; anything else is 0.
func decimal(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// Words says in plain words what the code means (RFC 2759 §6; 942 is
// SoftEther's own). It is empty for a code without a known meaning.
func (f Failure) Words() string {
	switch f.Code {
	case 646:
		return "logging on is not allowed at this hour"
	case 647:
		return "the account is disabled"
	case 648:
		return "the password has expired"
	case 649:
		return "the account has no permission to dial in"
	case 691:
		return "the user name or the password is wrong"
	case 709:
		return "the password could not be changed"
	case 942:
		return "the server holds no MS-CHAPv2 hash of this password, it must be set again there"
	}
	return ""
}

// parseAuthenticatorResponse takes the "S=" and 40 hex digits at the start of a
// Success message (RFC 2759 §5), in upper case. What follows is text.
func parseAuthenticatorResponse(msg []byte) (string, bool) {
	const digits = 40
	if len(msg) < 2+digits || !bytes.HasPrefix(msg, []byte("S=")) {
		return "", false
	}
	hexed := msg[2 : 2+digits]
	if _, err := hex.Decode(make([]byte, digits/2), hexed); err != nil {
		return "", false
	}
	return "S=" + strings.ToUpper(string(hexed)), true
}
