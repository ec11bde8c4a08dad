package netns

import (
	"encoding/binary"
	"sync"

	"sstproxy/netstack/offload"
)

const (
	// queueLimit bounds, in octets, what waits for Fill. It is twice what one
	// connection of Linux may have in flight by default (net.ipv4.tcp_wmem), so
	// a single upload loses nothing here.
	queueLimit = 8 << 20
	// packetOverhead is about what a packet costs beside its octets.
	packetOverhead = 64
	// quantum is how many octets a flow may send in its turn.
	quantum = 32 << 10
	// flowSlots is how many flows can be told apart.
	flowSlots = 256
)

// queue holds what the command sends until Fill takes it. Flows take turns by
// deficit round robin, and one that had nothing waiting goes first (RFC 8290
// §4.1): a keystroke never waits behind an upload. What is too much is dropped
// from the longest flow, its oldest packet first: TCP sees that soonest.
type queue struct {
	ready     chan struct{} // capacity 1
	headroom  int
	putHeader func([]byte)

	mu      sync.Mutex
	mtu     int
	slots   [flowSlots]flow
	fresh   flowList
	waiting flowList
	cost    int
}

// flow is what waits of the connections that share a slot.
type flow struct {
	packets []packet // packets[head:] wait
	head    int
	cost    int
	credit  int    // octets it may still send before its turn is over
	cut     cutter // its first packet, once it has begun to be sent
	listed  bool
	next    *flow // on the list it is on
}

// flowList is a row of flows.
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
	if l.first = f.next; l.first == nil {
		l.last = nil
	}
	return f
}

func newQueue(headroom int, putHeader func([]byte)) *queue {
	return &queue{ready: make(chan struct{}, 1), headroom: headroom, putHeader: putHeader, mtu: defaultMTU}
}

func (p *packet) cost() int { return len(p.data) + packetOverhead }

// slot finds the flow of a packet by its addresses, protocol and ports.
func (p *packet) slot() int {
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
	return int(h % flowSlots)
}

// push takes a packet over.
func (q *queue) push(p packet) {
	q.mu.Lock()
	f := &q.slots[p.slot()]
	f.packets = append(f.packets, p)
	f.cost += p.cost()
	q.cost += p.cost()
	if !f.listed {
		f.listed, f.credit = true, quantum
		q.fresh.add(f)
	}
	for q.cost > queueLimit {
		q.pop(q.longest())
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

// longest is the flow with most waiting.
func (q *queue) longest() *flow {
	f := &q.slots[0]
	for i := range q.slots {
		if q.slots[i].cost > f.cost {
			f = &q.slots[i]
		}
	}
	return f
}

// pop takes the oldest packet of a flow that has one.
func (q *queue) pop(f *flow) packet {
	p := f.packets[f.head]
	f.packets[f.head] = packet{}
	f.head++
	f.cost -= p.cost()
	q.cost -= p.cost()
	switch {
	case f.head == len(f.packets):
		f.packets, f.head = f.packets[:0], 0
	case f.head > len(f.packets)/2:
		n := copy(f.packets, f.packets[f.head:])
		clear(f.packets[n:])
		f.packets, f.head = f.packets[:n], 0
	}
	return p
}

// fill writes whole frames into b and returns their length.
func (q *queue) fill(b []byte) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for f := q.pick(); f != nil; f = q.pick() {
		size := q.headroom + f.cut.next()
		if size > len(b)-n && n > 0 {
			q.signal()
			return n
		}
		if size > len(b)-n || f.cut.next() > q.mtu {
			f.cut = cutter{} // of the time of a larger MTU
			continue
		}
		n += q.write(f, b[n:n+size])
	}
	return n
}

// write makes one frame of a flow's first packet.
func (q *queue) write(f *flow, frame []byte) int {
	if f.cut.write(frame[q.headroom:]) {
		f.cut = cutter{}
	}
	if q.putHeader != nil {
		q.putHeader(frame)
	}
	f.credit -= len(frame)
	return len(frame)
}

// pick returns the flow whose turn it is, with a packet under its cutter; nil if
// nothing waits.
func (q *queue) pick() *flow {
	for {
		list := &q.fresh
		if list.first == nil {
			list = &q.waiting
		}
		f := list.first
		switch {
		case f == nil:
			return nil
		case f.credit <= 0:
			f.credit += quantum
			q.waiting.add(list.remove())
		case f.cut.data != nil:
			return f
		case f.head < len(f.packets):
			f.cut.begin(q.pop(f), q.mtu)
		case list == &q.fresh && q.waiting.first != nil:
			// It may be back at once; then the others had their turn before.
			q.waiting.add(list.remove())
		default:
			list.remove().listed = false
		}
	}
}

func (q *queue) setMTU(mtu int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mtu = mtu
}

// purge drops all that waits: it carries an address that is no longer ours.
func (q *queue) purge() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.slots {
		f := &q.slots[i]
		q.cost -= f.cost
		f.packets, f.head, f.cost, f.cut = nil, 0, 0, cutter{}
	}
}
