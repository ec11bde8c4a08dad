package netns

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"sstproxy/netstack/offload"
)

// ipPacket makes an IP packet with a payload behind the given header of TCP or UDP;
// all checksums but the upper layer's are right.
func ipPacket(v6 bool, proto byte, upper []byte) []byte {
	if v6 {
		b := append([]byte{0x60, 0, 0, 0}, make([]byte, 36)...)
		binary.BigEndian.PutUint16(b[4:], uint16(len(upper)))
		b[6], b[7] = proto, 64
		b[8], b[23], b[24], b[39] = 0xfd, 1, 0xfd, 2
		return append(b, upper...)
	}
	b := make([]byte, 20)
	b[0], b[6], b[8], b[9] = 0x45, 0x40, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(upper)))
	copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(b[10:], ^offload.Sum(b, 0))
	return append(b, upper...)
}

// tcpHeader has a time stamp option's length of options.
func tcpHeader(seq uint32, flags byte) []byte {
	b := make([]byte, 32)
	binary.BigEndian.PutUint16(b, 1000)
	binary.BigEndian.PutUint16(b[2:], 80)
	binary.BigEndian.PutUint32(b[4:], seq)
	b[12], b[13], b[14], b[20] = 8<<4, flags, 0x40, 1
	return b
}

// segmentOf is a whole TCP segment.
func segmentOf(v6 bool, seq uint32, flags byte, payload []byte) []byte {
	b := ipPacket(v6, offload.TCP, append(tcpHeader(seq, flags), payload...))
	seal(b)
	return b
}

// seal sets the checksum of a TCP segment.
func seal(b []byte) {
	ipLen, _, _ := offload.UpperLayer(b)
	binary.BigEndian.PutUint16(b[ipLen+16:], 0)
	binary.BigEndian.PutUint16(b[ipLen+16:], ^offload.Sum(b[ipLen:], offload.PseudoHeader(b, offload.TCP, len(b)-ipLen)))
}

func payloadOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + i>>8)
	}
	return b
}

// frameOf puts headers of a device before a packet.
func frameOf(v vnet, link int, packet []byte) []byte {
	v.checkStart += uint16(link)
	b := make([]byte, vnetLen+link, vnetLen+link+len(packet))
	v.put(b)
	return append(b, packet...)
}

// cutAll writes all packets that come of a frame.
func cutAll(t *testing.T, frame []byte, link, mtu int) (packets [][]byte) {
	t.Helper()
	p, ok := parseFrame(frame, link)
	if !ok {
		t.Fatal("frame not understood")
	}
	var c cutter
	c.begin(p, mtu)
	for last := false; !last; {
		b := make([]byte, c.next())
		last = c.write(b)
		packets = append(packets, b)
	}
	return packets
}

// A large segment becomes those that TCP would have sent.
func TestCutTCP(t *testing.T) {
	const flags = offload.FlagACK | offload.FlagPSH | offload.FlagFIN | offload.FlagCWR
	for _, v6 := range []bool{false, true} {
		for _, link := range []int{0, etherLen} {
			gso := byte(vnetGSOTCP4)
			if v6 {
				gso = vnetGSOTCP6
			}
			payload := payloadOf(2500)
			whole := ipPacket(v6, offload.TCP, append(tcpHeader(0xFFFFFFF0, flags), payload...))
			got := cutAll(t, frameOf(vnet{flags: vnetNeedsChecksum, gso: gso | vnetGSOECN, gsoSize: 1000}, link, whole), link, 1500)
			var want [][]byte
			for i, f := range []byte{offload.FlagACK | offload.FlagCWR, offload.FlagACK, offload.FlagACK | offload.FlagPSH | offload.FlagFIN} {
				b := segmentOf(v6, uint32(0xFFFFFFF0+1000*i), f, payload[1000*i:min(1000*i+1000, 2500)])
				if !v6 {
					b[5] = byte(i) // identification
					b[10], b[11] = 0, 0
					binary.BigEndian.PutUint16(b[10:], ^offload.Sum(b[:20], 0))
				}
				want = append(want, b)
			}
			if len(got) != len(want) {
				t.Fatalf("v6 %v: got %d packets, want %d", v6, len(got), len(want))
			}
			for i := range got {
				if !bytes.Equal(got[i], want[i]) {
					t.Errorf("v6 %v, segment %d:\ngot  %x\nwant %x", v6, i, got[i][:80], want[i][:80])
				}
			}
		}
	}
}

