package ppp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Protocol is the PPP protocol field (RFC 1661 §2). The zero value is no
// assigned protocol.
type Protocol uint16

// Assigned protocol numbers that travel on an SSTP link.
//
// To add one: the constant, its name in protocolNames, and a case in
// Link.dispatch if we speak it; all others are answered by Protocol-Reject.
const (
	ProtoIPv4       Protocol = 0x0021
	ProtoMultilink  Protocol = 0x003D
	ProtoIPv6       Protocol = 0x0057
	ProtoCompressed Protocol = 0x00FD
	ProtoIPCP       Protocol = 0x8021
	ProtoBCP        Protocol = 0x8031
	ProtoECP        Protocol = 0x8053
	ProtoIPV6CP     Protocol = 0x8057
	ProtoCCP        Protocol = 0x80FD
	ProtoMPLSCP     Protocol = 0x8281
	ProtoLCP        Protocol = 0xC021
	ProtoPAP        Protocol = 0xC023
	ProtoLQR        Protocol = 0xC025
	ProtoCallback   Protocol = 0xC029
	ProtoBACP       Protocol = 0xC02B
	ProtoBAP        Protocol = 0xC02D
	ProtoCHAP       Protocol = 0xC223
	ProtoEAP        Protocol = 0xC227
)

var protocolNames = map[Protocol]string{
	ProtoIPv4: "IPv4", ProtoMultilink: "Multilink", ProtoIPv6: "IPv6",
	ProtoCompressed: "compressed datagram", ProtoIPCP: "IPCP", ProtoBCP: "BCP",
	ProtoECP: "ECP", ProtoIPV6CP: "IPV6CP", ProtoCCP: "CCP", ProtoMPLSCP: "MPLSCP",
	ProtoLCP: "LCP", ProtoPAP: "PAP", ProtoLQR: "LQR", ProtoCallback: "Callback",
	ProtoBACP: "BACP", ProtoBAP: "BAP", ProtoCHAP: "CHAP", ProtoEAP: "EAP",
}

// String is the protocol's usual name, or its number in hex.
func (p Protocol) String() string {
	if s, ok := protocolNames[p]; ok {
		return s
	}
	return fmt.Sprintf("protocol %#04x", uint16(p))
}

// HeaderLen is the length in octets of the header that is written before the
// information field: address FF, control 03, two octets of protocol
// (RFC 1662 §3.1, RFC 1661 §2).
const HeaderLen = 4

// ErrMalformed is wrapped by every error a parser of this package returns:
// the octets break the layout the standard gives. "Silently discard" is what
// the standards ask of the receiver.
var ErrMalformed = errors.New("malformed")

// ParseFrame splits a PPP frame into its protocol and information field; info
// is a sub-slice of b and may be empty. Frames with compressed address and
// control fields (RFC 1661 §6.6) or a compressed protocol field (§6.5) are
// taken too, although we never agree to them. The error wraps ErrMalformed.
func ParseFrame(b []byte) (p Protocol, info []byte, err error) {
	f := b
	if len(f) >= 2 && f[0] == 0xFF && f[1] == 0x03 {
		f = f[2:]
	}
	switch {
	case len(f) >= 1 && f[0]&1 == 1:
		return Protocol(f[0]), f[1:], nil
	case len(f) >= 2:
		return Protocol(binary.BigEndian.Uint16(f)), f[2:], nil
	}
	return 0, nil, fmt.Errorf("ppp: frame: %d octets, no protocol field: %w", len(b), ErrMalformed)
}

// PutHeader writes the full header for protocol p into the first HeaderLen
// octets of b, which must be at least that long.
func PutHeader(b []byte, p Protocol) {
	_ = b[HeaderLen-1]
	b[0], b[1], b[2], b[3] = 0xFF, 0x03, byte(p>>8), byte(p)
}

// AppendFrame appends a frame with the full header and returns the extended
// slice.
func AppendFrame(b []byte, p Protocol, info []byte) []byte {
	b = append(b, 0xFF, 0x03, byte(p>>8), byte(p))
	return append(b, info...)
}
