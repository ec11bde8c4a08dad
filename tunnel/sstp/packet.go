package sstp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// HeaderLen is the length of the header of every SSTP packet, in octets
	// (2.2.1).
	HeaderLen = 4

	// MaxPacketLen is the largest packet the 12-bit length field can state,
	// in octets and with the header (2.2.1).
	MaxPacketLen = 4095

	// MaxPayloadLen is the largest payload of a packet, in octets: the MRU of
	// the tunnel (3.1.5.2).
	MaxPayloadLen = MaxPacketLen - HeaderLen

	// controlHeaderLen is the header with message type and attribute count
	// (2.2.2).
	controlHeaderLen = 8

	version     = 0x10 // major 1, minor 0
	controlBit  = 0x01
	lengthField = 0x0fff
)

var (
	// ErrFraming means that the octets are no SSTP packet, so that nobody
	// knows where the next one begins: the connection is dropped and nothing
	// more is sent (3.1.5.1). Hand it to [Call.LowerDown].
	ErrFraming = errors.New("framing lost")

	// ErrMalformed means that a packet of sound framing carries a message, an
	// attribute or a value that breaks its format (2.2).
	ErrMalformed = errors.New("malformed message")
)

// Packet is one SSTP packet without its header (2.2.1). The zero value is a
// data packet without payload.
type Packet struct {
	// Control tells a control packet (2.2.2) from a data packet (2.2.3).
	Control bool

	// Payload is what follows the four octets of the header: a message for
	// [ParseMessage], or a PPP frame. It is a sub-slice of what was parsed.
	Payload []byte
}

// ParsePacket reads the packet at the start of b and says how many octets it
// covers. n = 0 without an error means that b holds less than one packet; the
// caller reads on and calls again. Every error wraps [ErrFraming] and is
// reported as soon as the octets at hand prove it.
//
// A data packet may be as short as its header; what is in it is for PPP to
// judge.
func ParsePacket(b []byte) (p Packet, n int, err error) {
	if len(b) >= 1 && b[0] != version {
		return Packet{}, 0, fmt.Errorf("sstp: packet: version %#02x, want %#02x: %w", b[0], version, ErrFraming)
	}
	if len(b) < HeaderLen {
		return Packet{}, 0, nil
	}
	// The seven bits beside C and the upper four of the length are reserved:
	// "MUST be set to zero when sent and MUST be ignored on receipt" (2.2.1).
	control := b[1]&controlBit != 0
	length := int(binary.BigEndian.Uint16(b[2:]) & lengthField)
	least := HeaderLen
	if control {
		least = controlHeaderLen
	}
	if length < least {
		return Packet{}, 0, fmt.Errorf("sstp: packet: length %d, want at least %d: %w", length, least, ErrFraming)
	}
	if len(b) < length {
		return Packet{}, 0, nil
	}
	return Packet{Control: control, Payload: b[HeaderLen:length:length]}, length, nil
}

// PutHeader writes the four octets of a header to the start of b. length is
// that of the whole packet, header included. A b shorter than [HeaderLen] and
// a length outside 4…[MaxPacketLen] are mistakes of the caller and panic: a
// wrong length would end the stream for both sides.
func PutHeader(b []byte, control bool, length int) {
	if length < HeaderLen || length > MaxPacketLen {
		panic("sstp: packet length out of range")
	}
	_ = b[HeaderLen-1]
	b[0], b[1] = version, 0
	if control {
		b[1] = controlBit
	}
	binary.BigEndian.PutUint16(b[2:], uint16(length))
}

// AppendData appends a data packet (2.2.3) that carries one PPP frame of at
// most [MaxPayloadLen] octets; a longer one panics.
func AppendData(b, frame []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, HeaderLen)...)
	PutHeader(b[at:], false, HeaderLen+len(frame))
	return append(b, frame...)
}
