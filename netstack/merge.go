package netstack

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// maxMerged is the largest packet that merging makes: what the length
	// field of IPv4 can tell.
	maxMerged = 65535
	// maxRuns is how many runs may be open at once. They are searched one by
	// one; a server can't make that dear.
	maxRuns = 64
)

// merger joins consecutive segments of a TCP flow into one packet before gVisor
// sees them: its cost is per packet, not per octet. What it joins it has verified:
// a merged packet has no checksum of its own any more.
//
// The order of packets within a flow is kept; nothing is held beyond a batch.
type merger struct {
	runs   []run // in the order of their first segments
	accept func(packet buffer.Buffer, proto tcpip.NetworkProtocolNumber)
	bad    atomic.Uint64 // segments dropped for a wrong checksum
}

// run is a row of segments of one flow that make up one packet.
type run struct {
	first  segment
	pieces [][]byte // payloads behind the first segment's own
	size   int      // of the merged packet
	next   uint32   // sequence number that continues it
	psh    bool
	closed bool // a shorter segment ended it
}

// segment is a parsed TCP segment. Its slices belong to the batch.
type segment struct {
	packet []byte // exactly the IP packet
	v6     bool
	ipLen  int    // IP header
	hdrLen int    // IP and TCP header
	flow   []byte // addresses
	ports  uint32
	seq    uint32
	flags  header.TCPFlags
}

func (s *segment) payload() []byte { return s.packet[s.hdrLen:] }

// parseSegment recognises the TCP segments that can be merged or that order
// the merging of their flow: no fragments, no IPv4 options, no IPv6 extension
// headers. Lengths are checked; the checksum is not.
func parseSegment(b []byte) (s segment, ok bool) {
	switch {
	case len(b) >= 40 && b[0] == 0x45 && b[9] == uint8(header.TCPProtocolNumber):
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < 40 || n > len(b) || binary.BigEndian.Uint16(b[6:])&0x3FFF != 0 {
			return s, false
		}
		s = segment{packet: b[:n], ipLen: 20, flow: b[12:20]}
	case len(b) >= 60 && b[0]>>4 == 6 && b[6] == uint8(header.TCPProtocolNumber):
		n := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if n < 60 || n > len(b) {
			return s, false
		}
		s = segment{packet: b[:n], v6: true, ipLen: 40, flow: b[8:40]}
	default:
		return s, false
	}
	tcp := s.packet[s.ipLen:]
	s.hdrLen = s.ipLen + int(tcp[12]>>4)*4
	s.ports = binary.BigEndian.Uint32(tcp)
	s.seq = binary.BigEndian.Uint32(tcp[4:])
	s.flags = header.TCPFlags(tcp[13])
	return s, s.hdrLen >= s.ipLen+20 && s.hdrLen <= len(s.packet)
}

// valid verifies the checksums of the IPv4 header and of TCP (RFC 9293 3.1).
func (s *segment) valid() bool {
	if !s.v6 && checksum.Checksum(s.packet[:s.ipLen], 0) != 0xFFFF {
		return false
	}
	n := len(s.packet) - s.ipLen
	pseudo := checksum.Checksum(s.flow, uint16(header.TCPProtocolNumber))
	pseudo = checksum.Combine(pseudo, uint16(n))
	return checksum.Checksum(s.packet[s.ipLen:], pseudo) == 0xFFFF
}

func (s *segment) proto() tcpip.NetworkProtocolNumber {
	if s.v6 {
		return header.IPv6ProtocolNumber
	}
	return header.IPv4ProtocolNumber
}

// mergeable tells whether s may begin or continue a run: data, and no flag
// but ACK and PSH.
func (s *segment) mergeable() bool {
	return s.flags&^header.TCPFlagPsh == header.TCPFlagAck && len(s.packet) > s.hdrLen
}

// add takes the next segment of a batch. It is borrowed until flush. False
// means that b is none that add understands: nothing was done.
func (m *merger) add(b []byte) bool {
	s, ok := parseSegment(b)
	if !ok {
		return false
	}
	if !s.valid() {
		m.bad.Add(1)
		return true
	}
	m.merge(s)
	return true
}

