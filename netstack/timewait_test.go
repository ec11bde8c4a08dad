package netstack

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// tcpOf is the TCP segment in a packet without IP options, nil if there is none.
func tcpOf(packet []byte) header.TCP {
	switch {
	case packet[0]>>4 == 4 && packet[9] == uint8(header.TCPProtocolNumber):
		return packet[header.IPv4MinimumSize:]
	case packet[0]>>4 == 6 && packet[6] == uint8(header.TCPProtocolNumber):
		return packet[header.IPv6MinimumSize:]
	}
	return nil
}

// over waits until a stack has no endpoint of a connection any more.
func over(t *testing.T, s *Stack) {
	t.Helper()
	waitFor(t, "the end of the endpoint", func() bool {
		for _, ep := range s.net.RegisteredEndpoints() {
			if e, ok := ep.(*tcp.Endpoint); ok && e.EndpointState() != tcp.StateListen {
				return false
			}
		}
		return true
	})
}

// loseLastACKs loses what a sends to b, but for FIN. What it returns waits until a
// has no endpoint any more, and checks that b, which sends again, is answered then
// and not reset.
func (w *wires) loseLastACKs(t *testing.T) (answers func()) {
	var ended, reset atomic.Bool
	w.out.setFilter(func(packet []byte) bool {
		flags := tcpOf(packet).Flags()
		if flags.Contains(header.TCPFlagRst) {
			reset.Store(true)
		}
		return ended.Load() || flags.Contains(header.TCPFlagFin)
	})
	return func() {
		t.Helper()
		over(t, w.a)
		ended.Store(true)
		over(t, w.b)
		if n := w.b.net.Stats().TCP.ResetsReceived.Value(); n > 0 || reset.Load() {
			t.Errorf("the peer was reset")
		}
	}
}

// TestLastACK: what the peer sends again when the endpoint is gone, because the
// last acknowledgements were lost, is acknowledged and not reset.
func TestLastACK(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]netip.Addr{"IPv4": addrB, "IPv6": addrB6} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWires(t)
			heard := make(chan error, 1)
			c := w.dial(t, "tcp", w.serve(t, "tcp", net.JoinHostPort(host.String(), "0"), func(c net.Conn) {
				_, err := io.ReadAll(c)
				heard <- err
				c.Write([]byte("last words")) // and FIN
			}))
			answers := w.loseLastACKs(t)
			c.(*tcpConn).CloseWrite()
			if b, err := io.ReadAll(c); err != nil || string(b) != "last words" {
				t.Errorf("read %q, %v", b, err)
			}
			if err := <-heard; err != nil {
				t.Errorf("the peer read: %v", err)
			}
			c.Close()
			answers()
		})
	}
}

// TestReadAfterTimeWait: what has arrived can be read when the endpoint is over,
// and then the end.
func TestReadAfterTimeWait(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	want := random(100 << 10)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) { c.Write(want) }))
	c.(*tcpConn).CloseWrite()
	over(t, w.a)
	got, err := io.ReadAll(c)
	if err != nil || string(got) != string(want) {
		t.Errorf("read %d octets, %v, want %d", len(got), err, len(want))
	}
}

// TestLastACKAccepted: the same for a connection that was accepted, while its
// listener is there, which is given what fits no other endpoint.
func TestLastACKAccepted(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	l, err := w.a.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan error, 1)
	dialled := make(chan struct{})
	go func() { // ends with the connection
		defer close(dialled)
		c, err := w.b.DialContext(t.Context(), "tcp", net.JoinHostPort(addrA.String(), portOf(l)))
		if err == nil {
			_, err = io.ReadAll(c)
			c.Close()
		}
		heard <- err
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	answers := w.loseLastACKs(t)
	c.(*tcpConn).CloseWrite()
	io.ReadAll(c)
	c.Close()
	if err := <-heard; err != nil {
		t.Errorf("the peer read: %v", err)
	}
	<-dialled
	answers()
}

