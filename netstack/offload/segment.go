package offload

import (
	"bytes"
	"encoding/binary"
)

// Flags of TCP (RFC 9293 §3.1).
const (
	FlagFIN = 1
	FlagPSH = 8
	FlagACK = 16
	FlagCWR = 128
)

// Segment is a parsed TCP segment. Its slices are part of what it was parsed
// from.
type Segment struct {
	Packet    []byte // exactly the IP packet
	IPLen     int    // of the IP header
	HeaderLen int    // of the IP and the TCP header
	Seq       uint32
	Flags     byte

	addresses []byte
	ports     uint32
}

// ParseSegment recognises the TCP segments that can be merged or that order the
// merging of their connection: no fragments, no IPv4 options, no IPv6 extension
// headers. Lengths are checked; the checksums are not.
func ParseSegment(b []byte) (s Segment, ok bool) {
	ipLen, proto, whole := UpperLayer(b)
	if proto != TCP || whole < ipLen+tcpLen {
		return s, false
	}
	if b[0]>>4 == 4 && (ipLen != ip4Len || binary.BigEndian.Uint16(b[6:])&0x3FFF != 0) {
		return s, false
	}
	tcp := b[ipLen:whole]
	s = Segment{
		Packet: b[:whole], IPLen: ipLen, HeaderLen: ipLen + int(tcp[12]>>4)*4,
		Seq: binary.BigEndian.Uint32(tcp[4:]), Flags: tcp[13],
		addresses: addresses(b), ports: binary.BigEndian.Uint32(tcp),
	}
	return s, s.HeaderLen >= ipLen+tcpLen && s.HeaderLen <= whole
}

// Payload is what the segment carries.
func (s *Segment) Payload() []byte { return s.Packet[s.HeaderLen:] }

// Valid verifies the checksums of the IPv4 header and of TCP (RFC 9293 §3.1).
func (s *Segment) Valid() bool {
	tcp := s.Packet[s.IPLen:]
	return (s.IPLen == ip6Len || Sum(s.Packet[:s.IPLen], 0) == 0xFFFF) &&
		Sum(tcp, PseudoHeader(s.Packet, TCP, len(tcp))) == 0xFFFF
}

// mergeable tells whether s may begin or continue a run: data, and no flag but
// ACK and PSH.
func (s *Segment) mergeable() bool {
	return s.Flags&^FlagPSH == FlagACK && len(s.Packet) > s.HeaderLen
}

// sameFlow tells whether two segments are of one connection.
func (s *Segment) sameFlow(o *Segment) bool {
	return s.ports == o.ports && bytes.Equal(s.addresses, o.addresses)
}

// sameHeaders compares type of service and time to live, acknowledgement,
// reserved bits, window, urgent pointer and options. Flow, fragmentation and flags
// were compared before.
func (s *Segment) sameHeaders(o *Segment) bool {
	x, y := s.Packet, o.Packet
	if s.HeaderLen != o.HeaderLen || s.IPLen != o.IPLen {
		return false
	}
	if s.IPLen == ip6Len {
		if !bytes.Equal(x[:4], y[:4]) || x[7] != y[7] {
			return false
		}
	} else if x[1] != y[1] || x[8] != y[8] || x[6] != y[6] {
		return false
	}
	x, y = x[s.IPLen:s.HeaderLen], y[s.IPLen:s.HeaderLen]
	return bytes.Equal(x[8:13], y[8:13]) && bytes.Equal(x[14:16], y[14:16]) && bytes.Equal(x[18:], y[18:])
}
