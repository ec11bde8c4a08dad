package offload

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

const flagURG = 32

// seg describes a segment of a test; zero fields are those of an ordinary one.
type seg struct {
	v6       bool
	port     uint16
	seq      uint32
	data     string
	flags    byte // beside ACK
	ack      uint32
	wnd      uint16
	tos, ttl byte
	df       bool
	opts     string // octets of TCP options, a multiple of four
	id       uint16
	rsv      byte // the reserved bits
	bad      bool // checksum
}

// packet encodes s with right checksums.
func (s seg) packet() []byte {
	e := binary.BigEndian
	tcp := e.AppendUint32(nil, 80<<16|uint32(1000+s.port))
	tcp = e.AppendUint32(tcp, s.seq)
	tcp = e.AppendUint32(tcp, s.ack)
	tcp = append(tcp, byte(tcpLen+len(s.opts))<<2|s.rsv, s.flags|FlagACK)
	tcp = e.AppendUint16(tcp, 100+s.wnd)
	tcp = append(append(append(tcp, 0, 0, 0, 0), s.opts...), s.data...)
	b := append(s.header(len(tcp)), tcp...)
	seal(b)
	if s.bad {
		b[len(b)-1] ^= 1
	}
	return b
}

// header is that of IP before n octets.
func (s seg) header(n int) []byte {
	e := binary.BigEndian
	if s.v6 {
		b := []byte{0x60, s.tos << 4, 0, 0, byte(n >> 8), byte(n), TCP, 64 - s.ttl}
		return append(b, "\xfd0123456789abcde\xfdABCDEFGHIJKLMNO"...)
	}
	b := e.AppendUint16([]byte{0x45, s.tos}, uint16(ip4Len+n))
	b = e.AppendUint16(b, s.id)
	if s.df {
		b = append(b, 0x40, 0)
	} else {
		b = append(b, 0, 0)
	}
	return append(b, 64-s.ttl, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
}

// seal sets the checksums of a segment, whatever they were.
func seal(b []byte) {
	ipLen, _, whole := UpperLayer(b)
	if ipLen == ip4Len {
		binary.BigEndian.PutUint16(b[10:], 0)
		binary.BigEndian.PutUint16(b[10:], ^slowSum(b[:ipLen]))
	}
	tcp := b[ipLen:whole]
	binary.BigEndian.PutUint16(tcp[tcpChecksum:], 0)
	pseudo := binary.BigEndian.AppendUint32([]byte{0, TCP}, uint32(len(tcp)))
	pseudo = append(pseudo, addresses(b)...)
	binary.BigEndian.PutUint16(tcp[tcpChecksum:], ^slowSum(append(pseudo, tcp...)))
}

// merged is what comes out of merging.
type merged struct {
	data     []byte // the whole packet
	segments int
	size     int // octets of payload of the first
}

// mergeAll merges a batch, checks what comes out, and returns it with the verdicts.
func mergeAll(t *testing.T, m *Merger, batch ...[]byte) (out []merged, verdicts []Verdict) {
	t.Helper()
	m.Accept = func(p *Packet) {
		data := append(bytes.Clone(p.Header), bytes.Join(p.Payload, nil)...)
		checkPacket(t, p, data)
		o := merged{data: data, segments: max(len(p.Payload), 1)}
		if len(p.Payload) > 0 {
			o.size = len(p.Payload[0])
		}
		out = append(out, o)
	}
	before := bytes.Join(batch, nil)
	for _, b := range batch {
		verdicts = append(verdicts, m.Add(b))
	}
	m.Flush()
	if !bytes.Equal(before, bytes.Join(batch, nil)) {
		t.Error("the batch was changed")
	}
	return out, verdicts
}

// checkPacket: the fields agree with the octets, and the checksums are as promised.
func checkPacket(t *testing.T, p *Packet, data []byte) {
	t.Helper()
	s, ok := ParseSegment(data)
	if !ok || len(s.Packet) != len(data) || s.IPLen != p.IPLen || s.HeaderLen != len(p.Header) || p.Size != len(data) {
		t.Fatalf("%+v is no segment of its own length: % x", p, data)
	}
	if len(p.Payload) > 1 {
		tcp := s.Packet[s.IPLen:s.HeaderLen]
		if got, want := binary.BigEndian.Uint16(tcp[tcpChecksum:]), PseudoHeader(data, TCP, len(data)-s.IPLen); got != want {
			t.Errorf("in the place of the checksum is %#x, want the pseudo header's %#x", got, want)
		}
		seal(data)
		if s.IPLen == ip4Len && !bytes.Equal(p.Header[:ip4Len], data[:ip4Len]) {
			t.Errorf("IPv4 header % x, want % x", p.Header[:ip4Len], data[:ip4Len])
		}
		return
	}
	if !s.Valid() {
		t.Errorf("a segment alone has a wrong checksum: % x", data)
	}
}

// cutAll cuts a merged packet into what it was made of.
func cutAll(m merged) (packets [][]byte) {
	s, _ := ParseSegment(m.data)
	if m.segments == 1 {
		return [][]byte{m.data}
	}
	c := NewCut(s.IPLen, s.HeaderLen, TCP, m.size, MaxPacket)
	for rest := s.Payload(); len(rest) > 0; {
		n := min(m.size, len(rest))
		b := append(bytes.Clone(s.Packet[:s.HeaderLen]), rest[:n]...)
		rest = rest[n:]
		c.Next(b, len(rest) == 0)
		packets = append(packets, b)
	}
	return packets
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
		{"longer one in the middle", []seg{{data: "ab"}, {seq: 2, data: "cd"}, {seq: 4, data: "efg"}}, []string{"abcd", "efg"}},
		{"side by side", []seg{{data: "ab"}, {port: 1, data: "AB"}, {v6: true, data: "12"}, {seq: 2, data: "cd"}, {v6: true, seq: 2, data: "34"},
			{port: 1, seq: 2, data: "CD"}, {seq: 4, data: "ef"}, {port: 1, seq: 4, data: "EF"}}, []string{"abcdef", "ABCDEF", "1234"}},
		{"same ports in the other family", []seg{{data: "ab"}, {v6: true, seq: 2, data: "cd"}}, []string{"ab", "cd"}},
		{"fragments forbidden or not", []seg{{data: "ab", df: true}, {seq: 2, data: "cd"}}, []string{"ab", "cd"}},
		{"traffic class changes", []seg{{v6: true, data: "ab"}, {v6: true, seq: 2, data: "cd", tos: 1}}, []string{"ab", "cd"}},
		{"type of service changes", []seg{{data: "ab"}, {seq: 2, data: "cd", tos: 1}}, []string{"ab", "cd"}},
		{"hop limit changes", []seg{{v6: true, data: "ab"}, {v6: true, seq: 2, data: "cd", ttl: 1}}, []string{"ab", "cd"}},
		{"ACK changes", []seg{{data: "ab"}, {seq: 2, data: "cd", ack: 1}}, []string{"ab", "cd"}},
		{"window changes", []seg{{data: "ab"}, {seq: 2, data: "cd", wnd: 1}}, []string{"ab", "cd"}},
		{"TTL changes", []seg{{data: "ab"}, {seq: 2, data: "cd", ttl: 1}}, []string{"ab", "cd"}},
		{"reserved bits change", []seg{{data: "ab"}, {seq: 2, data: "cd", rsv: 1}}, []string{"ab", "cd"}},
		{"options differ", []seg{{data: "ab", opts: "\x01\x01\x01\x01"}, {seq: 2, data: "cd", opts: "\x01\x01\x01\x00"}}, []string{"ab", "cd"}},
		{"same options", []seg{{data: "ab", opts: "\x01\x01\x01\x01"}, {seq: 2, data: "cd", opts: "\x01\x01\x01\x01"}}, []string{"abcd"}},
		{"PSH is kept", []seg{{data: "ab", flags: FlagPSH}, {seq: 2, data: "cd"}}, []string{"abcd"}},
		{"FIN goes alone", []seg{{data: "ab"}, {seq: 2, data: "cd", flags: FlagFIN}}, []string{"ab", "cd"}},
		{"URG goes alone", []seg{{data: "ab"}, {seq: 2, data: "cd", flags: flagURG}}, []string{"ab", "cd"}},
		{"CWR goes alone", []seg{{data: "ab"}, {seq: 2, data: "cd", flags: FlagCWR}}, []string{"ab", "cd"}},
		{"pure ACK keeps its place", []seg{{data: "ab"}, {seq: 2, ack: 5}, {seq: 2, data: "cd"}}, []string{"ab", "", "cd"}},
		{"damaged", []seg{{data: "ab"}, {seq: 2, data: "cd", bad: true}, {seq: 4, data: "ef"}}, []string{"ab", "ef"}},
		{"sequence wraps", []seg{{seq: 0xFFFFFFFE, data: "ab"}, {seq: 0, data: "cd"}}, []string{"abcd"}},
		{"64 KiB", []seg{{data: long}, {seq: 60000, data: long[:10000]}}, []string{long, long[:10000]}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var batch [][]byte
			for _, s := range tt.in {
				batch = append(batch, s.packet())
			}
			out, verdicts := mergeAll(t, &Merger{}, batch...)
			for i, v := range verdicts {
				if want := map[bool]Verdict{false: Taken, true: Damaged}[tt.in[i].bad]; v != want {
					t.Errorf("segment %d: verdict %d, want %d", i, v, want)
				}
			}
			if len(out) != len(tt.want) {
				t.Fatalf("%d packets, want %d", len(out), len(tt.want))
			}
			for i, o := range out {
				s, _ := ParseSegment(o.data)
				if got := string(s.Payload()); got != tt.want[i] {
					t.Errorf("packet %d: payload %.20q, want %.20q", i, got, tt.want[i])
				}
			}
			if tt.name == "PSH is kept" && out[0].data[33]&FlagPSH == 0 {
				t.Error("PSH is lost")
			}
		})
	}
}

