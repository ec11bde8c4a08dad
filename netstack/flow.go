package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sstproxy/netstack/fairq"
)

// schedule holds the packets of all flows, and flow those of one TCP connection,
// or of one pair of ports.
type (
	schedule = fairq.Queue[flowKey, *stack.PacketBuffer, cutter]
	flow     = fairq.Flow[flowKey, *stack.PacketBuffer, cutter]
)

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

// write sends frames of the packet under the cutter until it ends, the turn is
// over, or b is full.
func write(f *flow, b []byte, headroom int, putHeader func([]byte)) (octets, frames int) {
	for f.Begun && f.Credit > 0 {
		size := headroom + f.Cut.size()
		if octets+size > len(b) {
			break
		}
		frame := b[octets : octets+size]
		if last := f.Cut.next(frame[headroom:]); last {
			end(f)
		}
		if putHeader != nil {
			putHeader(frame)
		}
		octets += size
		frames++
		f.Credit -= size
	}
	return octets, frames
}

// end gives back the packet under the cutter.
func end(f *flow) {
	f.Cut.end()
	f.Begun = false
}

// remove empties the flows that match and returns what waited. A packet that has
// begun to be sent stays.
func remove(s *schedule, match func(flowKey) bool) (pkts []*stack.PacketBuffer) {
	for k, f := range s.Flows() {
		for match(k) && f.Waiting() > 0 {
			pkt, _ := f.Pop()
			pkts = append(pkts, pkt)
		}
	}
	return pkts
}

// drain empties all flows and returns what waited.
func drain(s *schedule) []*stack.PacketBuffer {
	for _, f := range s.Flows() {
		if f.Begun {
			end(f)
		}
	}
	pkts := remove(s, func(flowKey) bool { return true })
	*s = schedule{}
	return pkts
}
