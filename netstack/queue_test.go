package netstack

import (
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// testLimit is less than TCP's initial window, so that it fills surely.
const testLimit = 8 << 10

// stuck is a connection of a whose writer waits in WritePackets, because a's
// queue is full and nobody calls Fill.
type stuck struct {
	*wires
	conn  net.Conn
	wrote chan error
	data  []byte
	sum   chan [32]byte // of what arrives
}

func newStuck(t *testing.T) *stuck {
	t.Helper()
	w := newWires(t)
	w.a.link.out.limit = testLimit
	s := &stuck{wires: w, wrote: make(chan error, 1), data: random(2 << 20), sum: make(chan [32]byte, 1)}
	s.conn = w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
		h := sha256.New()
		io.Copy(h, c)
		s.sum <- [32]byte(h.Sum(nil))
	}))
	w.out.pause()
	go func() {
		_, err := s.conn.Write(s.data)
		s.wrote <- err
	}()
	waitFor(t, "a full queue", s.full)
	return s
}

func (s *stuck) full() bool {
	q := s.a.link.out
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.streams >= testLimit
}

func (s *stuck) bound(t *testing.T) {
	t.Helper()
	q := s.a.link.out
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.streams > testLimit+controlReserve+65536 || q.datagrams > datagramLimit+65536 {
		t.Errorf("queue holds %d and %d", q.streams, q.datagrams)
	}
}

func TestFullQueueLosesNothing(t *testing.T) {
	t.Parallel()
	s := newStuck(t)
	s.bound(t)
	s.out.resume()
	if err := <-s.wrote; err != nil {
		t.Fatal(err)
	}
	s.conn.(*tcpConn).CloseWrite()
	if got, want := <-s.sum, sha256.Sum256(s.data); got != want {
		t.Error("checksums differ")
	}
	if d := s.a.link.out.dropped.Load(); d != 0 {
		t.Errorf("%d packets dropped", d)
	}
}

func TestCloseWhileBlocked(t *testing.T) {
	t.Parallel()
	s := newStuck(t)
	defer s.out.resume()
	within(t, 5*time.Second, "Close", func() { s.a.Close() })
	if err := <-s.wrote; err == nil {
		t.Error("Write succeeded")
	}
	if n := s.a.Fill(make([]byte, 4096)); n != 0 {
		t.Errorf("Fill after Close = %d", n)
	}
}

// TestLinkDownWhileBlocked: the wait ends after downWait, and with it that of
// the connection's Close; the deadline is obeyed again.
func TestLinkDownWhileBlocked(t *testing.T) {
	t.Parallel()
	s := newStuck(t)
	defer s.out.resume()
	s.a.LinkDown()
	s.conn.SetWriteDeadline(time.Now().Add(downWait / 2))
	within(t, downWait+5*time.Second, "Write", func() {
		if err := <-s.wrote; err == nil {
			t.Error("Write succeeded")
		}
	})
	within(t, 2*time.Second, "conn.Close", func() { s.conn.Close() })
	s.bound(t)
}

// TestReconnectWhileBlocked: a link that comes back soon costs nothing.
func TestReconnectWhileBlocked(t *testing.T) {
	t.Parallel()
	s := newStuck(t)
	s.a.LinkDown()
	within(t, 5*time.Second, "SetLink", func() { setLink(t, s.a, linkA()) })
	s.out.resume()
	if err := <-s.wrote; err != nil {
		t.Fatal(err)
	}
	s.conn.(*tcpConn).CloseWrite()
	if got, want := <-s.sum, sha256.Sum256(s.data); got != want {
		t.Error("checksums differ")
	}
}

// TestNewAddressWhileBlocked: SetLink aborts a connection whose lock is held by
// a blocked writer.
func TestNewAddressWhileBlocked(t *testing.T) {
	t.Parallel()
	s := newStuck(t)
	defer s.out.resume()
	s.a.LinkDown()
	l := linkA()
	l.Addrs = hosts(netip.MustParseAddr("10.9.0.77"))
	within(t, 5*time.Second, "SetLink", func() { setLink(t, s.a, l) })
	if err := <-s.wrote; !errors.Is(err, ErrAborted) {
		t.Errorf("Write = %v, want aborted", err)
	}
}

