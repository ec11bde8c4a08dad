package ppp

import (
	"encoding/binary"
	"fmt"
)

// Code is the code field of a control packet. Codes 1 to 7 mean the same in
// LCP and every NCP (RFC 1661 §5), 8 to 13 belong to LCP only; PAP and CHAP
// number their own messages from 1 (see PAPRequest and CHAPChallenge).
type Code uint8

// Codes of LCP; the NCPs use the first seven.
const (
	ConfigureRequest Code = 1 + iota // RFC 1661 §5.1
	ConfigureAck                     // §5.2
	ConfigureNak                     // §5.3
	ConfigureReject                  // §5.4
	TerminateRequest                 // §5.5
	TerminateAck                     // §5.5
	CodeReject                       // §5.6
	ProtocolReject                   // §5.7
	EchoRequest                      // §5.8
	EchoReply                        // §5.8
	DiscardRequest                   // §5.9
	Identification                   // RFC 1570 §1.1
	TimeRemaining                    // RFC 1570 §1.2
)

var codeNames = [...]string{
	ConfigureRequest: "Configure-Request", ConfigureAck: "Configure-Ack",
	ConfigureNak: "Configure-Nak", ConfigureReject: "Configure-Reject",
	TerminateRequest: "Terminate-Request", TerminateAck: "Terminate-Ack",
	CodeReject: "Code-Reject", ProtocolReject: "Protocol-Reject",
	EchoRequest: "Echo-Request", EchoReply: "Echo-Reply",
	DiscardRequest: "Discard-Request", Identification: "Identification",
	TimeRemaining: "Time-Remaining",
}

// String is the name LCP gives the code, or its number in hex.
func (c Code) String() string {
	if int(c) < len(codeNames) && codeNames[c] != "" {
		return codeNames[c]
	}
	return fmt.Sprintf("code %#02x", uint8(c))
}

const packetHeaderLen = 4

// Packet is a control packet: code, identifier and what follows the length
// field (RFC 1661 §5; PAP and CHAP use the same head).
type Packet struct {
	Code       Code
	Identifier uint8
	Data       []byte
}

// ParsePacket parses the information field of a control frame. Data is a
// sub-slice of info. "Octets outside the range of the Length field are treated
// as padding and are ignored on reception." (RFC 1661 §5) A length under 4 or
// over what is there is an error that wraps ErrMalformed.
func ParsePacket(info []byte) (Packet, error) {
	if len(info) < packetHeaderLen {
		return Packet{}, fmt.Errorf("ppp: packet: %d octets, want at least 4: %w", len(info), ErrMalformed)
	}
	n := int(binary.BigEndian.Uint16(info[2:]))
	if n < packetHeaderLen || n > len(info) {
		return Packet{}, fmt.Errorf("ppp: packet: length %d of %d octets: %w", n, len(info), ErrMalformed)
	}
	return Packet{Code: Code(info[0]), Identifier: info[1], Data: info[packetHeaderLen:n:n]}, nil
}

// Append appends the packet's octets and returns the extended slice. Data must
// not be longer than 65531 octets.
func (p Packet) Append(b []byte) []byte {
	b = append(b, byte(p.Code), p.Identifier)
	b = binary.BigEndian.AppendUint16(b, uint16(packetHeaderLen+len(p.Data)))
	return append(b, p.Data...)
}
