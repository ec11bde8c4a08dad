package netstack

import (
	"bytes"
	"io"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"sstproxy/netstack/ndp"
)

// seeds are packets of every kind the stack looks into.
func seeds(t testing.TB) [][]byte {
	t.Helper()
	echo4 := make([]byte, 36)
	ip := header.IPv4(echo4)
	ip.Encode(&header.IPv4Fields{TotalLength: 36, TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber), SrcAddr: addressOf(addrB), DstAddr: addressOf(addrA)})
	ip.SetChecksum(^ip.CalculateChecksum())
	icmp := header.ICMPv4(ip.Payload())
	icmp.SetType(header.ICMPv4Echo)
	icmp.SetChecksum(^checksumOf(icmp, 0))

	udp4 := make([]byte, 32)
	ip = header.IPv4(udp4)
	ip.Encode(&header.IPv4Fields{TotalLength: 32, TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: addressOf(addrB), DstAddr: addressOf(addrA)})
	ip.SetChecksum(^ip.CalculateChecksum())
	udp := header.UDP(ip.Payload())
	udp.Encode(&header.UDPFields{SrcPort: 1, DstPort: 53, Length: 12})
	udp.SetChecksum(^checksumOf(udp, header.PseudoHeaderChecksum(header.UDPProtocolNumber, addressOf(addrB), addressOf(addrA), 12)))

	fragment := bytes.Clone(udp4)
	ip = header.IPv4(fragment)
	ip.SetFlagsFragmentOffset(header.IPv4FlagMoreFragments, 8)
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())

	v := loadVector(t)
	echo6 := ndp.Packet(addrB6, addrA6, []byte{128, 0, 0, 0, 1, 2, 3, 4})
	syn := tcpPacket(addrB, addrA, 5, 80, header.TCPFlagSyn, nil)
	return [][]byte{echo4, udp4, fragment, v.ra, v.rs, echo6, syn, icmpError(header.ICMPv4PortUnreachable, 0, syn)}
}

// fuzzStack has an open socket of each kind, so that packets find one.
func fuzzStack(t testing.TB) *Stack {
	t.Helper()
	s := newStack(t)
	l := linkA()
	l.InterfaceID = loadVector(t).id
	setLink(t, s, l)
	ln, err := s.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := s.ListenPacket("udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close(); pc.Close() })
	return s
}

// TestDeliverMalformed: every prefix of every packet, and every packet with
// each octet changed.
func TestDeliverMalformed(t *testing.T) {
	t.Parallel()
	s := fuzzStack(t)
	buf := make([]byte, 64<<10)
	s.Deliver(nil)
	s.Deliver([][]byte{nil, {}})
	for _, p := range seeds(t) {
		for n := range p {
			s.Deliver([][]byte{p[:n], p[:n+1]})
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				b := bytes.Clone(p)
				b[n] ^= flip
				s.Deliver([][]byte{b})
			}
		}
		s.Fill(buf)
	}
	waitFor(t, "the slow path", func() bool { return len(s.slow) == 0 })
}

// TestForeignDestination: what is not for us is neither taken nor answered.
func TestForeignDestination(t *testing.T) {
	t.Parallel()
	s := fuzzStack(t)
	sent(t, s, time.Second) // the Router Solicitation
	foreign := netip.MustParseAddr("10.9.0.99")
	s.Deliver([][]byte{
		tcpPacket(addrB, foreign, 5, 80, header.TCPFlagSyn, nil),
		tcpPacket(addrB, netip.MustParseAddr("127.0.0.1"), 5, 80, header.TCPFlagSyn, nil),
		tcpPacket(addrB, netip.MustParseAddr("255.255.255.255"), 5, 80, header.TCPFlagSyn, nil),
		ndp.Packet(addrB6, netip.MustParseAddr("fd00:9::99"), []byte{128, 0, 0, 0, 1, 2, 3, 4}),
	})
	// One for us, behind the others: its answer must be the only one.
	s.Deliver([][]byte{tcpPacket(addrB, addrA, 5, 81, header.TCPFlagSyn, nil)})
	waitFor(t, "the slow path", func() bool { return len(s.slow) == 0 })
	got := sent(t, s, time.Second)
	if ip := header.IPv4(got); ip.DestinationAddress() != addressOf(addrB) || header.TCP(ip.Payload()).SourcePort() != 81 {
		t.Errorf("answer % x", got)
	}
	if n := s.Fill(make([]byte, 4096)); n != 0 {
		t.Errorf("%d octets more", n)
	}
}

