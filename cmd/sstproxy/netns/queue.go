package netns

import (
	"encoding/binary"
	"sync"

	"sstproxy/netstack/fairq"
	"sstproxy/netstack/offload"
)

const (
	// queueLimit bounds, in octets, what waits for Fill. It is twice what one
	// connection of Linux may have in flight by default (net.ipv4.tcp_wmem), so
	// a single upload loses nothing here.
	queueLimit = 8 << 20
	// packetOverhead is about what a packet costs beside its octets.
	packetOverhead = 64
)

// queue holds what the command sends until Fill takes it. Flows take turns (see
// fairq). What is too much is dropped from the longest flow, its oldest packet
// first: TCP sees that soonest.
type queue struct {
	ready     chan struct{} // capacity 1
	headroom  int
	putHeader func([]byte)

	mu    sync.Mutex
	mtu   int
	flows fairq.Queue[slot, packet, cutter]
	cost  int // of what waits
}

// flow is what waits of the connections that share a slot.
type flow = fairq.Flow[slot, packet, cutter]

// slot is what flows are told apart by.
type slot uint32

// slots is how many there are: the command may have any number of connections,
// but not use up memory by that.
const slots = 256

func newQueue(headroom int, putHeader func([]byte)) *queue {
	return &queue{ready: make(chan struct{}, 1), headroom: headroom, putHeader: putHeader, mtu: defaultMTU}
}

func (p *packet) cost() int { return len(p.data) + packetOverhead }

// slot finds the flow of a packet by its addresses, protocol and ports.
func (p *packet) slot() slot {
	const prime = 0x9E3779B1 // of Fibonacci hashing
	h := uint32(p.proto)
	mix := func(b []byte) {
		for ; len(b) >= 4; b = b[4:] {
			h = (h ^ binary.BigEndian.Uint32(b)) * prime
			h ^= h >> 15
		}
	}
	if p.data[0]>>4 == 4 {
		mix(p.data[12:20])
	} else {
		mix(p.data[8:40])
	}
	if (p.proto == offload.TCP || p.proto == offload.UDP) && len(p.data) >= p.ipLen+4 {
		mix(p.data[p.ipLen : p.ipLen+4])
	}
	return slot(h % slots)
}

// push takes a packet over.
func (q *queue) push(p packet) {
	q.mu.Lock()
	f := q.flows.Of(p.slot())
	f.Push(p, p.cost())
	q.cost += p.cost()
	longest := q.flows.Longest(f)
	for q.cost > queueLimit {
		_, cost := longest.Pop()
		q.cost -= cost
		longest = q.flows.Longest(f)
	}
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// fill writes whole frames into b and returns their length.
func (q *queue) fill(b []byte) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for f := q.pick(); f != nil; f = q.pick() {
		size := q.headroom + f.Cut.next()
		if size > len(b)-n && n > 0 {
			q.signal()
			return n
		}
		if size > len(b)-n || f.Cut.next() > q.mtu {
			end(f) // of the time of a larger MTU
			continue
		}
		n += q.write(f, b[n:n+size])
	}
	return n
}

// write makes one frame of a flow's first packet.
func (q *queue) write(f *flow, frame []byte) int {
	if f.Cut.write(frame[q.headroom:]) {
		end(f)
	}
	if q.putHeader != nil {
		q.putHeader(frame)
	}
	f.Credit -= len(frame)
	return len(frame)
}

// pick returns the flow whose turn it is, with a packet under its cutter; nil if
// nothing waits.
func (q *queue) pick() *flow {
	f := q.flows.Next()
	if f != nil && !f.Begun {
		p, cost := f.Pop()
		q.cost -= cost
		f.Begun = true
		f.Cut.begin(p, q.mtu)
	}
	return f
}

// end takes the packet from under the cutter.
func end(f *flow) { f.Begun, f.Cut.packet = false, packet{} }

func (q *queue) setMTU(mtu int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mtu = mtu
}

// purge drops all that waits: it carries an address that is no longer ours.
func (q *queue) purge() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flows, q.cost = fairq.Queue[slot, packet, cutter]{}, 0
}
