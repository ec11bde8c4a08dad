package netstack

import (
	"encoding/binary"
	"maps"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sstproxy/netstack/fairq"
)

// streamPacket is a TCP packet of a flow; its first octet is tag.
func streamPacket(hash uint32, tag byte, n int) *stack.PacketBuffer {
	data := make([]byte, n)
	data[0] = tag
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(data)})
	pkt.TransportProtocolNumber, pkt.Hash = header.TCPProtocolNumber, hash
	return pkt
}

// push queues packets and gives up their references.
func pushAll(t *testing.T, q *egress, pkts ...*stack.PacketBuffer) {
	t.Helper()
	for _, pkt := range pkts {
		if err := q.push(pkt); err != nil {
			t.Fatal(err)
		}
		pkt.DecRef()
	}
}

// tags returns the first octets of the packets of one Fill.
func tags(q *egress, room int) (s string) {
	b := make([]byte, room)
	sizes := []int{}
	n := q.fill(b, 1, func(frame []byte) { sizes = append(sizes, len(frame)) })
	for at := 0; at < n; {
		s += string(b[at+1])
		at += sizes[0]
		sizes = sizes[1:]
	}
	return s
}

// TestFairness: bulk flows take turns, and a flow that had nothing waiting
// goes before them.
func TestFairness(t *testing.T) {
	q := newEgress()
	const frame, turn = 1001, fairq.Quantum/1001 + 1
	for range 3 * turn {
		pushAll(t, q, streamPacket(1, 'a', frame-1))
	}
	for range 3 * turn {
		pushAll(t, q, streamPacket(2, 'b', frame-1))
	}
	want := strings.Repeat("a", turn) + strings.Repeat("b", turn) + "aa"
	if got := tags(q, len(want)*frame); got != want {
		t.Errorf("first batch %q, want a turn each", got)
	}
	pushAll(t, q, streamPacket(3, 'k', 10))
	if got := tags(q, 12*frame); got[:1] != "k" {
		t.Errorf("second batch %q, want the keystroke first", got)
	}
}

// TestFairShare: over many turns each flow sends the same number of octets,
// whatever the size of its packets.
func TestFairShare(t *testing.T) {
	q := newEgress()
	for range 1500 {
		pushAll(t, q, streamPacket(1, 'a', 100), streamPacket(2, 'b', 1000), streamPacket(2, 'b', 1000))
	}
	octets := map[rune]int{}
	for range 20 {
		for _, tag := range tags(q, 8<<10) {
			octets[tag] += map[rune]int{'a': 101, 'b': 1001}[tag]
		}
	}
	a, b := octets['a'], octets['b']
	if a+b < 100_000 || a < b-2*fairq.Quantum || b < a-2*fairq.Quantum {
		t.Errorf("flows sent %d and %d octets, want about the same", a, b)
	}
}

// TestEmptyQueueIsEmpty: what was sent is not counted any more.
func TestEmptyQueueIsEmpty(t *testing.T) {
	q := newEgress()
	for i := range uint32(1000) {
		pushAll(t, q, streamPacket(i+1, 'a', 10))
		tags(q, 4096)
	}
	tags(q, 4096)
	if n := len(maps.Collect(q.flows.Flows())); n > 1 {
		t.Errorf("%d flows are kept", n)
	}
	if q.streams != 0 {
		t.Errorf("%d octets counted in an empty queue", q.streams)
	}
}

// TestPurgeForgetsAll: a purge in the middle of a packet leaves nothing.
func TestPurgeForgetsAll(t *testing.T) {
	q := newEgress()
	pushAll(t, q, streamPacket(1, 'a', 1000), streamPacket(1, 'a', 1000), streamPacket(2, 'b', 1000))
	tags(q, 1100)
	q.purge()
	if got := tags(q, 64<<10); got != "" || q.streams != 0 || len(maps.Collect(q.flows.Flows())) != 0 {
		t.Errorf("%q and %d octets are left", got, q.streams)
	}
}

// datagram is a UDP packet from a port.
func datagram(port uint16, n int) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.UDPMinimumSize, Payload: buffer.MakeWithData(make([]byte, n)),
	})
	binary.BigEndian.PutUint16(pkt.TransportHeader().Push(header.UDPMinimumSize), port)
	pkt.TransportProtocolNumber = header.UDPProtocolNumber
	return pkt
}

// TestDatagramsOfOneFlow: a flow that has too many waiting loses its own, not
// those of others.
func TestDatagramsOfOneFlow(t *testing.T) {
	q := newEgress()
	for range 1000 {
		pushAll(t, q, datagram(1, 1400))
	}
	pushAll(t, q, datagram(2, 1400))
	if q.flows.Of(keyOf(datagram(2, 1400))).Waiting() == 0 {
		t.Error("the only packet of the second flow was dropped")
	}
}

// TestDatagramsAreBounded: also when large ones take the place of small ones.
func TestDatagramsAreBounded(t *testing.T) {
	q := newEgress()
	for _, size := range []int{20, 1400} {
		for range 2000 {
			pushAll(t, q, datagram(1, size))
		}
	}
	if q.datagrams > datagramLimit {
		t.Errorf("%d octets wait, the limit is %d", q.datagrams, datagramLimit)
	}
}

// TestEchoRepliesAreOneFlow: a server that floods us with echo requests must
// not get a fresh flow for each reply.
func TestEchoRepliesAreOneFlow(t *testing.T) {
	var keys []flowKey
	for i := range uint16(2) {
		pkt := datagram(0, 10)
		pkt.TransportProtocolNumber = header.ICMPv4ProtocolNumber
		header.ICMPv4(pkt.TransportHeader().Slice()).SetChecksum(i)
		keys = append(keys, keyOf(pkt))
	}
	if keys[0] != keys[1] {
		t.Errorf("flows %v and %v, want one", keys[0], keys[1])
	}
}

// TestReferences: each way out of the queue gives its reference back, once.
func TestReferences(t *testing.T) {
	for name, empty := range map[string]func(*egress){
		"fill":  func(q *egress) { tags(q, 1<<20) },
		"small": func(q *egress) { q.fill(make([]byte, 10), 1, nil) },
		"purge": func(q *egress) { tags(q, 1100); q.purge() },
		"close": func(q *egress) { tags(q, 1100); q.close() },
	} {
		q := newEgress()
		pkts := []*stack.PacketBuffer{streamPacket(1, 'a', 1000), streamPacket(1, 'b', 1000), datagram(7, 500)}
		for range 300 {
			pkts = append(pkts, datagram(8, 1400)) // some are dropped
		}
		for _, pkt := range pkts {
			if err := q.push(pkt); err != nil {
				t.Fatal(err)
			}
		}
		empty(q)
		for i, pkt := range pkts {
			if n := pkt.ReadRefs(); n != 1 {
				t.Errorf("%s: packet %d has %d references, want the test's own", name, i, n)
			}
			pkt.DecRef()
		}
	}
}
