package netstack

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sstproxy/netstack/offload"
)

// seg describes a segment of a test; zero fields are those of an ordinary one.
type seg struct {
	v6    bool
	seq   uint32
	data  string
	flags byte   // beside ACK
	opts  string // octets of TCP options, a multiple of four
	id    uint16
}

// packet encodes s with right checksums.
func (s seg) packet() []byte {
	tcpLen := header.TCPMinimumSize + len(s.opts)
	tcp := make([]byte, tcpLen+len(s.data))
	header.TCP(tcp).Encode(&header.TCPFields{
		SrcPort: 80, DstPort: 1000, SeqNum: s.seq, DataOffset: uint8(tcpLen),
		Flags: header.TCPFlags(s.flags) | header.TCPFlagAck, WindowSize: 100,
	})
	copy(tcp[header.TCPMinimumSize:], s.opts)
	copy(tcp[tcpLen:], s.data)
	var ip []byte
	var src, dst tcpip.Address
	if s.v6 {
		src, dst = addressOf(addrB6), addressOf(addrA6)
		ip = make([]byte, header.IPv6MinimumSize)
		header.IPv6(ip).Encode(&header.IPv6Fields{PayloadLength: uint16(len(tcp)), TransportProtocol: header.TCPProtocolNumber,
			HopLimit: 64, SrcAddr: src, DstAddr: dst})
	} else {
		src, dst = addressOf(addrB), addressOf(addrA)
		ip = make([]byte, header.IPv4MinimumSize)
		h := header.IPv4(ip)
		h.Encode(&header.IPv4Fields{TotalLength: uint16(20 + len(tcp)), ID: s.id, TTL: 64,
			Protocol: uint8(header.TCPProtocolNumber), SrcAddr: src, DstAddr: dst})
		h.SetChecksum(^h.CalculateChecksum())
	}
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(tcp)))
	header.TCP(tcp).SetChecksum(^checksum.Checksum(tcp, sum))
	return append(ip, tcp...)
}

// gsoPacket makes what gVisor hands down for s with host GSO: headers and
// payload in views of their own.
func gsoPacket(s seg, mss int) *stack.PacketBuffer {
	whole := s.packet()
	sg, _ := offload.ParseSegment(whole)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: sg.HeaderLen + 20})
	payload := sg.Payload()
	for _, part := range [][]byte{payload[:len(payload)/3], payload[len(payload)/3:]} {
		if len(part) > 0 {
			pkt.Data().AppendView(buffer.NewViewWithData(part))
		}
	}
	copy(pkt.TransportHeader().Push(sg.HeaderLen-sg.IPLen), whole[sg.IPLen:sg.HeaderLen])
	copy(pkt.NetworkHeader().Push(sg.IPLen), whole[:sg.IPLen])
	pkt.GSOOptions = stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, MSS: uint16(mss), L3HdrLen: uint16(sg.IPLen)}
	if s.v6 {
		pkt.GSOOptions.Type = stack.GSOTCPv6
	}
	return pkt
}

// cut returns the packets that a cutter makes of pkt.
func cut(pkt *stack.PacketBuffer) (packets [][]byte) {
	var c cutter
	c.begin(pkt, defaultMTU)
	for last := false; !last; {
		b := make([]byte, c.size())
		last = c.next(b)
		packets = append(packets, b)
	}
	c.end()
	return packets
}

func TestCut(t *testing.T) {
	data := string(random(10_000))
	for _, tt := range []struct {
		name string
		seg  seg
		mss  int
		want int
	}{
		{"one", seg{data: data[:1000]}, 1000, 1},
		{"exact", seg{data: data[:3000]}, 1000, 3},
		{"rest", seg{data: data[:3001]}, 1000, 4},
		{"options", seg{data: data, opts: "\x01\x01\x08\x0a12345678"}, 1348, 8},
		{"IPv6", seg{v6: true, data: data}, 1328, 8},
		{"wraps", seg{seq: 0xFFFFFF00, data: data, id: 0xFFFE}, 1000, 10},
		{"no data", seg{flags: offload.FlagFIN}, 1000, 1},
		{"last flags", seg{data: data, flags: offload.FlagFIN | offload.FlagPSH}, 1000, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			packets := cut(gsoPacket(tt.seg, tt.mss))
			if len(packets) != tt.want {
				t.Fatalf("%d packets, want %d", len(packets), tt.want)
			}
			var got []byte
			for i, p := range packets {
				s, ok := offload.ParseSegment(p)
				if !ok || len(s.Packet) != len(p) || !s.Valid() {
					t.Fatalf("packet %d is no valid segment: % x", i, p[:min(60, len(p))])
				}
				if want := tt.seg.seq + uint32(i*tt.mss); s.Seq != want {
					t.Errorf("packet %d: sequence number %d, want %d", i, s.Seq, want)
				}
				wantFlags := tt.seg.flags | offload.FlagACK
				if i < len(packets)-1 {
					wantFlags = offload.FlagACK
				}
				if s.Flags != wantFlags {
					t.Errorf("packet %d: flags %v, want %v", i, s.Flags, wantFlags)
				}
				if !tt.seg.v6 && binary.BigEndian.Uint16(p[4:]) != tt.seg.id+uint16(i) {
					t.Errorf("packet %d: identification %d", i, binary.BigEndian.Uint16(p[4:]))
				}
				if string(s.Packet[s.HeaderLen-len(tt.seg.opts):s.HeaderLen]) != tt.seg.opts {
					t.Errorf("packet %d: options are lost", i)
				}
				got = append(got, s.Payload()...)
			}
			if !bytes.Equal(got, []byte(tt.seg.data)) {
				t.Error("the payload is not what it was")
			}
		})
	}
}

