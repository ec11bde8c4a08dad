package main

import (
	"encoding/binary"
	"sync"

	"sstproxy/netstack/offload"
	"sstproxy/tunnel/tunneltest"
)

// responder is a network with a service on each address and port of IPv4: it
// gives back the first octet of what a segment brings, and closes when the client
// does, sending nothing else. Its segments are those of a system whose service
// answers at once. It keeps nothing of a connection, because all of them follow
// from the segment at hand. What gets lost, which is nothing here, the client sends
// again.
type responder struct {
	ready chan struct{}

	mu     sync.Mutex
	frames []byte // to the client, one after the other
}

func newResponder() tunneltest.Network {
	r := &responder{ready: make(chan struct{}, 1)}
	return tunneltest.Network{Deliver: r.deliver, Ready: r.ready, Fill: r.fill}
}

// deliver is a [tunneltest.Network]'s Deliver.
func (r *responder) deliver(batch [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, packet := range batch {
		if s, ok := offload.ParseSegment(packet); ok && s.IPLen == ip4Len && s.Valid() {
			r.answer(&s)
		}
	}
	if len(r.frames) > 0 {
		select {
		case r.ready <- struct{}{}:
		default:
		}
	}
}

// Headers without options in octets, and flags (RFC 9293 §3.1).
const (
	ip4Len = 20
	tcpLen = 20

	flagSYN = 2
	flagRST = 4
)

// answer adds the segments that answer one: each is acknowledged at once, as it is
// at the beginning of a connection with most systems.
func (r *responder) answer(s *offload.Segment) {
	payload := s.Payload()
	n := len(payload)
	switch {
	case s.Flags&flagRST != 0:
	case s.Flags&flagSYN != 0:
		r.send(s, 1, flagSYN, nil)
	case s.Flags&offload.FlagFIN != 0:
		r.send(s, n+1, 0, nil)
		r.send(s, n+1, offload.FlagFIN, nil)
	case n > 0:
		r.send(s, n, 0, nil)
		r.send(s, n, offload.FlagPSH, payload[:1])
	}
}

// The options of a SYN: maximum segment size, SACK permitted, timestamps, window
// scale; and those of other segments: timestamps (RFC 7323).
var (
	synOptions = []byte{2, 4, 1360 >> 8, 1360 & 0xFF, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}
	options    = []byte{8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1}
)

// send adds a frame with an answer to s that acknowledges n sequence numbers of it.
func (r *responder) send(s *offload.Segment, n int, flags byte, payload []byte) {
	options, echo := options, 6 // where in them TSecr is
	if flags&flagSYN != 0 {
		options, echo = synOptions, 12
	}
	at := len(r.frames)
	r.frames = append(r.frames, make([]byte, tunneltest.Headroom+ip4Len+tcpLen)...)
	r.frames = append(append(r.frames, options...), payload...)
	frame := r.frames[at:]

	ip, asked := frame[tunneltest.Headroom:], s.Packet
	ip[0], ip[8], ip[9] = 0x45, 64, offload.TCP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], asked[16:20])
	copy(ip[16:], asked[12:16])
	binary.BigEndian.PutUint16(ip[10:], ^offload.Sum(ip[:ip4Len], 0))

	tcp, asked := ip[ip4Len:], asked[ip4Len:s.HeaderLen]
	copy(tcp, asked[2:4])
	copy(tcp[2:], asked[:2])
	copy(tcp[4:], asked[8:12]) // what the client has acknowledged
	binary.BigEndian.PutUint32(tcp[8:], s.Seq+uint32(n))
	tcp[12], tcp[13] = byte(tcpLen+len(options))/4<<4, flags|offload.FlagACK
	binary.BigEndian.PutUint16(tcp[14:], 0xFFFF)
	copy(tcp[tcpLen+echo:], timestamp(asked[tcpLen:]))
	check := offload.Checksum(offload.TCP, tcp, offload.PseudoHeader(ip, offload.TCP, len(tcp)))
	binary.BigEndian.PutUint16(tcp[16:], check)
	tunneltest.PutHeader(frame)
}

// timestamp is TSval in the options of a segment, or empty.
func timestamp(o []byte) []byte {
	for len(o) >= 10 {
		switch {
		case o[0] == 8:
			return o[2:6]
		case o[0] == 1:
			o = o[1:]
		default:
			o = o[min(max(int(o[1]), 2), len(o)):]
		}
	}
	return nil
}

// fill is a [tunneltest.Network]'s Fill.
func (r *responder) fill(b []byte) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(r.frames) {
		size := frameLen(r.frames[n:])
		if n+size > len(b) {
			break
		}
		n += size
	}
	copy(b, r.frames[:n])
	r.frames = r.frames[:copy(r.frames, r.frames[n:])]
	return n
}

// frameLen is the length of the frame that b begins with, which is in the last 12
// bits of its first four octets ([MS-SSTP] 2.2.1).
func frameLen(b []byte) int { return int(binary.BigEndian.Uint16(b[2:]) & 0x0FFF) }