// TestDeliverNeverBlocks: neither for an answer it causes nor for the lock of
// a connection that is blocked.
func TestDeliverNeverBlocks(t *testing.T) {
	t.Parallel()
	s := newStuck(t)
	unknown := tcpPacket(addrB, addrA, 1234, 4321, header.TCPFlagAck, nil)
	local := s.conn.LocalAddr().(*net.TCPAddr).AddrPort()
	remote := s.conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	ours := tcpPacket(addrA, addrB, local.Port(), remote.Port(), header.TCPFlagAck, nil)
	theirs := tcpPacket(addrB, addrA, remote.Port(), local.Port(), header.TCPFlagAck, []byte("bad sequence number"))
	tooBig := icmpError(header.ICMPv4FragmentationNeeded, 1000, ours)
	within(t, 5*time.Second, "Deliver", func() {
		for range 2000 { // more than any queue holds
			s.a.Deliver([][]byte{unknown, tooBig, theirs})
		}
	})
	s.bound(t)
	s.out.resume()
	if err := <-s.wrote; err != nil {
		t.Fatal(err)
	}
}

// tcpPacket makes an IPv4 packet with correct checksums.
func tcpPacket(src, dst netip.Addr, sport, dport uint16, flags header.TCPFlags, payload []byte) []byte {
	b := make([]byte, header.IPv4MinimumSize+header.TCPMinimumSize+len(payload))
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
		SrcAddr: addressOf(src), DstAddr: addressOf(dst),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	tcp := header.TCP(ip.Payload())
	tcp.Encode(&header.TCPFields{SrcPort: sport, DstPort: dport, SeqNum: 1, AckNum: 1, DataOffset: header.TCPMinimumSize, Flags: flags, WindowSize: 1000})
	copy(tcp[header.TCPMinimumSize:], payload)
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, addressOf(src), addressOf(dst), uint16(len(tcp)))
	tcp.SetChecksum(^checksumOf(tcp, sum))
	return b
}

// TestDatagramsDropOldest: they neither block nor use more than their share,
// and the newest are kept.
func TestDatagramsDropOldest(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	setLink(t, s, linkA())
	q := s.link.out
	for i := range 3000 {
		packet := make([]byte, 100)
		packet[0], packet[1] = byte(i>>8), byte(i)
		s.link.send(packet)
	}
	if q.datagrams > datagramLimit {
		t.Errorf("queue holds %d, limit %d", q.datagrams, datagramLimit)
	}
	buf := make([]byte, 1<<20)
	n := s.Fill(buf)
	const frame = testHeadroom + 100
	if got := int(q.dropped.Load()) + n/frame; n%frame != 0 || got != 3000 {
		t.Errorf("%d dropped and %d octets filled", q.dropped.Load(), n)
	}
	last := buf[n-100:]
	if i := int(last[0])<<8 | int(last[1]); i != 2999 {
		t.Errorf("last packet is %d", i)
	}
}

// TestFill: whole frames only, in order, Ready as long as there is something.
func TestFill(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	setLink(t, s, linkA())
	if n := s.Fill(make([]byte, 100)); n != 0 {
		t.Fatalf("Fill of nothing = %d", n)
	}
	for i := range byte(5) {
		s.link.send([]byte{i, 1, 2, 3, 4, 5, 6, 7})
	}
	const frame = testHeadroom + 8
	var got []byte
	for {
		select {
		case <-s.Ready():
		default:
			if len(got) != 5 {
				t.Errorf("got packets %v", got)
			}
			return
		}
		b := make([]byte, 2*frame+3)
		n := s.Fill(b)
		for f := b[:n]; len(f) > 0; f = f[frame:] {
			if f[7] != frame {
				t.Errorf("header % x", f[:testHeadroom])
			}
			got = append(got, f[testHeadroom])
		}
	}
}

func TestFillTooSmall(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	setLink(t, s, linkA())
	s.link.send(make([]byte, 100))
	s.link.send(make([]byte, 10))
	if n := s.Fill(make([]byte, 50)); n != testHeadroom+10 {
		t.Errorf("Fill = %d, want the packet that fits", n)
	}
}
