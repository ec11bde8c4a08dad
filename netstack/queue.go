package netstack

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// streamLimit is how much TCP data may wait in the queue with MemoryNormal;
	// only then do its senders wait instead. It bounds memory and nothing else:
	// TCP's own window bounds what a flow has here, the flows take turns, and a
	// sender that waits holds up others of its worker.
	streamLimit = 32 << 20
	// controlReserve is what TCP segments without data may use beyond
	// streamLimit. See egress for why they must not wait.
	controlReserve = 256 << 10
	// datagramLimit bounds everything that is not TCP.
	datagramLimit = 256 << 10
	// packetOverhead is about what a queued packet costs besides its octets,
	// so that the limits bound memory and not only payload.
	packetOverhead = 256
	// downWait is how long a TCP sender may still wait after the link went
	// down. A reconnect that is faster costs it nothing; after that the wait
	// ends, because the endpoint's lock is held during it.
	downWait = time.Second
)

// egress is the queue between the stack and whoever calls Fill. It holds a
// queue per flow, and the flows take turns; see fairq.
//
// TCP data is never dropped; when the limit is reached it waits: a drop-tail
// queue inside the client would ruin TCP. gVisor calls push with the endpoint's
// lock held, from the goroutine of a net.Conn Write, from a timer, or from one
// of its own workers. That this cannot deadlock rests on these points:
//
//   - Room is made by Fill alone, and Fill takes no lock but the queue's. Its
//     caller needs nothing from the stack, so the queue drains as long as the
//     link lives, whoever waits.
//   - Deliver never waits here, otherwise a server that does not read while we
//     do not read would stop both for ever. Segments without data (ACK, RST,
//     SYN, FIN) use a reserve instead of waiting, and so the RST for an unknown
//     flow, which is sent from Deliver's goroutine, passes. ICMP, whose errors
//     make gVisor take an endpoint's lock or even resend data, is not handled
//     in Deliver's goroutine at all (see deliver.go). TCP segments are only
//     queued there (gVisor's dispatcher.queuePacket).
//   - Inbound segments of an endpoint whose lock is held wait in its own
//     queue; an ACK worker that waits here delays the flows it serves but
//     needs none of them.
//   - When no session calls Fill, the link is down: LinkDown ends every wait
//     after downWait, and the data is then lost as on a cut cable. Until then
//     the Close and the deadlines of a connection that waits here wait, too.
//   - SetLink with another address purges the queue and ends the waits before
//     it touches an endpoint; Close ends them before it closes the stack.
//
// Memory is bounded: check and push are under one lock, so the queue holds at
// most the three limits and one packet beyond each.
//
// Datagrams are dropped when there are too many: of the flow that has most of
// them, as FQ-CoDel does (RFC 8290 4.1.3), and its oldest first, because late
// ones are worth less than new ones.
type egress struct {
	ready chan struct{} // capacity 1
	limit int           // of streams
	mtu   atomic.Uint32

	mu        sync.Mutex
	room      sync.Cond // one signal per freed place; who got in passes it on
	flows     schedule
	streams   int       // cost of the TCP packets that wait
	datagrams int       // and of all others
	down      bool      // the link is down
	since     time.Time // when it went down
	overdue   bool      // it has been for downWait: nobody waits
	closed    bool
	timer     *time.Timer // ends the waits when down

	fillMu sync.Mutex // held by fill; taken before mu

	sent, dropped atomic.Uint64 // packets
	awaits        atomic.Bool   // something that wants an acknowledgement has left since anything came
}

func newEgress() *egress {
	q := &egress{ready: make(chan struct{}, 1), limit: streamLimit, down: true, overdue: true}
	q.room.L = &q.mu
	q.mtu.Store(defaultMTU)
	return q
}

// push appends a packet, taking a reference of its own. It blocks as described
// above.
func (q *egress) push(pkt *stack.PacketBuffer) tcpip.Error {
	if pkt.TransportProtocolNumber == header.TCPProtocolNumber {
		return q.pushStream(pkt, pkt.Data().Size() > 0)
	}
	return q.pushDatagram(pkt)
}

func (q *egress) pushStream(pkt *stack.PacketBuffer, data bool) tcpip.Error {
	q.mu.Lock()
	defer q.mu.Unlock()
	limit := q.limit
	if !data {
		limit += controlReserve
	}
	for data && q.streams >= limit && !q.overdue && !q.closed {
		q.room.Wait()
	}
	if q.closed {
		return &tcpip.ErrClosedForSend{}
	}
	if q.streams >= limit {
		q.dropped.Add(1)
		return &tcpip.ErrNoBufferSpace{}
	}
	cost := costOf(pkt)
	q.streams += cost
	q.flows.Of(keyOf(pkt)).Push(pkt.IncRef(), cost)
	q.passOn()
	q.signal()
	return nil
}