// TestEndedOnly: what is acknowledged is what the old connection has received.
// All else is reset: segments of connections that did not come to their end, of
// ones that are not known any more, and of a later connection between the same
// ends.
func TestEndedOnly(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	address := w.serve(t, "tcp", ":0", func(c net.Conn) { io.ReadAll(c) })
	const again = header.TCPFlagAck | header.TCPFlagFin
	const nowhere = 0x12345678
	for name, f := range map[string]struct {
		end      func(c *tcpConn)
		flags    header.TCPFlags
		seq, ack int32 // beyond what is right for octet and FIN
		reset    bool
	}{
		"in order":           {func(c *tcpConn) { c.CloseWrite(); io.ReadAll(c); c.Close() }, again, 0, 0, false},
		"closed at once":     {func(c *tcpConn) { c.Close() }, again, 0, 0, false},
		"older":              {func(c *tcpConn) { c.Close() }, again, -5, 0, false},
		"does not know all":  {func(c *tcpConn) { c.Close() }, again, 0, -1, false},
		"beyond the end":     {func(c *tcpConn) { c.Close() }, again, 1, 0, true},
		"of a later one":     {func(c *tcpConn) { c.Close() }, again, 0, 1, true},
		"SYN of a later one": {func(c *tcpConn) { c.Close() }, header.TCPFlagSyn, 0, nowhere, true},
		"given up":           {func(c *tcpConn) { c.SetLinger(0); c.Close() }, again, 0, nowhere, true},
		"forgotten":          {func(c *tcpConn) { c.Close(); over(t, w.a); w.a.ended.remove(c.ends) }, again, 0, nowhere, true},
	} {
		c := w.dial(t, "tcp", address).(*tcpConn)
		f.end(c)
		over(t, w.a)
		over(t, w.b) // so that nobody sends anything again
		final, _ := w.a.ended.of(c.ends)
		from, to := c.RemoteAddr().(*net.TCPAddr), c.LocalAddr().(*net.TCPAddr)
		packet := tcpPacket(addrB, addrA, uint16(from.Port), uint16(to.Port), f.flags, []byte("x"))
		seq, ack := final.rcv-2+uint32(f.seq), final.snd+uint32(f.ack)
		segment := tcpOf(packet)
		segment.SetSequenceNumber(seq)
		segment.SetAckNumber(ack)
		segment.SetChecksum(0)
		sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, addressOf(addrB), addressOf(addrA), uint16(len(segment)))
		segment.SetChecksum(^checksumOf(segment, sum))
		answers := make(chan header.TCP, 1)
		w.out.setFilter(func(packet []byte) bool {
			if answer := tcpOf(packet); answer.DestinationPort() == uint16(from.Port) {
				answer = append(header.TCP(nil), answer...)
				if rst := answer.Flags().Contains(header.TCPFlagRst); rst && (answer.SequenceNumber() == ack || f.flags == header.TCPFlagSyn) ||
					!rst && answer.SequenceNumber() == final.snd {
					select {
					case answers <- answer:
					default:
					}
				}
			}
			return true
		})
		w.a.Deliver([][]byte{packet})
		answer := <-answers
		if reset := answer.Flags().Contains(header.TCPFlagRst); reset != f.reset {
			t.Errorf("%s: reset is %v, want %v", name, reset, f.reset)
		} else if !reset && answer.AckNumber() != final.rcv {
			t.Errorf("%s: acknowledged %d, want %d", name, answer.AckNumber(), final.rcv)
		}
	}
}

// TestEndedAges: an ended connection is known for one to two periods, a new one
// between the same ends takes it out, and there are never too many.
func TestEndedAges(t *testing.T) {
	c := newStallClock()
	c.freeze(stalled) // time is what is skipped
	e := ended{clock: c}
	has := func(t fourTuple) bool { _, ok := e.of(t); return ok }
	at := func(port int) fourTuple {
		return fourTupleOf(netip.AddrPortFrom(addrA, uint16(port)), netip.AddrPortFrom(addrB, uint16(port>>16)))
	}
	e.add(at(1), finalState{})
	c.skip(timeWait / 2)
	e.add(at(2), finalState{})
	c.skip(timeWait / 2)
	if !has(at(1)) || !has(at(2)) || has(at(3)) {
		t.Error("not known after the first period")
	}
	e.add(at(3), finalState{})
	e.remove(at(2))
	if has(at(2)) {
		t.Error("known though there is a new connection")
	}
	c.skip(timeWait)
	if has(at(1)) || !has(at(3)) {
		t.Error("want the first forgotten after two periods, and nothing else")
	}
	c.skip(timeWait)
	if has(at(3)) || e.timer != nil || c.armed.first != nil {
		t.Error("the timer goes on without need")
	}
	for port := range maxEnded + 1 {
		e.add(at(port), finalState{})
	}
	if len(e.young) != maxEnded {
		t.Errorf("%d known, want %d", len(e.young), maxEnded)
	}
	e.close()
	e.add(at(1), finalState{})
	if has(at(1)) || c.armed.first != nil {
		t.Error("not empty though closed")
	}
}
