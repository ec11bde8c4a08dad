package netns

import (
	"bytes"
	"encoding/binary"
)

const (
	maxRuns   = 64  // open at once; they are searched one by one
	maxPieces = 200 // of one packet; the kernel takes a vector of 1024 (IOV_MAX)
)

// merger joins consecutive segments of a TCP connection into one packet, which
// the kernel takes as if a network card had done it. Their checksums are verified,
// for the merged packet has none. The order within a connection is kept; nothing
// is held beyond a batch.
type merger struct {
	runs []run // in the order of their first segments
	emit func(v vnet, pieces [][]byte)
}

// run is a row of segments that make up one packet.
type run struct {
	first  segment
	head   [60 + 60]byte // headers of the merged packet
	pieces [][]byte      // room for the headers, then the payloads
	size   int           // of the merged packet
	next   uint32        // sequence number that continues it
	psh    bool
	closed bool // a shorter segment ended it
}

// segment is a parsed TCP segment; it belongs to the batch.
type segment struct {
	packet        []byte
	ipLen, hdrLen int    // of the IP header; of both
	flow          []byte // addresses
	ports, seq    uint32
	flags         byte
}

func (s *segment) payload() []byte { return s.packet[s.hdrLen:] }

// parseSegment recognises TCP segments without IPv4 options, fragments and IPv6
// extension headers.
func parseSegment(b []byte) (s segment, ok bool) {
	ipLen, proto, whole := upperLayer(b)
	if proto != protoTCP || whole < ipLen+20 {
		return s, false
	}
	s = segment{packet: b[:whole], ipLen: ipLen}
	switch {
	case b[0] == 0x45 && binary.BigEndian.Uint16(b[6:])&0x3FFF == 0:
		s.flow = b[12:20]
	case b[0]>>4 == 6:
		s.flow = b[8:40]
	default:
		return s, false
	}
	tcp := s.packet[ipLen:]
	s.hdrLen = ipLen + int(tcp[12]>>4)*4
	s.ports, s.seq, s.flags = binary.BigEndian.Uint32(tcp), binary.BigEndian.Uint32(tcp[4:]), tcp[13]
	return s, s.hdrLen >= ipLen+20 && s.hdrLen <= whole
}

// valid verifies the checksums of the IPv4 header and of TCP.
func (s *segment) valid() bool {
	tcp := s.packet[s.ipLen:]
	return (s.ipLen == 40 || sum(s.packet[:s.ipLen], 0) == 0xFFFF) &&
		sum(tcp, pseudo(s.packet, protoTCP, len(tcp))) == 0xFFFF
}

// mergeable tells whether s may begin or continue a run: data, and no flag but
// ACK and PSH.
func (s *segment) mergeable() bool {
	return s.flags&^flagPSH == flagACK && len(s.packet) > s.hdrLen
}

// add takes the next packet of a batch, which is borrowed until flush. What
// can't be merged passes as it is, and the kernel looks at its checksums.
func (m *merger) add(b []byte) {
	s, ok := parseSegment(b)
	if !ok {
		m.emit(vnet{}, [][]byte{b})
		return
	}
	r := m.find(&s)
	good := s.mergeable() && s.valid()
	if r != nil && good && r.take(&s) {
		return
	}
	if r != nil {
		m.end(r)
	}
	if good {
		m.begin(s)
		return
	}
	m.emit(vnet{}, [][]byte{s.packet})
}

// find returns the open run of the connection of s.
func (m *merger) find(s *segment) *run {
	for i := len(m.runs) - 1; i >= 0; i-- {
		r := &m.runs[i]
		if r.first.packet != nil && r.first.ports == s.ports && bytes.Equal(r.first.flow, s.flow) {
			return r
		}
	}
	return nil
}

// begin opens a run. The storage of runs is used again from batch to batch.
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
		first: s, pieces: append(r.pieces[:0], nil, s.payload()), size: len(s.packet),
		next: s.seq + uint32(len(s.payload())), psh: s.flags&flagPSH != 0,
	}
}

// take appends s to the run if the two could have been one segment: same
// headers but for length, checksum, IPv4 identification, sequence number and
// PSH; a payload no longer than the first one's. A shorter one ends the run.
func (r *run) take(s *segment) bool {
	n, full := len(s.payload()), len(r.first.payload())
	if r.closed || s.seq != r.next || n > full || r.size+n > maxPacket ||
		len(r.pieces) == maxPieces || !sameHeaders(&r.first, s) {
		return false
	}
	r.pieces = append(r.pieces, s.payload())
	r.size += n
	r.next += uint32(n)
	r.psh = r.psh || s.flags&flagPSH != 0
	r.closed = n < full
	return true
}

// sameHeaders compares type of service and time to live, acknowledgement,
// reserved bits, window and options. The flow was compared before.
func sameHeaders(a, b *segment) bool {
	x, y := a.packet, b.packet
	if a.hdrLen != b.hdrLen || a.ipLen != b.ipLen {
		return false
	}
	if a.ipLen == 40 {
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
		if r := &m.runs[i]; r.first.packet != nil {
			m.end(r)
		}
	}
	m.runs = m.runs[:0]
}

// end hands on a run.
func (m *merger) end(r *run) {
	v := vnet{}
	r.pieces[0] = r.head[:copy(r.head[:], r.first.packet[:r.first.hdrLen])]
	if len(r.pieces) > 2 {
		v = r.patch(r.pieces[0])
	}
	m.emit(v, r.pieces)
	clear(r.pieces)      // they point into the batch
	r.first.packet = nil // nothing matches it any more
}

// patch makes the headers of the first segment those of all. The checksum of TCP
// is left to the kernel, as to a network card: in its place is the sum over the
// pseudo header.
func (r *run) patch(b []byte) vnet {
	s := &r.first
	v := vnet{
		flags: vnetNeedsChecksum, gso: vnetGSOTCP6, hdrLen: uint16(s.hdrLen), gsoSize: uint16(len(s.payload())),
		checkStart: uint16(s.ipLen), checkOffset: 16,
	}
	if s.ipLen == 40 {
		binary.BigEndian.PutUint16(b[4:], uint16(r.size-40))
	} else {
		v.gso = vnetGSOTCP4
		binary.BigEndian.PutUint16(b[2:], uint16(r.size))
		binary.BigEndian.PutUint16(b[10:], 0)
		binary.BigEndian.PutUint16(b[10:], ^sum(b[:20], 0))
	}
	tcp := b[s.ipLen:]
	if r.psh {
		tcp[13] |= flagPSH
	}
	binary.BigEndian.PutUint16(tcp[16:], pseudo(b, protoTCP, r.size-s.ipLen))
	return v
}