// What was made for a larger MTU is cut to the present one.
func TestCutToMTU(t *testing.T) {
	whole := ipPacket(false, offload.TCP, append(tcpHeader(1, offload.FlagACK), payloadOf(3000)...))
	total := 0
	for _, b := range cutAll(t, frameOf(vnet{gso: vnetGSOTCP4, gsoSize: 1400}, 0, whole), 0, 600) {
		if s, ok := offload.ParseSegment(b); !ok || !s.Valid() || len(b) > 600 {
			t.Errorf("got %d octets, valid %v", len(b), ok && s.Valid())
		}
		total += len(b) - 52
	}
	if total != 3000 {
		t.Errorf("got %d octets of payload, want 3000", total)
	}
}

// Datagrams that a program sends with UDP_SEGMENT.
func TestCutUDP(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		head := []byte{4, 0, 0, 53, 0, 0, 0, 0}
		payload := payloadOf(2100)
		got := cutAll(t, frameOf(vnet{gso: vnetGSOUDP4, gsoSize: 1000}, 0, ipPacket(v6, offload.UDP, append(head, payload...))), 0, 1500)
		var all []byte
		for _, b := range got {
			ipLen, _, whole := offload.UpperLayer(b)
			udp := b[ipLen:]
			if whole != len(b) || int(binary.BigEndian.Uint16(udp[4:])) != len(udp) || offload.Sum(udp, offload.PseudoHeader(b, offload.UDP, len(udp))) != 0xFFFF {
				t.Errorf("v6 %v: got a wrong length or checksum: %x", v6, b[:48])
			}
			all = append(all, udp[8:]...)
		}
		if len(got) != 3 || !bytes.Equal(all, payload) {
			t.Errorf("v6 %v: got %d datagrams and %d octets, want 3 and 2100", v6, len(got), len(all))
		}
	}
}

// What was merged goes to the device as what a sender hands to one: cutting that
// gives the segments again.
func TestMergedFrame(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		var frames [][]byte
		m := offload.Merger{Accept: func(p *offload.Packet) {
			frames = append(frames, frameOf(mergedVnet(p), 0, append(bytes.Clone(p.Header), bytes.Join(p.Payload, nil)...)))
		}}
		payload := payloadOf(3300)
		var want [][]byte
		for i := range 4 {
			b := segmentOf(v6, uint32(0xFFFFFF00+1000*i), offload.FlagACK, payload[1000*i:min(1000*i+1000, 3300)])
			if !v6 {
				b[5] = byte(i) // identification
				b[10], b[11] = 0, 0
				binary.BigEndian.PutUint16(b[10:], ^offload.Sum(b[:20], 0))
			}
			want = append(want, b)
			m.Add(b)
		}
		alone := segmentOf(v6, 1, offload.FlagACK|offload.FlagFIN, payloadOf(10))
		want = append(want, alone)
		m.Add(alone)
		m.Flush()
		if len(frames) != 2 {
			t.Fatalf("v6 %v: got %d frames, want 2", v6, len(frames))
		}
		if v := parseVnet(frames[0]); v.hdrLen+uint16(len(payload)) != uint16(len(frames[0])-vnetLen) || v.flags != vnetNeedsChecksum {
			t.Errorf("v6 %v: got %+v", v6, v)
		}
		if v := parseVnet(frames[1]); v != (vnet{}) {
			t.Errorf("v6 %v: a segment alone has %+v", v6, v)
		}
		got := append(cutAll(t, frames[0], 0, 1500), cutAll(t, frames[1], 0, 1500)...)
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("v6 %v:\ngot  %x\nwant %x", v6, got, want)
		}
	}
}