func (q *egress) pushDatagram(pkt *stack.PacketBuffer) tcpip.Error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return &tcpip.ErrClosedForSend{}
	}
	cost := costOf(pkt)
	q.datagrams += cost
	f := q.flows.Of(keyOf(pkt))
	f.Push(pkt.IncRef(), cost)
	dropped := q.shorten(f)
	q.signal()
	q.mu.Unlock()
	// Not under the lock: the last reference of a UDP packet wakes the socket
	// that waits for send buffer space.
	release(dropped)
	return nil
}

// shorten removes datagrams until those that wait keep to the limit. f is the
// flow that was just pushed to.
func (q *egress) shorten(f *flow) (dropped []*stack.PacketBuffer) {
	longest := q.flows.Longest(f)
	for q.datagrams > datagramLimit {
		oldest, cost := longest.Pop()
		q.datagrams -= cost
		dropped = append(dropped, oldest)
		longest = q.flows.Longest(f)
	}
	q.dropped.Add(uint64(len(dropped)))
	return dropped
}

func costOf(pkt *stack.PacketBuffer) int { return pkt.Size() + packetOverhead }

// passOn lets one waiting sender in if there is room. Each that got in calls
// it again, so one signal from Fill reaches as many as there is room for.
func (q *egress) passOn() {
	if q.streams < q.limit {
		q.room.Signal()
	}
}

func (q *egress) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// fill writes whole frames into b: headroom octets, left to putHeader, and an
// IP packet. Packets longer than the MTU are cut on the way. The copying is
// done without the lock, so that senders do not wait for it.
func (q *egress) fill(b []byte, headroom int, putHeader func([]byte)) (n int) {
	q.fillMu.Lock()
	defer q.fillMu.Unlock()
	for f := q.pick(); f != nil; f = q.pick() {
		wants := f.Cut.wants
		octets, frames := write(f, b[n:], headroom, putHeader)
		n += octets
		q.sent.Add(uint64(frames))
		switch {
		case frames > 0:
			if wants && !q.awaits.Load() {
				q.awaits.Store(true)
			}
		case n > 0: // b is full
			q.signal()
			return n
		default:
			// Larger than the whole buffer: the caller's mistake. Waiting
			// for a larger one would stop the queue for ever.
			end(f)
			q.dropped.Add(1)
		}
	}
	return n
}

// answered says that something came.
func (q *egress) answered() {
	if q.awaits.Load() {
		q.awaits.Store(false)
	}
}

// pick returns the flow whose turn it is, with a packet under its cutter.
func (q *egress) pick() *flow {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.flows.Next()
	if f == nil || f.Begun {
		return f
	}
	pkt, cost := f.Pop()
	if pkt.TransportProtocolNumber == header.TCPProtocolNumber {
		q.streams -= cost
		q.passOn()
	} else {
		q.datagrams -= cost
	}
	f.Begun = true
	f.Cut.begin(pkt, int(q.mtu.Load()))
	return f
}

// setUp makes senders wait for room again, for as long as it takes. stale drops
// all that waits; if the link was down for longer than staleAfter, datagrams
// are dropped anyway.
func (q *egress) setUp(stale bool) {
	q.mu.Lock()
	var pkts []*stack.PacketBuffer
	switch {
	case stale:
		pkts = remove(&q.flows, func(flowKey) bool { return true })
		q.streams, q.datagrams = 0, 0
	case q.down && time.Since(q.since) > staleAfter:
		pkts = remove(&q.flows, func(k flowKey) bool { return k.proto != header.TCPProtocolNumber })
		q.datagrams = 0
	}
	q.dropped.Add(uint64(len(pkts)))
	q.down, q.overdue = false, false
	q.stopTimer()
	q.passOn()
	q.signal()
	q.mu.Unlock()
	release(pkts)
}

// setDown bounds all waits, those that have begun and those to come.
func (q *egress) setDown() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down || q.closed {
		return
	}
	q.down, q.since = true, time.Now()
	q.timer = time.AfterFunc(downWait, q.endWaits)
}

func (q *egress) endWaits() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down {
		q.overdue = true
		q.room.Broadcast()
	}
}

// purge drops everything queued and ends all waits until setUp: the packets
// carry an address that is no longer ours.
func (q *egress) purge() {
	q.fillMu.Lock()
	defer q.fillMu.Unlock()
	q.mu.Lock()
	q.stopTimer()
	q.down, q.overdue = true, true
	q.streams, q.datagrams = 0, 0
	pkts := drain(&q.flows)
	q.room.Broadcast()
	q.mu.Unlock()
	release(pkts)
}

// close drops everything and makes every push fail, those that wait first.
func (q *egress) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.purge()
}

func (q *egress) stopTimer() {
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
}

func release(pkts []*stack.PacketBuffer) {
	for _, pkt := range pkts {
		pkt.DecRef()
	}
}
