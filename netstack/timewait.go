package netstack

import (
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"sstproxy/netstack/offload"
)

const (
	// timeWait is how long the answer to a segment of an ended connection is
	// known, at least: the TIME-WAIT of RFC 9293 3.4.1, though not of 4 minutes.
	// A last ACK that was lost is asked for again within seconds.
	timeWait = 10 * time.Second
	// endpointTimeWait is how much of that an endpoint sees to. It holds 8 KiB
	// and a port, and a program that opens thousands of connections a second
	// paid more for those that were over than for those that it used.
	endpointTimeWait = 100 * time.Millisecond
	// maxEnded bounds the connections of one period in ended; of what comes beyond
	// that, late segments are reset.
	maxEnded = 1 << 16
)

// ended knows the connections that came to TIME-WAIT: all that the peer has sent
// has arrived, its end included, but it may not know that. They are forgotten at
// the end of the period after the one in which they ended. Its methods may be
// called concurrently.
type ended struct {
	clock *stallClock

	mu         sync.Mutex
	young, old map[fourTuple]finalState // of this and of the last period
	timer      tcpip.Timer              // ends the period; nil if there is none
	closed     bool
}

// fourTuple is the two ends of a connection. It has no pointers, so that the
// collector does not look at thousands of them.
type fourTuple struct {
	local, remote         [16]byte
	localPort, remotePort uint16
}

func fourTupleOf(local, remote netip.AddrPort) fourTuple {
	return fourTuple{local.Addr().As16(), remote.Addr().As16(), local.Port(), remote.Port()}
}

// finalState is SND.NXT and RCV.NXT of a connection (RFC 9293 3.3.1) that has
// sent and received all.
type finalState struct{ snd, rcv uint32 }

// add takes note of a connection, again if it is known.
func (e *ended) add(t fourTuple, f finalState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(e.young) >= maxEnded {
		return
	}
	if e.young == nil {
		e.young = map[fourTuple]finalState{}
	}
	e.young[t] = f
	if e.timer == nil {
		e.timer = e.clock.AfterFunc(timeWait, e.age)
	}
}

// age begins a period.
func (e *ended) age() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.young, e.old = nil, e.young
	if len(e.old) == 0 || e.closed {
		e.timer = nil
		return
	}
	e.timer.Reset(timeWait)
}

// remove forgets a connection, because there is a new one between the same ends.
func (e *ended) remove(t fourTuple) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.young, t)
	delete(e.old, t)
}

// of returns how a connection ended, if that is known.
func (e *ended) of(t fourTuple) (f finalState, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f, ok = e.young[t]; !ok {
		f, ok = e.old[t]
	}
	return f, ok
}

// close forgets all, for good.
func (e *ended) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.young, e.old, e.closed = nil, nil, true
	if e.timer != nil {
		e.timer.Stop()
	}
}

// tcpReadNotifier is a connection as the endpoint sees it when there is
// something to read.
type tcpReadNotifier tcpConn

// NotifyEvent implements waiter.EventListener. The endpoint may be locked, and is
// at the beginning of TIME-WAIT. That is told even after Close.
func (n *tcpReadNotifier) NotifyEvent(mask waiter.EventMask) {
	if ep, ok := n.ep.(*tcp.Endpoint); ok && mask&waiter.EventHUp != 0 && ep.EndpointState() == tcp.StateTimeWait {
		if snd := senderOf(ep); snd != nil {
			n.stack.ended.add(n.ends, finalState{uint32(snd.SndNxt), uint32(snd.MaxSentAck)})
		}
	}
	(*readNotifier)(&n.socket).NotifyEvent(mask)
}

// lateSegment is one for which there may be no endpoint.
type lateSegment struct {
	header.TCP
	local, remote netip.Addr
	payload       int // octets
}

func (l lateSegment) ends() fourTuple {
	return fourTupleOf(netip.AddrPortFrom(l.local, l.DestinationPort()), netip.AddrPortFrom(l.remote, l.SourcePort()))
}

// unmatched is called for segments of which gVisor knows no endpoint. It tells
// whether they have been answered; if not, gVisor resets.
func (s *Stack) unmatched(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	return pkt.RXChecksumValidated && s.answerEnded(lateSegment{
		header.TCP(pkt.TransportHeader().Slice()), addrOf(id.LocalAddress), addrOf(id.RemoteAddress), pkt.Data().Size(),
	})
}

// late is unmatched for what a listener would get and reset: gVisor gives it
// whatever comes to its port and belongs to no other endpoint.
func (s *Stack) late(p *offload.Packet) bool {
	if s.listeners.Load() == 0 {
		return false
	}
	l := lateSegment{TCP: header.TCP(p.Header[p.IPLen:]), payload: p.Size - len(p.Header)}
	if p.IPLen == header.IPv6MinimumSize {
		l.remote, _ = netip.AddrFromSlice(p.Header[8:24])
		l.local, _ = netip.AddrFromSlice(p.Header[24:40])
	} else {
		l.remote, _ = netip.AddrFromSlice(p.Header[12:16])
		l.local, _ = netip.AddrFromSlice(p.Header[16:20])
	}
	return s.answerEnded(l)
}

// answerEnded acknowledges what the peer of an ended connection sends again, as
// an endpoint in TIME-WAIT does (RFC 9293 3.10.7.4). It tells whether the segment
// is one of those. One of a later connection between the same ends is beyond
// what is known of the old one.
func (s *Stack) answerEnded(l lateSegment) bool {
	f, known := s.ended.of(l.ends())
	length := uint32(l.payload)
	if l.Flags().Contains(header.TCPFlagFin) {
		length++
	}
	const others = header.TCPFlagSyn | header.TCPFlagRst
	if !known || l.Flags()&others != 0 || !l.Flags().Contains(header.TCPFlagAck) ||
		int32(l.SequenceNumber()+length-f.rcv) > 0 || int32(l.AckNumber()-f.snd) > 0 {
		return false
	}
	if length > 0 { // an ACK wants no answer
		s.acknowledge(l, f)
	}
	return true
}

// acknowledge sends the last acknowledgement of a connection once more.
func (s *Stack) acknowledge(l lateSegment, f finalState) {
	r, terr := s.net.FindRoute(nicID, addressOf(l.local), addressOf(l.remote), protocolOf(l.local), false)
	if terr != nil {
		return // the address is not ours any more
	}
	defer r.Release()
	var options [header.TCPOptionTSLength + 2]byte // padded by two NOPs, which come first
	size := header.TCPMinimumSize
	if sent := header.ParseTCPOptions(l.Options()); sent.TS {
		options[0], options[1] = header.TCPOptionNOP, header.TCPOptionNOP
		header.EncodeTSOption(sent.TSEcr, sent.TSVal, options[2:])
		size += len(options)
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: size + int(r.MaxHeaderLength())})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	ack := header.TCP(pkt.TransportHeader().Push(size))
	ack.Encode(&header.TCPFields{
		SrcPort: l.DestinationPort(), DstPort: l.SourcePort(), DataOffset: uint8(size), Flags: header.TCPFlagAck,
		SeqNum: f.snd, AckNum: f.rcv, WindowSize: 0xFFFF,
	})
	copy(ack[header.TCPMinimumSize:], options[:])
	ack.SetChecksum(^ack.CalculateChecksum(r.PseudoHeaderChecksum(header.TCPProtocolNumber, uint16(size))))
	_ = r.WritePacket(stack.NetworkHeaderParams{Protocol: header.TCPProtocolNumber, TTL: r.DefaultTTL()}, pkt)
}
