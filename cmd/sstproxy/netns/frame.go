package netns

import (
	"encoding/binary"
)

// The header that virtio puts before each packet (Virtual I/O Device 1.2, 5.1.6),
// which TUN devices and packet sockets have, too. Its fields have the machine's
// byte order.
const (
	vnetLen = 10

	vnetNeedsChecksum = 1 // flag: from start on, at start + offset

	vnetGSONone = 0
	vnetGSOTCP4 = 1
	vnetGSOUDP  = 3 // IPv4 fragments, no more made by Linux since 4.14
	vnetGSOTCP6 = 4
	vnetGSOUDP4 = 5 // datagrams, of either family
	vnetGSOECN  = 0x80
)

// vnet is that header.
type vnet struct {
	flags, gso              byte
	hdrLen, gsoSize         uint16 // of all headers; of a segment's payload
	checkStart, checkOffset uint16
}

func parseVnet(b []byte) vnet {
	e := binary.NativeEndian
	return vnet{b[0], b[1], e.Uint16(b[2:]), e.Uint16(b[4:]), e.Uint16(b[6:]), e.Uint16(b[8:])}
}

func (v vnet) put(b []byte) {
	e := binary.NativeEndian
	b[0], b[1] = v.flags, v.gso
	e.PutUint16(b[2:], v.hdrLen)
	e.PutUint16(b[4:], v.gsoSize)
	e.PutUint16(b[6:], v.checkStart)
	e.PutUint16(b[8:], v.checkOffset)
}

// The numbers of the upper layers (IANA, Assigned Internet Protocol Numbers).
const (
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

const (
	etherLen  = 14     // two addresses and the type of what follows
	etherIPv4 = 0x0800 // IEEE 802 numbers
	etherIPv6 = 0x86DD
)

// packet is an IP packet as the kernel hands it over: ready to send, or to be cut
// into segments.
type packet struct {
	data    []byte
	segment int // octets of payload of each; 0: ready
	ipLen   int // of the IP header, if there is something to cut
	proto   byte
}

// parseFrame takes off the headers before an IP packet, of which the device has
// link octets beside that of virtio, and completes its checksum. The packet is
// part of frame. Not ok: it is nothing that we carry.
func parseFrame(frame []byte, link int) (p packet, ok bool) {
	if len(frame) < vnetLen+link {
		return p, false
	}
	v, data := parseVnet(frame), frame[vnetLen+link:]
	ipLen, proto, whole := upperLayer(data)
	if ipLen == 0 {
		return p, false
	}
	p = packet{data: data[:whole], ipLen: ipLen, proto: proto}
	switch gso := v.gso &^ vnetGSOECN; {
	case gso == vnetGSONone:
		return p, v.flags&vnetNeedsChecksum == 0 || p.complete(int(v.checkStart)-link, int(v.checkOffset))
	case v.gsoSize == 0:
		return p, false
	case gso == vnetGSOTCP4 || gso == vnetGSOTCP6:
		p.segment = int(v.gsoSize)
		return p, proto == protoTCP && p.header() <= len(p.data)
	case gso == vnetGSOUDP4:
		p.segment = int(v.gsoSize)
		return p, proto == protoUDP && p.header() <= len(p.data)
	}
	return p, false
}

// upperLayer returns the length of a packet's IP header with what follows it up
// to TCP or UDP, the number of that upper layer, and the length of the packet; 0
// if it is no IP packet. Behind a first fragment the upper layer does not count.
func upperLayer(b []byte) (ipLen int, proto byte, whole int) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		ipLen, proto, whole = int(b[0]&15)*4, b[9], int(binary.BigEndian.Uint16(b[2:]))
	case len(b) >= 40 && b[0]>>4 == 6:
		ipLen, proto, whole = 40, b[6], 40+int(binary.BigEndian.Uint16(b[4:]))
	}
	if ipLen < 20 || whole < ipLen || whole > len(b) {
		return 0, 0, 0
	}
	return ipLen, proto, whole
}