// TestMergeManyFlows: more flows than runs, nothing lost, each in order.
func TestMergeManyFlows(t *testing.T) {
	var batch [][]byte
	for i := range 3 * maxRuns {
		batch = append(batch, seg{port: uint16(i), data: "ab"}.packet(), seg{port: uint16(i), seq: 2, data: "cd"}.packet())
	}
	if out, _ := mergeAll(t, &Merger{}, batch...); len(out) != 3*maxRuns {
		t.Errorf("%d packets, want %d", len(out), 3*maxRuns)
	}
}

// TestMaxSegments: so many and no more become one packet.
func TestMaxSegments(t *testing.T) {
	var batch [][]byte
	for i := range 7 {
		batch = append(batch, seg{seq: uint32(2 * i), data: "ab"}.packet())
	}
	out, _ := mergeAll(t, &Merger{MaxSegments: 3}, batch...)
	if len(out) != 3 || out[0].segments != 3 || out[1].segments != 3 || out[2].segments != 1 {
		t.Errorf("got %+v, want packets of 3, 3 and 1 segments", out)
	}
}

// TestMergeAndCut: segments of a row become one, and cutting that gives them
// again, octet for octet.
func TestMergeAndCut(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		data := string(bytes.Repeat([]byte("0123456789"), 330))
		var batch [][]byte
		for i := range 4 {
			s := seg{v6: v6, seq: uint32(0xFFFFFF00 + 1000*i), id: uint16(0xFFFE + i), data: data[1000*i : min(1000*i+1000, 3300)], opts: "\x01\x01\x01\x01"}
			if i == 3 {
				s.flags = FlagPSH
			}
			batch = append(batch, s.packet())
		}
		out, _ := mergeAll(t, &Merger{}, batch...)
		if len(out) != 1 || out[0].segments != 4 {
			t.Fatalf("v6 %v: got %d packets, want 1", v6, len(out))
		}
		for i, b := range cutAll(out[0]) {
			if !bytes.Equal(b, batch[i]) {
				t.Errorf("v6 %v, segment %d:\ngot  %x\nwant %x", v6, i, b[:80], batch[i][:80])
			}
		}
	}
}

