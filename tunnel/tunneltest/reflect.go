package tunneltest

import "sync"

// reflectLimit bounds in octets what a reflector keeps for a client that does
// not read; beyond it packets are dropped, as a router would.
const reflectLimit = 4 << 20

// Reflect is a network that sends every IP packet back with its two addresses
// exchanged, which leaves all checksums right. It is a function for
// [Config.Attach].
func Reflect(Client) Network {
	r := &reflector{ready: make(chan struct{}, 1)}
	return Network{Deliver: r.deliver, Ready: r.ready, Fill: r.fill}
}

// reflector keeps the packets as frames, one after the other.
type reflector struct {
	ready chan struct{}

	mu     sync.Mutex
	frames []byte
	start  int // of what is not sent yet
}

func (r *reflector) deliver(batch [][]byte) {
	r.mu.Lock()
	for _, packet := range batch {
		if len(r.frames)-r.start < reflectLimit {
			r.add(packet)
		}
	}
	r.mu.Unlock()
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

func (r *reflector) add(packet []byte) {
	at, size := 12, 4
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
	case len(packet) >= 40 && packet[0]>>4 == 6:
		at, size = 8, 16
	default:
		return
	}
	begin := len(r.frames)
	r.frames = append(r.frames, make([]byte, Headroom)...)
	r.frames = append(r.frames, packet...)
	frame := r.frames[begin:]
	PutHeader(frame)
	source, destination := packet[at:at+size], packet[at+size:at+2*size]
	copy(frame[Headroom+at:], destination)
	copy(frame[Headroom+at+size:], source)
}

func (r *reflector) fill(b []byte) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for r.start < len(r.frames) {
		size := packetLen(r.frames[r.start:])
		if n+size > len(b) {
			break
		}
		n += copy(b[n:], r.frames[r.start:r.start+size])
		r.start += size
	}
	if r.start == len(r.frames) {
		r.frames, r.start = r.frames[:0], 0
	}
	return n
}
