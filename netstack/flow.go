package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// quantum is how many octets a flow may send in its turn. Who receives them can
// merge what comes in a row; a flow that had nothing waiting goes first anyhow, so
// this delays bulk transfers only, and each other only.
const quantum = 32 << 10

// maxSpare is how many flows are kept for reuse; a burst of more is rare.
const maxSpare = 64

// flowKey tells the flows apart. What has no ports is one flow per protocol: the
// replies to a flood of echo requests, for example.
type flowKey struct {
	proto tcpip.TransportProtocolNumber
	hash  uint32 // of a TCP connection, given by the stack
	ports uint32 // of all other TCP and UDP
}

func keyOf(pkt *stack.PacketBuffer) flowKey {
	k := flowKey{proto: pkt.TransportProtocolNumber, hash: pkt.Hash}
	if k.hash == 0 && (k.proto == header.TCPProtocolNumber || k.proto == header.UDPProtocolNumber) {
		if h := pkt.TransportHeader().Slice(); len(h) >= 4 {
			k.ports = binary.BigEndian.Uint32(h)
		}
	}
	return k
}

// flow is what waits of one connection, or of one pair of ports.
type flow struct {
	key    flowKey
	pkts   []*stack.PacketBuffer // pkts[head:] wait
	head   int
	cost   int    // of pkts[head:]
	credit int    // octets it may still send before its turn is over
	cut    cutter // its first packet, when it has begun to be sent
	next   *flow  // on the list it is on
}

func (f *flow) push(pkt *stack.PacketBuffer) {
	if f.head > 0 && len(f.pkts) == cap(f.pkts) {
		n := copy(f.pkts, f.pkts[f.head:])
		clear(f.pkts[n:])
		f.pkts, f.head = f.pkts[:n], 0
	}
	f.pkts = append(f.pkts, pkt)
	f.cost += costOf(pkt)
}

func (f *flow) pop() *stack.PacketBuffer {
	pkt := f.pkts[f.head]
	f.pkts[f.head] = nil
	f.head++
	f.cost -= costOf(pkt)
	if f.head == len(f.pkts) {
		f.pkts, f.head = f.pkts[:0], 0
	}
	return pkt
}

func (f *flow) empty() bool { return f.head == len(f.pkts) && f.cut.pkt == nil }

// write sends frames of the packet under the cutter until it ends, the turn is
// over, or b is full.
func (f *flow) write(b []byte, headroom int, putHeader func([]byte)) (octets, frames int) {
	for f.cut.pkt != nil && f.credit > 0 {
		size := headroom + f.cut.size()
		if octets+size > len(b) {
			break
		}
		frame := b[octets : octets+size]
		if last := f.cut.next(frame[headroom:]); last {
			f.cut.end()
		}
		if putHeader != nil {
			putHeader(frame)
		}
		octets += size
		frames++
		f.credit -= size
	}
	return octets, frames
}

// schedule lets flows take turns by deficit round robin (Shreedhar and
// Varghese, 1995), and lets one that had nothing waiting go first, as FQ-CoDel
// does (RFC 8290 4.1): a keystroke or a DNS query never waits behind an upload.
type schedule struct {
	flows          map[flowKey]*flow
	fresh, waiting flowList
	spare          *flow // flows for reuse
	spares         int   // how many
	longest        *flow // of those with datagrams; see longer
}

// flowList is a queue of flows.
type flowList struct{ first, last *flow }

func (l *flowList) add(f *flow) {
	f.next = nil
	if l.last == nil {
		l.first = f
	} else {
		l.last.next = f
	}
	l.last = f
}

func (l *flowList) remove() *flow {
	f := l.first
	l.first = f.next
	if l.first == nil {
		l.last = nil
	}
	return f
}

func (s *schedule) init() { s.flows = map[flowKey]*flow{} }

// of returns the flow of a packet that is about to be pushed.
func (s *schedule) of(pkt *stack.PacketBuffer) *flow {
	k := keyOf(pkt)
	if f := s.flows[k]; f != nil {
		return f
	}
	f := s.spare
	if f == nil {
		f = &flow{}
	} else {
		s.spare = f.next
		s.spares--
	}
	f.key, f.credit = k, quantum
	s.flows[k] = f
	s.fresh.add(f)
	return f
}

// pick returns the flow whose turn it is, with something to send and credit
// for it; nil if nothing waits.
func (s *schedule) pick() *flow {
	for {
		list := &s.fresh
		if list.first == nil {
			list = &s.waiting
		}
		f := list.first
		switch {
		case f == nil:
			return nil
		case f.credit <= 0:
			f.credit += quantum
			s.waiting.add(list.remove())
		case !f.empty():
			return f
		case list == &s.fresh && s.waiting.first != nil:
			// It may be back at once; then the others had their turn before.
			s.waiting.add(list.remove())
		default:
			s.forget(list.remove())
		}
	}
}

// longer returns the longest flow of datagrams after f, one of them, has
// changed. It knows the others from when it was asked about them: to look at
// each would be dear, and one that has become shorter since is not worse off
// than the others.
func (s *schedule) longer(f *flow) *flow {
	if s.longest == nil || s.longest.cost < f.cost {
		s.longest = f
	}
	return s.longest
}

// forget keeps a flow that ran empty for reuse.
func (s *schedule) forget(f *flow) {
	delete(s.flows, f.key)
	if s.longest == f {
		s.longest = nil
	}
	if s.spares < maxSpare {
		f.next, s.spare = s.spare, f
		s.spares++
	}
}

// remove empties the flows that match and returns what waited. A packet that
// has begun to be sent stays.
func (s *schedule) remove(match func(flowKey) bool) (pkts []*stack.PacketBuffer) {
	for k, f := range s.flows {
		for match(k) && f.head < len(f.pkts) {
			pkts = append(pkts, f.pop())
		}
	}
	return pkts
}

// drain empties all flows and returns what waited.
func (s *schedule) drain() (pkts []*stack.PacketBuffer) {
	for _, f := range s.flows {
		if f.cut.pkt != nil {
			f.cut.end()
		}
		pkts = append(pkts, f.pkts[f.head:]...)
	}
	*s = schedule{}
	s.init()
	return pkts
}
