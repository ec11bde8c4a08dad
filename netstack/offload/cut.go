package offload

import "encoding/binary"

// Where the checksum is in the header of an upper layer.
const (
	tcpChecksum = 16
	udpChecksum = 6
)

// Cut says how a large packet of TCP or UDP is cut into packets of the same
// headers. It holds no octets; whoever has them copies them.
type Cut struct {
	IPLen     int  // of the IP header
	HeaderLen int  // of all headers
	Size      int  // octets of payload of each packet but the last
	proto     byte // TCP or UDP
	sent      int  // octets of payload that have been cut
}

// NewCut is for a packet whose sender wants size octets of payload in each. mtu
// bounds what is cut: a connection's segments do not follow the MTU of the link at
// once.
func NewCut(ipLen, headerLen int, proto byte, size, mtu int) Cut {
	return Cut{IPLen: ipLen, HeaderLen: headerLen, Size: max(min(size, mtu-headerLen), 1), proto: proto}
}

// Next makes the next packet. b has the headers of the large one and behind them
// the next octets of its payload, Size of them but for the last packet. Next writes
// what differs from packet to packet: lengths, the IPv4 identification, sequence
// number and flags of TCP, and the checksums.
func (c *Cut) Next(b []byte, last bool) {
	if b[0]>>4 == 4 {
		id := binary.BigEndian.Uint16(b[4:])
		binary.BigEndian.PutUint16(b[4:], id+uint16(c.sent/c.Size))
	}
	putLength(b, len(b))
	upper, at := b[c.IPLen:], tcpChecksum
	if c.proto == UDP {
		at = udpChecksum
		binary.BigEndian.PutUint16(upper[4:], uint16(len(upper)))
	} else {
		c.patchTCP(upper, last)
	}
	binary.BigEndian.PutUint16(upper[at:], 0)
	check := Checksum(c.proto, upper, PseudoHeader(b, c.proto, len(upper)))
	binary.BigEndian.PutUint16(upper[at:], check)
	c.sent += len(b) - c.HeaderLen
}

// patchTCP sets the sequence number, and takes off the flags that only the first
// or the last segment has. CWR belongs to "the first new data packet sent after the
// window reduction" (RFC 3168 §6.1.2).
func (c *Cut) patchTCP(tcp []byte, last bool) {
	seq := binary.BigEndian.Uint32(tcp[4:])
	binary.BigEndian.PutUint32(tcp[4:], seq+uint32(c.sent))
	if !last {
		tcp[13] &^= FlagFIN | FlagPSH
	}
	if c.sent > 0 {
		tcp[13] &^= FlagCWR
	}
}

// putLength sets the length of a packet of n octets in its IP header, and the
// checksum of that.
func putLength(b []byte, n int) {
	if b[0]>>4 == 6 {
		binary.BigEndian.PutUint16(b[4:], uint16(n-ip6Len))
		return
	}
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	binary.BigEndian.PutUint16(b[10:], 0)
	binary.BigEndian.PutUint16(b[10:], ^Sum(b[:int(b[0]&15)*4], 0))
}