// merge appends s to the run of its flow, or ends that run and begins another.
func (m *merger) merge(s segment) {
	r := m.find(&s)
	if r != nil && s.mergeable() && r.take(&s) {
		return
	}
	if r != nil {
		r.emit(m)
		r.first.packet = nil // nothing matches it any more
	}
	if s.mergeable() {
		m.begin(s)
		return
	}
	m.accept(buffer.MakeWithData(s.packet), s.proto())
}

// find returns the open run of the flow of s.
func (m *merger) find(s *segment) *run {
	for i := len(m.runs) - 1; i >= 0; i-- {
		r := &m.runs[i]
		if r.first.packet != nil && r.first.ports == s.ports && bytes.Equal(r.first.flow, s.flow) {
			return r
		}
	}
	return nil
}

// begin opens a run with s. Their storage is reused from batch to batch.
func (m *merger) begin(s segment) {
	if len(m.runs) == maxRuns {
		m.flush()
	}
	if len(m.runs) < cap(m.runs) {
		m.runs = m.runs[:len(m.runs)+1]
	} else {
		m.runs = append(m.runs, run{})
	}
	r := &m.runs[len(m.runs)-1]
	*r = run{
		first: s, pieces: r.pieces[:0], size: len(s.packet),
		next: s.seq + uint32(len(s.payload())), psh: s.flags&header.TCPFlagPsh != 0,
	}
}

// take appends s to the run if the two could have been one segment: same
// headers but for length, checksum, IPv4 identification, sequence number and
// PSH; a payload no longer than the first one's. A shorter one ends the run.
func (r *run) take(s *segment) bool {
	n := len(s.payload())
	full := len(r.first.payload())
	if r.closed || s.seq != r.next || n > full || r.size+n > maxMerged || !sameHeaders(&r.first, s) {
		return false
	}
	r.pieces = append(r.pieces, s.payload())
	r.size += n
	r.next += uint32(n)
	r.psh = r.psh || s.flags&header.TCPFlagPsh != 0
	r.closed = n < full
	return true
}

// sameHeaders compares type of service and time to live, acknowledgement,
// reserved bits, window and options. Flow, fragmentation and flags were
// compared before.
func sameHeaders(a, b *segment) bool {
	x, y := a.packet, b.packet
	if a.hdrLen != b.hdrLen || a.v6 != b.v6 {
		return false
	}
	if a.v6 {
		if !bytes.Equal(x[:4], y[:4]) || x[7] != y[7] {
			return false
		}
	} else if x[1] != y[1] || x[8] != y[8] || x[6] != y[6] {
		return false
	}
	x, y = x[a.ipLen:a.hdrLen], y[a.ipLen:a.hdrLen]
	return bytes.Equal(x[8:13], y[8:13]) && bytes.Equal(x[14:16], y[14:16]) && bytes.Equal(x[20:], y[20:])
}

// flush hands on what is open, in the order of the first segments.
func (m *merger) flush() {
	for i := range m.runs {
		if m.runs[i].first.packet != nil {
			m.runs[i].emit(m)
		}
		clear(m.runs[i].pieces) // they point into the batch
	}
	m.runs = m.runs[:0]
}

// emit makes one packet of the run. Headers and payload have a View each: gVisor
// copies the chunk that a header is in when it looks at the header while there
// is another reference to it, as there is on the way to TCP. Both have the exact
// size: gVisor clears the whole of each chunk it hands out.
func (r *run) emit(m *merger) {
	s := &r.first
	head := buffer.NewViewWithData(s.packet[:s.hdrLen])
	r.patch(head.AsSlice())
	data := buffer.NewView(r.size - s.hdrLen)
	data.Write(s.payload())
	for _, p := range r.pieces {
		data.Write(p)
	}
	packet := buffer.MakeWithView(data)
	_ = packet.Prepend(head) // could fail only if data had room before it
	m.accept(packet, s.proto())
}

// patch writes what the headers of the run have that its first segment's have
// not.
func (r *run) patch(head []byte) {
	s := &r.first
	if s.v6 {
		binary.BigEndian.PutUint16(head[4:], uint16(r.size-s.ipLen))
	} else {
		binary.BigEndian.PutUint16(head[2:], uint16(r.size))
	}
	if r.psh {
		head[s.ipLen+13] |= byte(header.TCPFlagPsh)
	}
}
