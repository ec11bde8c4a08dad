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
			// From our FIN on nothing leaves us, but for the answers after the end.
			var ended, resets atomic.Bool
			w.out.setFilter(func(packet []byte) bool {
				flags := tcpOf(packet).Flags()
				if flags.Contains(header.TCPFlagRst) {
					resets.Store(true)
				}
				return ended.Load() || flags.Contains(header.TCPFlagFin)
			})
			c.(*tcpConn).CloseWrite()
			if b, err := io.ReadAll(c); err != nil || string(b) != "last words" {
				t.Errorf("read %q, %v", b, err)
			}
			if err := <-heard; err != nil {
				t.Errorf("the peer read: %v", err)
			}
			c.Close()
			over(t, w.a)
			ended.Store(true)
			over(t, w.b)
			if n := w.b.net.Stats().TCP.ResetsReceived.Value(); n > 0 || resets.Load() {
				t.Errorf("the peer was reset")
			}
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

// TestEndedOnly: segments of connections that did not come to their end are
// reset, and so are those of a new connection between the ends of an old one.
func TestEndedOnly(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	address := w.serve(t, "tcp", ":0", func(c net.Conn) { io.ReadAll(c) })
	late := func(c net.Conn, flags header.TCPFlags) (reset bool) {
		t.Helper()
		over(t, w.a)
		over(t, w.b) // so that nothing else is answered
		from, to := c.RemoteAddr().(*net.TCPAddr), c.LocalAddr().(*net.TCPAddr)
		answers := make(chan header.TCPFlags, 1)
		w.out.setFilter(func(packet []byte) bool {
			answers <- tcpOf(packet).Flags()
			return false
		})
		w.a.Deliver([][]byte{tcpPacket(addrB, addrA, uint16(from.Port), uint16(to.Port), flags, []byte("x"))})
		return (<-answers).Contains(header.TCPFlagRst)
	}
	again := header.TCPFlagAck | header.TCPFlagFin
	for _, f := range []struct {
		name  string
		end   func(c *tcpConn)
		flags header.TCPFlags
		reset bool
	}{
		{"in order", func(c *tcpConn) { c.CloseWrite(); io.ReadAll(c); c.Close() }, again, false},
		{"closed at once", func(c *tcpConn) { c.Close() }, again, false},
		{"a new one's SYN", func(c *tcpConn) { c.Close() }, header.TCPFlagSyn, true},
		{"given up", func(c *tcpConn) { c.SetLinger(0); c.Close() }, again, true},
		{"forgotten", func(c *tcpConn) { c.Close(); over(t, w.a); w.a.ended.remove(c.ends) }, again, true},
	} {
		w.out.setFilter(func([]byte) bool { return true })
		c := w.dial(t, "tcp", address)
		f.end(c.(*tcpConn))
		if reset := late(c, f.flags); reset != f.reset {
			t.Errorf("%s: reset is %v, want %v", f.name, reset, f.reset)
		}
	}
}

// TestEndedAges: an ended connection is known for one to two periods, a new one
// between the same ends takes it out, and there are never too many.
func TestEndedAges(t *testing.T) {
	c := newStallClock()
	c.freeze(stalled) // time is what is skipped
	e := ended{clock: c}
	at := func(port int) fourTuple {
		return fourTupleOf(netip.AddrPortFrom(addrA, uint16(port)), netip.AddrPortFrom(addrB, uint16(port>>16)))
	}
	e.add(at(1))
	c.skip(timeWait / 2)
	e.add(at(2))
	c.skip(timeWait / 2)
	if !e.has(at(1)) || !e.has(at(2)) || e.has(at(3)) {
		t.Error("not known after the first period")
	}
	e.add(at(3))
	e.remove(at(2))
	if e.has(at(2)) {
		t.Error("known though there is a new connection")
	}
	c.skip(timeWait)
	if e.has(at(1)) || !e.has(at(3)) {
		t.Error("want the first forgotten after two periods, and nothing else")
	}
	c.skip(timeWait)
	if e.has(at(3)) || e.timer != nil || c.armed.first != nil {
		t.Error("the timer goes on without need")
	}
	for port := range maxEnded + 1 {
		e.add(at(port))
	}
	if len(e.young) != maxEnded {
		t.Errorf("%d known, want %d", len(e.young), maxEnded)
	}
	e.close()
	e.add(at(1))
	if e.has(at(1)) || c.armed.first != nil {
		t.Error("not empty though closed")
	}
}