// TestBadChecksum: TLS ends at the VPN server, so the inner checksum counts.
func TestBadChecksum(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	n := 0
	w.out.setFilter(func(packet []byte) bool {
		if len(packet) > 1000 && n < 3 {
			n++
			packet[len(packet)-1] ^= 1
		}
		return true
	})
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", echo))
	data := random(100_000)
	go func() {
		c.Write(data)
		c.(*tcpConn).CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d octets, %v; damaged = %v", len(got), err, !bytes.Equal(got, data))
	}
	if got := w.b.Stats().BadChecksum; got != 3 {
		t.Errorf("%d checksum errors counted, want 3", got)
	}
}

// TestNothingHidesFromClassify: no packet may reach TCP or UDP by the slow path,
// where the stack could take its checksum for verified.
func TestNothingHidesFromClassify(t *testing.T) {
	const hop, route, fragment, dest, experiment, tcp = 0, 43, 44, 60, 253, uint8(header.TCPProtocolNumber)
	for _, tt := range []struct {
		name  string
		chain []uint8 // of next header fields; 8 octets for each but the last
		cut   int     // octets that are missing
		want  tcpip.TransportProtocolNumber
	}{
		{"plain", []uint8{tcp}, 0, header.TCPProtocolNumber},
		{"some", []uint8{hop, dest, route, fragment, tcp}, 0, header.TCPProtocolNumber},
		{"too many", []uint8{hop, dest, dest, dest, dest, dest, dest, dest, dest, tcp}, 0, 0},
		{"experiment", []uint8{experiment, tcp}, 0, 0},
		{"cut off", []uint8{fragment, dest, tcp}, 25, 0},
	} {
		packet := make([]byte, header.IPv6MinimumSize)
		packet[0], packet[6] = 0x60, tt.chain[0]
		for _, next := range tt.chain[1:] {
			packet = append(packet, next, 0, 0, 0, 0, 0, 0, 0)
		}
		packet = append(packet, make([]byte, 20)...)
		_, got, ok := classify(packet[:len(packet)-tt.cut])
		if got != tt.want || ok != (tt.want != 0) {
			t.Errorf("%s: protocol %d, %v, want %d", tt.name, got, ok, tt.want)
		}
	}
}

func TestDeliverAfterClose(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	setLink(t, s, linkA())
	s.Close()
	s.Deliver(seeds(t))
	if n := s.Fill(make([]byte, 4096)); n != 0 {
		t.Errorf("Fill = %d", n)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s.LinkDown()
}

// TestCloseReleases: with many connections open in all states.
func TestCloseReleases(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	address := w.serve(t, "tcp", ":0", echo)
	for i := range 100 {
		c := w.dial(t, "tcp", address)
		switch i % 4 {
		case 0:
			c.Close()
		case 1:
			c.(*tcpConn).CloseWrite()
		case 2:
			c.Write(random(1000))
		}
	}
	within(t, 10*time.Second, "Close", func() { w.a.Close() })
	within(t, 10*time.Second, "Close", func() { w.b.Close() })
	if n := len(w.a.net.RegisteredEndpoints()); n != 0 {
		t.Errorf("%d endpoints left", n)
	}
}

func FuzzDeliver(f *testing.F) {
	for _, p := range seeds(f) {
		f.Add(p)
	}
	s := fuzzStack(f)
	buf := make([]byte, 64<<10)
	f.Fuzz(func(t *testing.T, packet []byte) {
		s.Deliver([][]byte{packet})
		for b := buf[:s.Fill(buf)]; len(b) > 0; {
			n := int(b[7]) | int(b[6])<<8 | int(b[5])<<16
			if n <= testHeadroom || n > len(b) {
				t.Fatalf("frame of %d octets, %d left", n, len(b))
			}
			b = b[n:]
		}
	})
}
