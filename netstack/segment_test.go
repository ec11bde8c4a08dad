package netstack

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// gsoPacket makes what gVisor hands down for s with host GSO: headers and
// payload in views of their own.
func gsoPacket(s seg, mss int) *stack.PacketBuffer {
	whole := s.packet()
	sg, _ := parseSegment(whole)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: sg.hdrLen + 20})
	payload := sg.payload()
	for _, part := range [][]byte{payload[:len(payload)/3], payload[len(payload)/3:]} {
		if len(part) > 0 {
			pkt.Data().AppendView(buffer.NewViewWithData(part))
		}
	}
	copy(pkt.TransportHeader().Push(sg.hdrLen-sg.ipLen), whole[sg.ipLen:sg.hdrLen])
	copy(pkt.NetworkHeader().Push(sg.ipLen), whole[:sg.ipLen])
	pkt.GSOOptions = stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, MSS: uint16(mss), L3HdrLen: uint16(sg.ipLen)}
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
		{"no data", seg{flags: header.TCPFlagFin}, 1000, 1},
		{"last flags", seg{data: data, flags: header.TCPFlagFin | header.TCPFlagPsh}, 1000, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			packets := cut(gsoPacket(tt.seg, tt.mss))
			if len(packets) != tt.want {
				t.Fatalf("%d packets, want %d", len(packets), tt.want)
			}
			var got []byte
			for i, p := range packets {
				s, ok := parseSegment(p)
				if !ok || len(s.packet) != len(p) || !s.valid() {
					t.Fatalf("packet %d is no valid segment: % x", i, p[:min(60, len(p))])
				}
				if want := tt.seg.seq + uint32(i*tt.mss); s.seq != want {
					t.Errorf("packet %d: sequence number %d, want %d", i, s.seq, want)
				}
				wantFlags := tt.seg.flags | header.TCPFlagAck
				if i < len(packets)-1 {
					wantFlags = header.TCPFlagAck
				}
				if s.flags != wantFlags {
					t.Errorf("packet %d: flags %v, want %v", i, s.flags, wantFlags)
				}
				if !tt.seg.v6 && binary.BigEndian.Uint16(p[4:]) != tt.seg.id+uint16(i) {
					t.Errorf("packet %d: identification %d", i, binary.BigEndian.Uint16(p[4:]))
				}
				if string(s.packet[s.hdrLen-len(tt.seg.opts):s.hdrLen]) != tt.seg.opts {
					t.Errorf("packet %d: options are lost", i)
				}
				got = append(got, s.payload()...)
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
		want := seg{v6: v6, seq: 7, data: string(random(30_000)), flags: header.TCPFlagPsh}
		c := newCollector()
		for _, p := range cut(gsoPacket(want, 1400)) {
			c.add(p)
		}
		c.flush()
		if len(c.packets) != 1 {
			t.Fatalf("%d packets, want 1", len(c.packets))
		}
		s, _ := parseSegment(c.packets[0])
		if string(s.payload()) != want.data || s.flags != want.flags|header.TCPFlagAck || s.seq != 7 {
			t.Errorf("%d octets, flags %v, sequence number %d", len(s.payload()), s.flags, s.seq)
		}
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
			sg, ok := parseSegment(f[testHeadroom:n])
			if !ok {
				t.Fatal("no segment in the frame")
			}
			got = append(got, sg.payload()...)
			f = f[n:]
		}
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d octets came out, want the %d put in", len(got), len(data))
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