// TestNotMerged: what is no plain segment is left to the caller.
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
		out, verdicts := mergeAll(t, &Merger{}, p)
		if verdicts[0] != Foreign || len(out) > 0 {
			t.Errorf("%s: verdict %d, %d packets came out", name, verdicts[0], len(out))
		}
	}
	for n := range len(plain) {
		if _, verdicts := mergeAll(t, &Merger{}, plain[:n]); verdicts[0] != Foreign {
			t.Errorf("%d of %d octets: verdict %d", n, len(plain), verdicts[0])
		}
	}
}

// FuzzMerge: whatever comes, what goes out, cut again, are the segments that were
// taken, connection by connection and in their order.
func FuzzMerge(f *testing.F) {
	f.Add(seg{data: "ab"}.packet(), seg{seq: 2, data: "cd"}.packet())
	f.Add(seg{v6: true, data: "ab"}.packet(), seg{v6: true, seq: 2, data: "c"}.packet())
	f.Add(seg{data: "ab", opts: "\x01\x01\x01\x01"}.packet(), seg{data: "ab", flags: FlagPSH}.packet())
	f.Fuzz(func(t *testing.T, a, b []byte) {
		batch := [][]byte{a, b}
		for _, raw := range [][]byte{a, b} {
			batch = append(batch, successors(raw)...)
		}
		for _, limit := range []int{0, 2} {
			out, verdicts := mergeAll(t, &Merger{MaxSegments: limit}, batch...)
			want, got := map[string][]string{}, map[string][]string{}
			for i, b := range batch {
				if verdicts[i] == Taken {
					put(want, b)
				}
			}
			for _, o := range out {
				if limit > 0 && o.segments > limit {
					t.Errorf("%d segments in a packet, the limit is %d", o.segments, limit)
				}
				for _, b := range cutAll(o) {
					put(got, b)
				}
			}
			compare(t, got, want)
		}
	})
}

