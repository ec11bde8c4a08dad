package offload

import "encoding/binary"

// The numbers of the upper layers (IANA, Assigned Internet Protocol Numbers).
const (
	TCP = 6
	UDP = 17
)

const (
	ip4Len    = 20 // without options
	ip6Len    = 40
	tcpLen    = 20 // without options
	tcpMaxLen = 60
)

// MaxPacket is the longest IP packet in octets, and the longest that merging
// makes: what the length field of IPv4 can tell (RFC 791 §3.1).
const MaxPacket = 65535

// UpperLayer returns the length of a packet's IP header, the number of what
// follows it, and the length of the packet; 0 if it is no IP packet, or not all of
// it is there. An extension header of IPv6 counts as an upper layer. In a fragment,
// what follows need not be the beginning of that.
func UpperLayer(b []byte) (ipLen int, proto byte, whole int) {
	switch {
	case len(b) >= ip4Len && b[0]>>4 == 4:
		ipLen, proto, whole = int(b[0]&15)*4, b[9], int(binary.BigEndian.Uint16(b[2:]))
	case len(b) >= ip6Len && b[0]>>4 == 6:
		ipLen, proto, whole = ip6Len, b[6], ip6Len+int(binary.BigEndian.Uint16(b[4:]))
	}
	if ipLen < ip4Len || whole < ipLen || whole > len(b) {
		return 0, 0, 0
	}
	return ipLen, proto, whole
}

// addresses are the source and the destination of an IP packet.
func addresses(packet []byte) []byte {
	if packet[0]>>4 == 4 {
		return packet[12:20]
	}
	return packet[8:40]
}

// PseudoHeader is the sum over the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1) of
// an IP packet's upper layer, which has n octets. Of the packet it reads the
// addresses.
func PseudoHeader(packet []byte, proto byte, n int) uint16 {
	return Sum(addresses(packet), fold(uint64(proto)+uint64(n)))
}

// Checksum is what stands in the header of an upper layer whose octets are b, its
// field being zero, or having the sum over the pseudo header, the other of which is
// partial.
func Checksum(proto byte, b []byte, partial uint16) uint16 {
	check := ^Sum(b, partial)
	if check == 0 && proto == UDP {
		return 0xFFFF // "all zero ... means that the transmitter generated no checksum" RFC 768
	}
	return check
}
