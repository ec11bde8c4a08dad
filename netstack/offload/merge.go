package offload

import "encoding/binary"

// maxRuns is how many runs may be open at once. They are searched one by one; a
// server can't make that dear.
const maxRuns = 64

// Merger joins consecutive segments of a TCP connection into one packet. What it
// joins it has verified: a merged packet has no checksum of its own any more. The
// order of packets within a connection is kept; nothing is held beyond a batch.
//
// The zero value with Accept set is ready. One goroutine at a time.
type Merger struct {
	// Accept takes what comes out. The packet and its slices are the Merger's:
	// they are borrowed until Accept returns.
	Accept func(*Packet)
	// MaxSegments is how many segments become one packet at most; 0 means as many
	// as fit into MaxPacket.
	MaxSegments int

	runs []run // in the order of their first segments
	out  Packet
	head [ip6Len + tcpMaxLen]byte // of out
	one  [1][]byte                // payload of out
}

// Packet is one segment, or several that follow each other as one.
type Packet struct {
	// Header has the headers of IP and TCP. Those of one segment are as they
	// came. Those of several are complete but for the checksum of TCP, in whose
	// place is the sum over the pseudo header.
	Header []byte
	// Payload has the payload of each segment, in order; none if it is one
	// segment without data. All but the last have the same length.
	Payload [][]byte
	IPLen   int // of the IP header: 20 or 40 octets
	Size    int // of the whole packet in octets
}

// Verdict is what became of a packet given to Add.
type Verdict byte

// The verdicts.
const (
	Taken   Verdict = iota // it is handed to Accept, at once or later, Flush at the latest
	Damaged                // a segment with a wrong checksum: nothing was done
	Foreign                // no plain TCP segment: nothing was done
)

// run is a row of segments of one connection that make up one packet.
type run struct {
	first    Segment
	payloads [][]byte
	size     int    // of the packet
	next     uint32 // sequence number that continues it
	psh      bool
	closed   bool // a shorter segment ended it
}

// Add takes the next packet of a batch, which is borrowed until Flush. Whoever
// passes on a Foreign one that may be of a connection calls Flush before.
func (m *Merger) Add(b []byte) Verdict {
	s, ok := ParseSegment(b)
	if !ok {
		return Foreign
	}
	if !s.Valid() {
		return Damaged
	}
	r := m.find(&s)
	if r != nil && s.mergeable() && m.extend(r, &s) {
		return Taken
	}
	if r != nil {
		m.end(r)
	}
	if s.mergeable() {
		m.begin(s)
	} else {
		m.pass(&s)
	}
	return Taken
}

// Flush hands on what is open, in the order of the first segments.
func (m *Merger) Flush() {
	for i := range m.runs {
		if r := &m.runs[i]; r.first.Packet != nil {
			m.end(r)
		}
	}
	m.runs = m.runs[:0]
}

// find returns the open run of the connection of s.
func (m *Merger) find(s *Segment) *run {
	for i := len(m.runs) - 1; i >= 0; i-- {
		if r := &m.runs[i]; r.first.Packet != nil && r.first.sameFlow(s) {
			return r
		}
	}
	return nil
}

// begin opens a run with s. The storage of runs is reused from batch to batch.
func (m *Merger) begin(s Segment) {
	if len(m.runs) == maxRuns {
		m.Flush()
	}
	if len(m.runs) < cap(m.runs) {
		m.runs = m.runs[:len(m.runs)+1]
	} else {
		m.runs = append(m.runs, run{})
	}
	r := &m.runs[len(m.runs)-1]
	*r = run{first: s, payloads: r.payloads[:0], size: s.HeaderLen, next: s.Seq}
	r.add(&s)
}

// extend appends s to the run if the two could have been one segment: same
// headers but for length, checksum, IPv4 identification, sequence number and PSH; a
// payload no longer than the first one's. A shorter one ends the run.
func (m *Merger) extend(r *run, s *Segment) bool {
	n, full := len(s.Payload()), len(r.payloads[0])
	if r.closed || s.Seq != r.next || n > full || r.size+n > MaxPacket ||
		len(r.payloads) == m.MaxSegments || !r.first.sameHeaders(s) {
		return false
	}
	r.add(s)
	r.closed = n < full
	return true
}

func (r *run) add(s *Segment) {
	payload := s.Payload()
	r.payloads = append(r.payloads, payload)
	r.size += len(payload)
	r.next += uint32(len(payload))
	r.psh = r.psh || s.Flags&FlagPSH != 0
}

// end hands on a run.
func (m *Merger) end(r *run) {
	s := &r.first
	header := s.Packet[:s.HeaderLen]
	if len(r.payloads) > 1 {
		header = m.head[:copy(m.head[:], header)]
		r.patch(header)
	}
	m.out = Packet{Header: header, Payload: r.payloads, IPLen: s.IPLen, Size: r.size}
	m.Accept(&m.out)
	clear(r.payloads)
	m.out, r.first = Packet{}, Segment{} // nothing matches it any more
}

// patch makes the headers of the first segment those of all.
func (r *run) patch(b []byte) {
	ipLen := r.first.IPLen
	putLength(b, r.size)
	tcp := b[ipLen:]
	if r.psh {
		tcp[13] |= FlagPSH
	}
	binary.BigEndian.PutUint16(tcp[tcpChecksum:], PseudoHeader(b, TCP, r.size-ipLen))
}

// pass hands on a segment that is not to be merged.
func (m *Merger) pass(s *Segment) {
	m.out = Packet{Header: s.Packet[:s.HeaderLen], IPLen: s.IPLen, Size: len(s.Packet)}
	if payload := s.Payload(); len(payload) > 0 {
		m.one[0] = payload
		m.out.Payload = m.one[:]
	}
	m.Accept(&m.out)
	m.out, m.one[0] = Packet{}, nil
}
