package netns

import (
	"encoding/binary"

	"sstproxy/netstack/offload"
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

// mergedVnet is the header of a packet that was merged. What its TCP header lacks
// is left to the kernel: it adds the rest to the sum over the pseudo header.
func mergedVnet(p *offload.Packet) vnet {
	if len(p.Payload) < 2 {
		return vnet{}
	}
	v := vnet{
		flags: vnetNeedsChecksum, gso: vnetGSOTCP4,
		hdrLen: uint16(len(p.Header)), gsoSize: uint16(len(p.Payload[0])),
		checkStart: uint16(p.IPLen), checkOffset: 16,
	}
	if p.Header[0]>>4 == 6 {
		v.gso = vnetGSOTCP6
	}
	return v
}

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
	ipLen, proto, whole := offload.UpperLayer(data)
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
		return p, proto == offload.TCP && p.header() <= len(p.data)
	case gso == vnetGSOUDP4:
		p.segment = int(v.gsoSize)
		return p, proto == offload.UDP && p.header() <= len(p.data)
	}
	return p, false
}

// header is the length of all headers of what is to be cut.
func (p *packet) header() int {
	if p.proto == offload.UDP {
		return p.ipLen + 8
	}
	if len(p.data) < p.ipLen+20 {
		return offload.MaxPacket + 1
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
	binary.BigEndian.PutUint16(p.data[start+offset:], offload.Checksum(p.proto, p.data[start:], 0))
	return true
}

// cutter writes a packet, segment by segment if it has to be cut. It may be left
// in the middle when a batch is full.
type cutter struct {
	packet
	cut offload.Cut // of what has segments
	at  int         // of the payload that comes next, in data
}

// begin takes a packet over; mtu bounds what is cut from it.
func (c *cutter) begin(p packet, mtu int) {
	c.packet = p
	if p.segment > 0 {
		c.at = p.header()
		c.cut = offload.NewCut(p.ipLen, c.at, p.proto, p.segment, mtu)
	}
}

// next is the length of the packet that write will write.
func (c *cutter) next() int {
	if c.segment == 0 {
		return len(c.data)
	}
	return c.cut.HeaderLen + min(c.cut.Size, len(c.data)-c.at)
}

// write writes the next packet into b, which is as long as next says, and tells
// whether it was the last one.
func (c *cutter) write(b []byte) (last bool) {
	if c.segment == 0 {
		copy(b, c.data)
		return true
	}
	n := copy(b, c.data[:c.cut.HeaderLen])
	c.at += copy(b[n:], c.data[c.at:])
	last = c.at == len(c.data)
	c.cut.Next(b, last)
	return last
}