// TestCutAndMerge: cutting and merging undo each other.
func TestCutAndMerge(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		want := seg{v6: v6, seq: 7, data: string(random(30_000)), flags: offload.FlagPSH}
		var packets [][]byte
		m := offload.Merger{Accept: func(p *offload.Packet) {
			b := bufferOf(p)
			packets = append(packets, b.Flatten())
			b.Release()
		}}
		for _, p := range cut(gsoPacket(want, 1400)) {
			m.Add(p)
		}
		m.Flush()
		if len(packets) != 1 {
			t.Fatalf("%d packets, want 1", len(packets))
		}
		s, _ := offload.ParseSegment(packets[0])
		if string(s.Payload()) != want.data || s.Flags != want.flags|offload.FlagACK || s.Seq != 7 {
			t.Errorf("%d octets, flags %v, sequence number %d", len(s.Payload()), s.Flags, s.Seq)
		}
	}
}

// TestMergeAllocations: a batch costs allocations only for what comes out.
func TestMergeAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector makes pools lose their contents: not measured")
		return
	}
	m := offload.Merger{Accept: func(p *offload.Packet) {
		b := bufferOf(p)
		b.Release()
	}}
	var batch [][]byte
	data := string(make([]byte, 1000))
	for i := range 40 {
		batch = append(batch, seg{seq: uint32(i * 1000), data: data}.packet())
	}
	run := func() {
		for _, p := range batch {
			m.Add(p)
		}
		m.Flush()
	}
	run()
	if got := testing.AllocsPerRun(100, run); got > 4 {
		t.Errorf("%v allocations for a batch of 40", got)
	}
}

// TestCutOther: a packet without GSO goes out as it is.
func TestCutOther(t *testing.T) {
	want := random(300)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(want)})
	if got := cut(pkt); len(got) != 1 || !bytes.Equal(got[0], want) {
		t.Errorf("%d packets, want the one that was given", len(got))
	}
}

// TestFillGoesOn: a packet that a batch has no room for is continued in the next.
func TestFillGoesOn(t *testing.T) {
	s := newStack(t)
	setLink(t, s, linkA())
	data := random(10_000)
	pkt := gsoPacket(seg{data: string(data)}, 1000)
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	if err := s.link.out.push(pkt); err != nil {
		t.Fatal(err)
	}
	pkt.DecRef()
	var got []byte
	for range 10 {
		b := make([]byte, 2500)
		for f := b[:s.Fill(b)]; len(f) > 0; {
			n := int(binary.BigEndian.Uint64(f))
			sg, ok := offload.ParseSegment(f[testHeadroom:n])
			if !ok {
				t.Fatal("no segment in the frame")
			}
			got = append(got, sg.Payload()...)
			f = f[n:]
		}
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d octets came out, want the %d put in", len(got), len(data))
	}
}

// TestWriteStaysWhole: what the initial window (RFC 6928) lets go of a large Write
// waits as one packet, and leaves as segments that fill the MTU.
func TestWriteStaysWhole(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) { io.Copy(io.Discard, c) }))
	q := w.a.link.out
	waiting := func() (packets, cost int) {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, f := range q.flows.Flows() {
			packets += f.Waiting()
		}
		return packets, q.streams
	}
	waitFor(t, "the handshake's end", func() bool { _, cost := waiting(); return cost == 0 })
	w.out.pause()
	defer w.out.resume()
	if _, err := c.Write(random(64 << 10)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a window of data", func() bool { _, cost := waiting(); return cost > 10_000 })
	packets, _ := waiting()
	b := make([]byte, 64<<10)
	segments := w.out.split(nil, b[:w.a.Fill(b)])
	if packets != 1 || len(segments) != 10 {
		t.Errorf("%d packets left as %d segments, want 1 as 10", packets, len(segments))
	}
	const options = 40 // the room that TCP may keep for them
	for _, s := range segments {
		if mtu := linkA().MTU; len(s) > mtu || len(s) < mtu-options {
			t.Errorf("segment of %d octets, the MTU is %d", len(s), mtu)
		}
	}
}

// TestCutAllocations: cutting costs nothing but the packet itself.
func TestCutAllocations(t *testing.T) {
	pkt := gsoPacket(seg{data: string(random(60_000))}, 1400)
	defer pkt.DecRef()
	var c cutter
	b := make([]byte, 1500)
	if n := testing.AllocsPerRun(100, func() {
		c.begin(pkt.IncRef(), defaultMTU)
		for last := false; !last; {
			last = c.next(b[:c.size()])
		}
		c.end()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSmallerMTU: a connection that began with a larger MTU keeps to the new one.
func TestSmallerMTU(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp4", "tcp6"} {
		w := newWires(t)
		host := map[string]string{"tcp4": ":0", "tcp6": "[" + addrB6.String() + "]:0"}[network]
		c := w.dial(t, network, w.serve(t, network, host, echo))
		l := linkA()
		l.MTU = 1280
		setLink(t, w.a, l)
		var longest atomic.Int64
		w.out.setFilter(func(packet []byte) bool {
			longest.Store(max(longest.Load(), int64(len(packet))))
			return true
		})
		data := random(100_000)
		go func() {
			c.Write(data)
			c.(*tcpConn).CloseWrite()
		}()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: got %d octets, %v", network, len(got), err)
		}
		if n := longest.Load(); n > 1280 {
			t.Errorf("%s: packet of %d octets, the MTU is 1280", network, n)
		}
	}
}
