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
	// maxEnded bounds the connections of one generation in ended.
	maxEnded = 1 << 16
)

// ended knows the connections that came to TIME-WAIT: all that the peer has sent
// has arrived, its end included, but it may not know that. In their first or
// second period of timeWait they are forgotten. Its methods may be called
// concurrently.
type ended struct {
	clock *stallClock

	mu         sync.Mutex
	young, old map[fourTuple]struct{} // of this and of the last period
	timer      tcpip.Timer            // ends the period; nil if there is none
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

// add takes note of a connection, again if it is known.
func (e *ended) add(t fourTuple) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(e.young) >= maxEnded {
		return
	}
	if e.young == nil {
		e.young = map[fourTuple]struct{}{}
	}
	e.young[t] = struct{}{}
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

func (e *ended) has(t fourTuple) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, young := e.young[t]
	_, old := e.old[t]
	return young || old
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

// NotifyEvent implements waiter.EventListener. The endpoint may be locked. It
// tells of the beginning of TIME-WAIT, too, even after Close.
func (n *tcpReadNotifier) NotifyEvent(mask waiter.EventMask) {
	if mask&waiter.EventHUp != 0 && tcp.EndpointState(n.ep.State()) == tcp.StateTimeWait {
		n.stack.ended.add(n.ends)
	}
	(*readNotifier)(&n.socket).NotifyEvent(mask)
}

// answerEnded acknowledges what the peer of an ended connection sends again,
// as an endpoint in TIME-WAIT does (RFC 9293 3.10.7.4). It tells whether the
// packet, of which gVisor knows no endpoint, is one of those; others are reset.
//
// What to acknowledge the segment says itself: everything that the peer ever
// sent has arrived, and what it acknowledges is our end.
func (s *Stack) answerEnded(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	local, remote := addrOf(id.LocalAddress), addrOf(id.RemoteAddress)
	segment := header.TCP(pkt.TransportHeader().Slice())
	flags := segment.Flags()
	if flags.Contains(header.TCPFlagSyn) || !pkt.RXChecksumValidated ||
		!s.ended.has(fourTupleOf(netip.AddrPortFrom(local, id.LocalPort), netip.AddrPortFrom(remote, id.RemotePort))) {
		return false
	}
	length := uint32(pkt.Data().Size())
	if flags.Contains(header.TCPFlagFin) {
		length++
	}
	if length == 0 || !flags.Contains(header.TCPFlagAck) || flags.Contains(header.TCPFlagRst) {
		return true // RFC 1337: an RST that comes now means nothing
	}
	r, terr := s.net.FindRoute(nicID, id.LocalAddress, id.RemoteAddress, pkt.NetworkProtocolNumber, false)
	if terr != nil {
		return true
	}
	defer r.Release()
	var options [header.TCPOptionTSLength + 2]byte // padded by two NOPs, which come first
	size := header.TCPMinimumSize
	if sent := header.ParseTCPOptions(segment.Options()); sent.TS {
		options[0], options[1] = header.TCPOptionNOP, header.TCPOptionNOP
		header.EncodeTSOption(sent.TSEcr, sent.TSVal, options[2:])
		size += len(options)
	}
	answer := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: size + int(r.MaxHeaderLength())})
	defer answer.DecRef()
	answer.TransportProtocolNumber = header.TCPProtocolNumber
	ack := header.TCP(answer.TransportHeader().Push(size))
	ack.Encode(&header.TCPFields{
		SrcPort: id.LocalPort, DstPort: id.RemotePort, DataOffset: uint8(size), Flags: header.TCPFlagAck,
		SeqNum: segment.AckNumber(), AckNum: segment.SequenceNumber() + length, WindowSize: 0xFFFF,
	})
	copy(ack[header.TCPMinimumSize:], options[:])
	ack.SetChecksum(^ack.CalculateChecksum(r.PseudoHeaderChecksum(header.TCPProtocolNumber, uint16(size))))
	_ = r.WritePacket(stack.NetworkHeaderParams{Protocol: header.TCPProtocolNumber, TTL: r.DefaultTTL()}, answer)
	return true
}