// header is the length of all headers of what is to be cut.
func (p *packet) header() int {
	if p.proto == protoUDP {
		return p.ipLen + 8
	}
	if len(p.data) < p.ipLen+20 {
		return maxPacket + 1
	}
	return p.ipLen + max(int(p.data[p.ipLen+12]>>4)*4, 20)
}

// complete computes the checksum that the kernel left to the device: over all
// from start on, to be put offset octets behind that, where the sum over the
// pseudo header is already.
func (p *packet) complete(start, offset int) bool {
	if start < 20 || start+offset+2 > len(p.data) {
		return false
	}
	check := ^sum(p.data[start:], 0)
	if check == 0 && p.proto == protoUDP {
		check = 0xFFFF // "all zero ... means that the transmitter generated no checksum" RFC 768
	}
	binary.BigEndian.PutUint16(p.data[start+offset:], check)
	return true
}

// cutter writes a packet, segment by segment if it has to be cut. It may be left
// in the middle when a batch is full.
type cutter struct {
	packet
	hdrLen int // of all headers, of what is to be cut
	sent   int // octets of payload already cut
	size   int // of a segment's payload; 0: all at once
}

// begin takes a packet over. mtu bounds what is cut from it: the segments of a
// connection do not follow the MTU of the link at once.
func (c *cutter) begin(p packet, mtu int) {
	*c = cutter{packet: p}
	if p.segment == 0 {
		return
	}
	c.hdrLen = p.header()
	c.size = max(min(p.segment, mtu-c.hdrLen), 1)
}

// next is the length of the packet that write will write.
func (c *cutter) next() int {
	if c.size == 0 {
		return len(c.data)
	}
	return c.hdrLen + min(c.size, len(c.data)-c.hdrLen-c.sent)
}

// write writes the next packet into b, which is as long as next says, and tells
// whether it was the last one.
func (c *cutter) write(b []byte) (last bool) {
	if c.size == 0 {
		copy(b, c.data)
		return true
	}
	copy(b, c.data[:c.hdrLen])
	n := copy(b[c.hdrLen:], c.data[c.hdrLen+c.sent:])
	last = c.hdrLen+c.sent+n >= len(c.data)
	c.patch(b, last)
	c.sent += n
	return last
}

// patch writes what differs from segment to segment: lengths, the IPv4
// identification, sequence number and flags of TCP, and the checksums.
func (c *cutter) patch(b []byte, last bool) {
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		id := binary.BigEndian.Uint16(b[4:])
		binary.BigEndian.PutUint16(b[4:], id+uint16(c.sent/c.size))
		binary.BigEndian.PutUint16(b[10:], 0)
		binary.BigEndian.PutUint16(b[10:], ^sum(b[:c.ipLen], 0))
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	}
	upper, at := b[c.ipLen:], 16
	if c.proto == protoUDP {
		at = 6
		binary.BigEndian.PutUint16(upper[4:], uint16(len(upper)))
	} else {
		c.patchTCP(upper, last)
	}
	binary.BigEndian.PutUint16(upper[at:], 0)
	check := ^sum(upper, pseudo(b, c.proto, len(upper)))
	if check == 0 && c.proto == protoUDP {
		check = 0xFFFF // as in complete
	}
	binary.BigEndian.PutUint16(upper[at:], check)
}

// Flags of TCP (RFC 9293 §3.1).
const (
	flagFIN = 1
	flagPSH = 8
	flagACK = 16
	flagCWR = 128
)

// patchTCP sets the sequence number, and takes off the flags that only the first
// or the last segment has. CWR belongs to "the first new data packet sent after the
// window reduction" (RFC 3168 §6.1.2).
func (c *cutter) patchTCP(tcp []byte, last bool) {
	seq := binary.BigEndian.Uint32(tcp[4:])
	binary.BigEndian.PutUint32(tcp[4:], seq+uint32(c.sent))
	if !last {
		tcp[13] &^= flagFIN | flagPSH
	}
	if c.sent > 0 {
		tcp[13] &^= flagCWR
	}
}
