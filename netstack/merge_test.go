package netstack

import (
	"bytes"
	"encoding/binary"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// collector keeps what a merger hands on.
type collector struct {
	merger
	packets [][]byte
}

func newCollector() *collector {
	c := &collector{}
	c.accept = func(b buffer.Buffer, _ tcpip.NetworkProtocolNumber) {
		c.packets = append(c.packets, b.Flatten())
		b.Release()
	}
	return c
}

// seg describes a segment of a test; zero fields are those of an ordinary one.
type seg struct {
	v6    bool
	port  uint16
	seq   uint32
	data  string
	flags header.TCPFlags // beside ACK
	ack   uint32
	wnd   uint16
	ttl   uint8
	opts  string // octets of TCP options, a multiple of four
	id    uint16
	rsv   byte // the reserved bits
	bad   bool // checksum
}

// packet encodes s with right checksums.
func (s seg) packet() []byte {
	tcpLen := header.TCPMinimumSize + len(s.opts)
	tcp := make([]byte, tcpLen+len(s.data))
	header.TCP(tcp).Encode(&header.TCPFields{
		SrcPort: 80, DstPort: 1000 + s.port, SeqNum: s.seq, AckNum: s.ack, DataOffset: uint8(tcpLen),
		Flags: s.flags | header.TCPFlagAck, WindowSize: 100 + s.wnd,
	})
	tcp[header.TCPDataOffset] |= s.rsv
	copy(tcp[header.TCPMinimumSize:], s.opts)
	copy(tcp[tcpLen:], s.data)
	var ip []byte
	var src, dst tcpip.Address
	if s.v6 {
		src, dst = addressOf(addrB6), addressOf(addrA6)
		ip = make([]byte, header.IPv6MinimumSize)
		header.IPv6(ip).Encode(&header.IPv6Fields{PayloadLength: uint16(len(tcp)), TransportProtocol: header.TCPProtocolNumber,
			HopLimit: 64 - s.ttl, SrcAddr: src, DstAddr: dst})
	} else {
		src, dst = addressOf(addrB), addressOf(addrA)
		ip = make([]byte, header.IPv4MinimumSize)
		h := header.IPv4(ip)
		h.Encode(&header.IPv4Fields{TotalLength: uint16(20 + len(tcp)), ID: s.id, TTL: 64 - s.ttl,
			Protocol: uint8(header.TCPProtocolNumber), SrcAddr: src, DstAddr: dst})
		h.SetChecksum(^h.CalculateChecksum())
	}
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(tcp)))
	header.TCP(tcp).SetChecksum(^checksum.Checksum(tcp, sum))
	if s.bad {
		tcp[len(tcp)-1] ^= 1
	}
	return append(ip, tcp...)
}

func TestMerge(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), 60000))
	for _, tt := range []struct {
		name string
		in   []seg
		want []string // payloads of what comes out, in order
	}{
		{"one", []seg{{data: "ab"}}, []string{"ab"}},
		{"run", []seg{{data: "ab"}, {seq: 2, data: "cd"}, {seq: 4, data: "ef"}}, []string{"abcdef"}},
		{"ids differ", []seg{{data: "ab", id: 7}, {seq: 2, data: "cd", id: 8}}, []string{"abcd"}},
		{"IPv6", []seg{{v6: true, data: "ab"}, {v6: true, seq: 2, data: "cd"}}, []string{"abcd"}},
		{"shorter one ends it", []seg{{data: "ab"}, {seq: 2, data: "c"}, {seq: 3, data: "de"}}, []string{"abc", "de"}},
		{"longer one begins anew", []seg{{data: "a"}, {seq: 1, data: "bc"}}, []string{"a", "bc"}},
		{"gap", []seg{{data: "ab"}, {seq: 3, data: "de"}}, []string{"ab", "de"}},
		{"reordered", []seg{{seq: 2, data: "cd"}, {data: "ab"}}, []string{"cd", "ab"}},
		{"repeated", []seg{{data: "ab"}, {data: "ab"}}, []string{"ab", "ab"}},
		{"two flows", []seg{{data: "ab"}, {port: 1, data: "AB"}, {seq: 2, data: "cd"}, {port: 1, seq: 2, data: "CD"}}, []string{"abcd", "ABCD"}},
		{"ACK changes", []seg{{data: "ab"}, {seq: 2, data: "cd", ack: 1}}, []string{"ab", "cd"}},
		{"window changes", []seg{{data: "ab"}, {seq: 2, data: "cd", wnd: 1}}, []string{"ab", "cd"}},
		{"TTL changes", []seg{{data: "ab"}, {seq: 2, data: "cd", ttl: 1}}, []string{"ab", "cd"}},
		{"reserved bits change", []seg{{data: "ab"}, {seq: 2, data: "cd", rsv: 1}}, []string{"ab", "cd"}},
		{"options differ", []seg{{data: "ab", opts: "\x01\x01\x01\x01"}, {seq: 2, data: "cd", opts: "\x01\x01\x01\x00"}}, []string{"ab", "cd"}},
		{"same options", []seg{{data: "ab", opts: "\x01\x01\x01\x01"}, {seq: 2, data: "cd", opts: "\x01\x01\x01\x01"}}, []string{"abcd"}},
		{"PSH is kept", []seg{{data: "ab", flags: header.TCPFlagPsh}, {seq: 2, data: "cd"}}, []string{"abcd"}},
		{"FIN goes alone", []seg{{data: "ab"}, {seq: 2, data: "cd", flags: header.TCPFlagFin}}, []string{"ab", "cd"}},
		{"URG goes alone", []seg{{data: "ab"}, {seq: 2, data: "cd", flags: header.TCPFlagUrg}}, []string{"ab", "cd"}},
		{"CWR goes alone", []seg{{data: "ab"}, {seq: 2, data: "cd", flags: 0x80}}, []string{"ab", "cd"}},
		{"pure ACK keeps its place", []seg{{data: "ab"}, {seq: 2, ack: 5}, {seq: 2, data: "cd"}}, []string{"ab", "", "cd"}},
		{"damaged", []seg{{data: "ab"}, {seq: 2, data: "cd", bad: true}, {seq: 4, data: "ef"}}, []string{"ab", "ef"}},
		{"sequence wraps", []seg{{seq: 0xFFFFFFFE, data: "ab"}, {seq: 0, data: "cd"}}, []string{"abcd"}},
		{"64 KiB", []seg{{data: long}, {seq: 60000, data: long[:10000]}}, []string{long, long[:10000]}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCollector()
			for _, s := range tt.in {
				if !c.add(s.packet()) {
					t.Error("not taken")
				}
			}
			c.flush()
			if len(c.packets) != len(tt.want) {
				t.Fatalf("%d packets, want %d", len(c.packets), len(tt.want))
			}
			for i, p := range c.packets {
				s, ok := parseSegment(p)
				if !ok || len(s.packet) != len(p) {
					t.Fatalf("packet %d is no segment of its own length", i)
				}
				if got := string(s.payload()); got != tt.want[i] {
					t.Errorf("packet %d: payload %.20q, want %.20q", i, got, tt.want[i])
				}
			}
			if tt.name == "PSH is kept" && c.packets[0][33]&byte(header.TCPFlagPsh) == 0 {
				t.Error("PSH is lost")
			}
		})
	}
}