// The kernel leaves the checksum to the device.
func TestComplete(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, link := range []int{0, etherLen} {
			b := segmentOf(v6, 7, offload.FlagACK, payloadOf(99))
			ipLen, _, _ := offload.UpperLayer(b)
			want := bytes.Clone(b)
			binary.BigEndian.PutUint16(b[ipLen+16:], offload.PseudoHeader(b, offload.TCP, len(b)-ipLen))
			v := vnet{flags: vnetNeedsChecksum, checkStart: uint16(ipLen), checkOffset: 16}
			got := cutAll(t, frameOf(v, link, b), link, 1500)
			if len(got) != 1 || !bytes.Equal(got[0], want) {
				t.Errorf("v6 %v: got %x\nwant %x", v6, got, want)
			}
		}
	}
}

// Padding behind the packet, as Ethernet has it, is cut off; what is no whole
// packet is dropped, and no prefix of one does harm.
func TestParseFrame(t *testing.T) {
	b := segmentOf(false, 1, offload.FlagACK, payloadOf(100))
	if p, ok := parseFrame(frameOf(vnet{}, etherLen, append(bytes.Clone(b), 0, 0, 0)), etherLen); !ok || !bytes.Equal(p.data, b) {
		t.Errorf("padded: got %v, %x", ok, p.data)
	}
	for _, v := range []vnet{
		{}, {gso: vnetGSOTCP4, gsoSize: 10}, {gso: vnetGSOUDP4, gsoSize: 10},
		{flags: vnetNeedsChecksum, checkStart: 20, checkOffset: 16}, {flags: vnetNeedsChecksum, checkStart: 65535, checkOffset: 65535},
		{gso: vnetGSOTCP4}, {gso: vnetGSOUDP, gsoSize: 10},
	} {
		frame := frameOf(v, 0, b)
		for n := range frame {
			if _, ok := parseFrame(frame[:n], 0); ok {
				t.Errorf("%+v: %d of %d octets were taken", v, n, len(frame))
			}
		}
	}
	for n := range 60 { // an IP length that the headers do not fit into
		short := bytes.Clone(b)
		binary.BigEndian.PutUint16(short[2:], uint16(n))
		if _, ok := parseFrame(frameOf(vnet{gso: vnetGSOTCP4, gsoSize: 1}, 0, short), 0); ok && n < 52 {
			t.Errorf("a length of %d was taken", n)
		}
	}
}

// Whatever comes from the device does no harm: what is cut from it has the length
// that was told, and no segment exceeds the MTU.
func FuzzFrame(f *testing.F) {
	whole := ipPacket(false, offload.TCP, append(tcpHeader(1, offload.FlagACK), payloadOf(3000)...))
	f.Add(frameOf(vnet{gso: vnetGSOTCP4, gsoSize: 1000}, 0, whole))
	f.Add(frameOf(vnet{gso: vnetGSOUDP4, gsoSize: 100}, 0, ipPacket(true, offload.UDP, payloadOf(500))))
	f.Add(frameOf(vnet{flags: vnetNeedsChecksum, checkStart: 20, checkOffset: 16}, 0, segmentOf(false, 1, offload.FlagACK, nil)))
	f.Fuzz(func(t *testing.T, frame []byte) {
		q := newQueue(8, nil)
		if p, ok := parseFrame(bytes.Clone(frame), 0); ok {
			q.push(p)
		}
		b := make([]byte, 4000)
		for n := q.fill(b); n > 0; n = q.fill(b) {
			if n > len(b) {
				t.Fatalf("filled %d octets of %d", n, len(b))
			}
		}
		if q.cost != 0 {
			t.Errorf("%d octets are left in an empty queue", q.cost)
		}
	})
}
