// Package fairq lets flows of packets take turns on a link, octet by octet and not
// packet by packet: deficit round robin (Shreedhar and Varghese, 1995). A flow that
// had nothing waiting goes first, as in FQ-CoDel (RFC 8290 §4.1): a keystroke or a
// DNS query never waits behind an upload.
//
// It holds what waits and says whose turn it is. What a packet is, how it is sent
// and how much may wait is the caller's; so is the lock.
//
//	q.Of(key).Push(packet, cost)
//
//	for f := q.Next(); f != nil; f = q.Next() {
//		packet, _ := f.Pop()
//		f.Credit -= send(packet)
//	}
package fairq

import (
	"iter"
	"maps"
)

// Quantum is how many octets a flow may send in its turn. Who receives them can
// merge what comes in a row; a flow that had nothing waiting goes first anyhow, so
// this delays bulk transfers only, and each other only.
const Quantum = 32 << 10

// maxSpare is how many flows are kept for reuse; a burst of more is rare.
const maxSpare = 64

// Queue holds packets P of flows that keys K tell apart. C is what a flow has of a
// packet that has begun to be sent. The zero value is empty.
type Queue[K comparable, P, C any] struct {
	flows          map[K]*Flow[K, P, C]
	fresh, waiting list[K, P, C]
	spare          *Flow[K, P, C] // flows for reuse
	spares         int            // how many
	longest        *Flow[K, P, C] // of those that Longest was asked about
}

// Flow is what waits of one key. It is valid until it is empty and Next is called.
type Flow[K comparable, P, C any] struct {
	// Begun tells that a packet was taken off the flow and not yet sent
	// altogether; Cut has it. Next returns the flow for the rest of it.
	Begun bool
	Cut   C
	// Credit is how many octets the flow may send before its turn is over; who
	// sends takes them off. The last packet may exceed it.
	Credit int

	key   K
	items []item[P] // items[head:] wait
	head  int
	cost  int            // of items[head:]
	next  *Flow[K, P, C] // on the list it is on
}

type item[P any] struct {
	packet P
	cost   int
}

// Push appends a packet. Its cost is what Longest counts.
func (f *Flow[K, P, C]) Push(packet P, cost int) {
	if f.head > 0 && len(f.items) == cap(f.items) {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, item[P]{packet, cost})
	f.cost += cost
}

// Pop takes the oldest packet off a flow in which one waits.
func (f *Flow[K, P, C]) Pop() (packet P, cost int) {
	it := f.items[f.head]
	f.items[f.head] = item[P]{}
	f.head++
	f.cost -= it.cost
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return it.packet, it.cost
}

// Waiting is how many packets wait, without one that has begun to be sent.
func (f *Flow[K, P, C]) Waiting() int { return len(f.items) - f.head }

// list is a queue of flows.
type list[K comparable, P, C any] struct{ first, last *Flow[K, P, C] }

func (l *list[K, P, C]) add(f *Flow[K, P, C]) {
	f.next = nil
	if l.last == nil {
		l.first = f
	} else {
		l.last.next = f
	}
	l.last = f
}

func (l *list[K, P, C]) remove() *Flow[K, P, C] {
	f := l.first
	l.first = f.next
	if l.first == nil {
		l.last = nil
	}
	return f
}

// Of returns the flow for a packet that is about to be pushed.
func (q *Queue[K, P, C]) Of(key K) *Flow[K, P, C] {
	if f := q.flows[key]; f != nil {
		return f
	}
	if q.flows == nil {
		q.flows = map[K]*Flow[K, P, C]{}
	}
	f := q.spare
	if f == nil {
		f = &Flow[K, P, C]{}
	} else {
		q.spare = f.next
		q.spares--
	}
	f.key, f.Credit = key, Quantum
	q.flows[key] = f
	q.fresh.add(f)
	return f
}

// Next returns the flow whose turn it is, with something to send and credit for
// it; nil if nothing waits.
func (q *Queue[K, P, C]) Next() *Flow[K, P, C] {
	for {
		from := &q.fresh
		if from.first == nil {
			from = &q.waiting
		}
		f := from.first
		switch {
		case f == nil:
			return nil
		case f.Credit <= 0:
			f.Credit += Quantum
			q.waiting.add(from.remove())
		case f.Begun || f.Waiting() > 0:
			return f
		case from == &q.fresh && q.waiting.first != nil:
			// It may be back at once; then the others had their turn before.
			q.waiting.add(from.remove())
		default:
			q.forget(from.remove())
		}
	}
}

// Longest returns the flow with most waiting, by cost, after f has changed. It
// knows the others from when it was asked about them: to look at each would be
// dear, and one that has become shorter since is not worse off than the others.
func (q *Queue[K, P, C]) Longest(f *Flow[K, P, C]) *Flow[K, P, C] {
	if q.longest == nil || q.longest.cost < f.cost {
		q.longest = f
	}
	return q.longest
}

// Flows are those in which something waits, and others that it did before.
func (q *Queue[K, P, C]) Flows() iter.Seq2[K, *Flow[K, P, C]] { return maps.All(q.flows) }

// forget keeps a flow that ran empty for reuse.
func (q *Queue[K, P, C]) forget(f *Flow[K, P, C]) {
	delete(q.flows, f.key)
	if q.longest == f {
		q.longest = nil
	}
	if q.spares < maxSpare {
		f.next, q.spare = q.spare, f
		q.spares++
	}
}
