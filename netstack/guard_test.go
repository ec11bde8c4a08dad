package netstack

import (
	"bytes"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"sstproxy/netstack/ndp"
)

// TestGuard: what does not fit is dropped and counted by reason.
func TestGuard(t *testing.T) {
	t.Parallel()
	echo6 := []byte{128, 0, 0, 0, 1, 2, 3, 4}
	v4 := func(src, dst string) []byte {
		return tcpPacket(netAddr(src), netAddr(dst), 1, 2, header.TCPFlagSyn, nil)
	}
	v6 := func(src, dst string) []byte { return ndp.Packet(netAddr(src), netAddr(dst), echo6) }
	udp6 := v6("fe80::1", "ff02::1")
	udp6[6] = uint8(header.UDPProtocolNumber)
	const ours, ours6 = "10.9.0.1", "fd00:9::1"
	for _, c := range []struct {
		name   string
		packet []byte
		want   Stats
	}{
		{"for us", v4("192.0.2.1", ours), Stats{}},
		{"for another", v4("192.0.2.1", "10.9.0.3"), Stats{NotOurs: 1}},
		{"broadcast", v4("10.9.0.3", "255.255.255.255"), Stats{NotOurs: 1}},
		{"multicast", v4("10.9.0.3", "224.0.0.251"), Stats{NotOurs: 1}},
		{"from us", v4(ours, ours), Stats{Spoofed: 1}},
		{"from us to all", v4(ours, "255.255.255.255"), Stats{Spoofed: 1}},
		{"from nobody", v4("0.0.0.0", ours), Stats{Martian: 1}},
		{"from this network", v4("0.1.2.3", ours), Stats{Martian: 1}},
		{"from a loopback", v4("127.0.0.1", ours), Stats{Martian: 1}},
		{"from a group", v4("224.0.0.1", ours), Stats{Martian: 1}},
		{"from the reserved", v4("240.0.0.1", ours), Stats{Martian: 1}},
		{"from all", v4("255.255.255.255", ours), Stats{Martian: 1}},
		{"loose route", withOptions([]byte{1, 131, 3, 4}), Stats{Martian: 1}},
		{"strict route", withOptions([]byte{68, 4, 5, 0, 137, 3, 4, 0}), Stats{Martian: 1}},
		{"no route", withOptions([]byte{7, 7, 4, 0, 0, 0, 0, 0}), Stats{}},
		{"broken option", withOptions([]byte{7, 0, 131, 3}), Stats{}},
		{"6 for us", v6("2001:db8::1", ours6), Stats{}},
		{"6 for all nodes", v6("fe80::1", "ff02::1"), Stats{}},
		{"6 solicitation", v6("::", "ff02::1:ff00:1"), Stats{}},
		{"6 solicitation of another", v6("fe80::1", "ff02::1:ff00:2"), Stats{NotOurs: 1}},
		{"6 not icmp for all nodes", udp6, Stats{NotOurs: 1}},
		{"6 for another", v6("fe80::1", "fd00:9::3"), Stats{NotOurs: 1}},
		{"6 from us", v6(ours6, ours6), Stats{Spoofed: 1}},
		{"6 from a loopback", v6("::1", ours6), Stats{Martian: 1}},
		{"6 from a group", v6("ff02::2", ours6), Stats{Martian: 1}},
		{"6 from IPv4", v6("::ffff:192.0.2.1", ours6), Stats{Martian: 1}},
		{"no packet", nil, Stats{}},
	} {
		s := newStack(t)
		s.Deliver([][]byte{c.packet})
		if got := s.Stats(); len(c.packet) > 0 && got.NotOurs+got.Spoofed+got.Martian == 0 {
			t.Errorf("%s: passed although there is no address", c.name)
		}
		s.away.notOurs.Store(0)
		s.away.martian.Store(0)
		setLink(t, s, linkA())
		s.Deliver([][]byte{c.packet})
		got := s.Stats()
		if (got.NotOurs != c.want.NotOurs) || got.Spoofed != c.want.Spoofed || got.Martian != c.want.Martian {
			t.Errorf("%s: not ours %d, spoofed %d, martian %d", c.name, got.NotOurs, got.Spoofed, got.Martian)
		}
	}
}