// successors returns b with right checksums, and what could follow it: the next
// segment, a shorter one, one behind a gap. None if b is no segment.
func successors(b []byte) (batch [][]byte) {
	s, ok := ParseSegment(b)
	if !ok {
		return nil
	}
	seq := s.Seq
	for _, cut := range []int{0, 0, 1, 0} {
		next := bytes.Clone(s.Packet[:len(s.Packet)-min(cut, len(s.Payload()))])
		putLength(next, len(next))
		binary.BigEndian.PutUint32(next[s.IPLen+4:], seq)
		seal(next)
		batch = append(batch, next)
		seq += uint32(len(next) - s.HeaderLen)
	}
	return append(batch, batch[0])
}

// put adds a segment to those of its connection, without what merging does not
// keep: IPv4 identification, PSH, and the checksums of them.
func put(flows map[string][]string, b []byte) {
	s, _ := ParseSegment(b)
	s.Packet = bytes.Clone(s.Packet)
	if s.IPLen == ip4Len {
		clear(s.Packet[4:6])
		clear(s.Packet[10:12])
	}
	s.Packet[s.IPLen+13] &^= FlagPSH
	clear(s.Packet[s.IPLen+tcpChecksum:][:2])
	flow := string(addresses(s.Packet)) + string(s.Packet[s.IPLen:s.IPLen+4])
	flows[flow] = append(flows[flow], string(s.Packet))
}

func compare(t *testing.T, got, want map[string][]string) {
	t.Helper()
	for flow := range want {
		if !slices.Equal(got[flow], want[flow]) {
			t.Errorf("of flow %x came\n%x, want\n%x", flow, got[flow], want[flow])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d flows came out, want %d", len(got), len(want))
	}
}

// TestMergeAllocations: a batch costs none.
func TestMergeAllocations(t *testing.T) {
	n := 0
	m := Merger{Accept: func(p *Packet) { n += p.Size }}
	var batch [][]byte
	data := string(make([]byte, 1000))
	for i := range 40 {
		batch = append(batch, seg{seq: uint32(i * 1000), data: data}.packet(), seg{port: 1, seq: uint32(i)}.packet())
	}
	if got := testing.AllocsPerRun(100, func() {
		for _, p := range batch {
			m.Add(p)
		}
		m.Flush()
	}); got > 0 || n == 0 {
		t.Errorf("%v allocations for a batch of 80, of which %d octets came out", got, n)
	}
}

// BenchmarkMerge is the cost of a segment that becomes one of 40.
func BenchmarkMerge(b *testing.B) {
	m := Merger{Accept: func(*Packet) {}}
	var batch [][]byte
	data := string(make([]byte, 1340))
	for i := range 40 {
		batch = append(batch, seg{seq: uint32(i * len(data)), data: data}.packet())
	}
	b.SetBytes(int64(len(batch[0])))
	for i := 0; b.Loop(); i++ {
		m.Add(batch[i%len(batch)])
		if i%len(batch) == len(batch)-1 {
			m.Flush()
		}
	}
}
