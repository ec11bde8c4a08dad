package netns

import (
	"bytes"
	"testing"

	"sstproxy/netstack/fairq"
	"sstproxy/netstack/offload"
)

// flowPacket is a packet of n octets of the flow with the given port.
func flowPacket(port, n int) packet {
	b := segmentOf(false, 1, offload.FlagACK, payloadOf(n-52))
	b[20], b[21] = byte(port>>8), byte(port)
	seal(b)
	return packet{data: b, ipLen: 20, proto: offload.TCP}
}

// A packet of a quiet flow goes before all that another one has waiting, but
// for what it has begun to send.
func TestQueueTurns(t *testing.T) {
	q := newQueue(0, nil)
	for range 1000 {
		q.push(flowPacket(1, 1000))
	}
	b := make([]byte, fairq.Quantum)
	if n := q.fill(b); n != 32*1000 {
		t.Errorf("got %d octets, want the turn of one flow", n)
	}
	q.push(flowPacket(2, 60))
	if n := q.fill(b[:1500]); n != 1060 || !bytes.Equal(b[1000:n], flowPacket(2, 60).data) {
		t.Error("the packet of the quiet flow did not come first")
	}
	// From then on they take turns.
	for range 1000 {
		q.push(flowPacket(2, 1000))
	}
	count := map[byte]int{}
	for range 100 {
		q.fill(b[:1000])
		count[b[21]]++
	}
	if count[1] < 30 || count[2] < 30 {
		t.Errorf("got %v, want about as many of both", count)
	}
}

// What is too much is taken from the longest flow, its oldest first.
func TestQueueLimit(t *testing.T) {
	q := newQueue(0, nil)
	q.push(flowPacket(2, 60))
	total := queueLimit/(1000+packetOverhead) + 100
	for range total {
		q.push(flowPacket(1, 1000))
	}
	if q.cost > queueLimit {
		t.Errorf("%d octets wait, the limit is %d", q.cost, queueLimit)
	}
	b, got, quiet := make([]byte, 64<<10), 0, false
	for n := q.fill(b); n > 0; n = q.fill(b) {
		got += n
		quiet = quiet || bytes.Contains(b[:n], flowPacket(2, 60).data)
	}
	if !quiet || got > queueLimit || got < queueLimit*9/10 {
		t.Errorf("got %d octets, the quiet flow's packet among them: %v", got, quiet)
	}
	if q.cost != 0 {
		t.Errorf("the empty queue is said to hold %d octets", q.cost)
	}
}

// Frames have their headroom, do not exceed the MTU, and are whole: what does not
// fit waits, and Ready says so.
func TestQueueFrames(t *testing.T) {
	q := newQueue(8, func(frame []byte) { frame[0] = 0xAA })
	q.setMTU(1280)
	q.push(flowPacket(1, 1400)) // of the time of a larger MTU
	whole := ipPacket(false, offload.TCP, append(tcpHeader(1, offload.FlagACK), payloadOf(3000)...))
	q.push(packet{data: whole, segment: 1448, ipLen: 20, proto: offload.TCP})
	<-q.ready
	b := make([]byte, 1300)
	for _, want := range []int{1288, 1288, 8 + 52 + 3000 - 2*1228} {
		if n := q.fill(b); n != want || b[0] != 0xAA {
			t.Errorf("got a frame of %d octets, want %d", n, want)
		}
	}
	if n := q.fill(b); n != 0 {
		t.Errorf("got %d octets of nothing", n)
	}
	for range 3 {
		q.push(flowPacket(1, 600))
	}
	<-q.ready
	if n := q.fill(b); n != 2*608 {
		t.Errorf("got %d octets, want two frames", n)
	}
	<-q.ready
	q.purge()
	if n := q.fill(b); n != 0 || q.cost != 0 {
		t.Errorf("got %d octets after the purge", n)
	}
}

// Sending costs no memory but that of the packets.
func TestQueueAllocs(t *testing.T) {
	q := newQueue(8, nil)
	p := flowPacket(1, 1400)
	b := make([]byte, 64<<10)
	if n := testing.AllocsPerRun(1000, func() {
		for range 10 {
			q.push(p)
		}
		q.fill(b)
	}); n > 0 {
		t.Errorf("got %v allocations for ten packets", n)
	}
}