// withOptions makes a packet for us with IPv4 options, four octets or eight.
func withOptions(options []byte) []byte {
	b := tcpPacket(addrB, addrA, 1, 2, header.TCPFlagSyn, nil)
	b = bytes.Join([][]byte{b[:20], options, b[20:]}, nil)
	b[0] += byte(len(options) / 4)
	ip := header.IPv4(b)
	ip.SetTotalLength(uint16(len(b)))
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	return b
}

// TestAnswerPing: nobody hears of us by echo requests unless the user wants it.
func TestAnswerPing(t *testing.T) {
	t.Parallel()
	for _, answer := range []bool{false, true} {
		s, err := New(Config{AnswerPing: answer})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		setLink(t, s, linkA())
		all := seeds(t)
		s.Deliver([][]byte{all[0], all[5]}) // IPv4 and IPv6
		want := uint64(0)
		if answer {
			want = 1
		}
		st := s.net.Stats().ICMP
		waitFor(t, "the requests", func() bool {
			return st.V4.PacketsReceived.EchoRequest.Value() == 1 && st.V6.PacketsReceived.EchoRequest.Value() == 1
		})
		if answer {
			waitFor(t, "the replies", func() bool {
				return st.V4.PacketsSent.EchoReply.Value() == want && st.V6.PacketsSent.EchoReply.Value() == want
			})
			continue
		}
		s.Close() // ends what was under way
		if st.V4.PacketsSent.EchoReply.Value() != 0 || st.V6.PacketsSent.EchoReply.Value() != 0 {
			t.Error("an echo request was answered")
		}
	}
}

// TestPathMTU: no message makes segments smaller than a path can ask for.
func TestPathMTU(t *testing.T) {
	t.Parallel()
	about := tcpPacket(addrA, addrB, 1, 2, header.TCPFlagAck, nil)
	fragment := icmpError(header.ICMPv4FragmentationNeeded, 1000, about)
	fragment[6] |= 0x20 // more fragments
	fixSum(fragment)
	for name, c := range map[string]struct {
		packet []byte
		drop   bool
	}{
		"1000":     {icmpError(header.ICMPv4FragmentationNeeded, 1000, about), false},
		"551":      {icmpError(header.ICMPv4FragmentationNeeded, leastPathMTU4-1, about), true},
		"0":        {icmpError(header.ICMPv4FragmentationNeeded, 0, about), true},
		"port":     {icmpError(header.ICMPv4PortUnreachable, 0, about), false},
		"fragment": {fragment, true},
		"6, 1280":  {ndp.Packet(addrB6, addrA6, append([]byte{2, 0, 0, 0, 0, 0, 5, 0}, make([]byte, 40)...)), false},
		"6, 1279":  {ndp.Packet(addrB6, addrA6, append([]byte{2, 0, 0, 0, 0, 0, 4, 255}, make([]byte, 40)...)), true},
	} {
		proto := header.IPv4ProtocolNumber
		if c.packet[0]>>4 == 6 {
			proto = header.IPv6ProtocolNumber
		}
		pkt := newTestPacket(c.packet)
		if got := shrinks(slowPacket{proto, pkt}); got != c.drop {
			t.Errorf("%s: dropped %v, want %v", name, got, c.drop)
		}
		pkt.DecRef()
	}
}

func fixSum(packet []byte) {
	ip := header.IPv4(packet)
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
}

// BenchmarkGuard is what the checks cost a packet.
func BenchmarkGuard(b *testing.B) {
	s := newStack(b)
	g := newGuard([]netip.Prefix{netip.PrefixFrom(addrA, 32), netip.PrefixFrom(addrA6, 128)})
	packet := tcpPacket(addrB, addrA, 1, 2, header.TCPFlagAck, nil)
	for b.Loop() {
		if !s.admits(g, packet, header.TCPProtocolNumber) {
			b.Fatal("dropped")
		}
	}
}