// TestMergeManyFlows: more flows than runs, nothing lost, each in order.
func TestMergeManyFlows(t *testing.T) {
	c := newCollector()
	for i := range 3 * maxRuns {
		c.add(seg{port: uint16(i), data: "ab"}.packet())
		c.add(seg{port: uint16(i), seq: 2, data: "cd"}.packet())
	}
	c.flush()
	if len(c.packets) != 3*maxRuns {
		t.Errorf("%d packets, want %d", len(c.packets), 3*maxRuns)
	}
}

// TestNotMerged: what is no plain segment is left to the stack.
func TestNotMerged(t *testing.T) {
	plain := seg{data: "ab"}.packet()
	change := func(at int, b ...byte) []byte {
		p := bytes.Clone(plain)
		copy(p[at:], b)
		return p
	}
	tooLong := bytes.Clone(plain)
	binary.BigEndian.PutUint16(tooLong[2:], uint16(len(plain)+1))
	for name, p := range map[string][]byte{
		"IP options":     change(0, 0x46),
		"fragment":       change(6, 0x20, 0x00),
		"later fragment": change(6, 0x00, 0x01),
		"UDP":            change(9, 17),
		"longer than it": tooLong,
		"data offset":    change(32, 0x40),
		"offset beyond":  change(32, 0xF0),
		"empty":          nil,
	} {
		c := newCollector()
		if len(p) > 0 && c.add(p) {
			t.Errorf("%s: taken", name)
		}
	}
	for n := range len(plain) {
		newCollector().add(plain[:n]) // must not panic
	}
}

// FuzzMerge: whatever comes, what goes out are segments of their own length,
// and of good ones no octet is lost or moved.
func FuzzMerge(f *testing.F) {
	f.Add(seg{data: "ab"}.packet(), seg{seq: 2, data: "cd"}.packet())
	f.Add(seg{v6: true, data: "ab"}.packet(), seg{v6: true, seq: 2, data: "c"}.packet())
	f.Fuzz(func(t *testing.T, a, b []byte) {
		c := newCollector()
		octets := 0
		for _, p := range [][]byte{a, b} {
			if s, ok := parseSegment(p); ok && s.valid() {
				octets += len(s.payload())
			}
			if len(p) > 0 {
				c.add(p)
			}
		}
		c.flush()
		for _, p := range c.packets {
			s, ok := parseSegment(p)
			if !ok || len(s.packet) != len(p) {
				t.Fatalf("% x is no segment", p)
			}
			octets -= len(s.payload())
		}
		if octets != 0 {
			t.Errorf("%d octets lost", octets)
		}
	})
}

// TestMergeAllocations: a batch costs allocations only for what comes out.
func TestMergeAllocations(t *testing.T) {
	c := newCollector()
	n := 0
	c.accept = func(b buffer.Buffer, _ tcpip.NetworkProtocolNumber) { n++; b.Release() }
	var batch [][]byte
	data := string(make([]byte, 1000))
	for i := range 40 {
		batch = append(batch, seg{seq: uint32(i * 1000), data: data}.packet())
	}
	run := func() {
		for _, p := range batch {
			c.add(p)
		}
		c.flush()
	}
	run()
	if got := testing.AllocsPerRun(100, run); got > 4 && !raceEnabled {
		t.Errorf("%v allocations for a batch of 40", got)
	}
}
