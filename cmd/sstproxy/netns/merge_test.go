package netns

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// emitted is what a merger hands on.
type emitted struct {
	v    vnet
	data []byte
}

func mergeAll(batch ...[]byte) (out []emitted) {
	m := merger{emit: func(v vnet, pieces [][]byte) {
		out = append(out, emitted{v, bytes.Join(pieces, nil)})
	}}
	for _, b := range batch {
		m.add(b)
	}
	m.flush()
	return out
}

// Segments of a row become one, and cutting that gives them again.
func TestMerge(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		payload := payloadOf(3300)
		var batch [][]byte
		for i := range 4 {
			flags := byte(flagACK)
			if i == 3 {
				flags |= flagPSH
			}
			b := segmentOf(v6, uint32(0xFFFFFF00+1000*i), flags, payload[1000*i:min(1000*i+1000, 3300)])
			if !v6 {
				b[5] = byte(i)
				b[10], b[11] = 0, 0
				binary.BigEndian.PutUint16(b[10:], ^sum(b[:20], 0))
			}
			batch = append(batch, b)
		}
		before := bytes.Join(batch, nil)
		out := mergeAll(batch...)
		if !bytes.Equal(before, bytes.Join(batch, nil)) {
			t.Errorf("v6 %v: the batch was changed", v6)
		}
		if len(out) != 1 || out[0].v.gsoSize != 1000 {
			t.Fatalf("v6 %v: got %d packets, want 1", v6, len(out))
		}
		for i, b := range cutAll(t, frameOf(out[0].v, 0, out[0].data), 0, 1500) {
			if !bytes.Equal(b, batch[i]) {
				t.Errorf("v6 %v, segment %d:\ngot  %x\nwant %x", v6, i, b[:80], batch[i][:80])
			}
		}
	}
}

// What may not become one, and in what order it comes out.
func TestMergeNot(t *testing.T) {
	first := segmentOf(false, 1000, flagACK, payloadOf(100))
	next := func(change func(b []byte)) []byte {
		b := segmentOf(false, 1100, flagACK, payloadOf(100))
		change(b)
		seal(b)
		return b
	}
	wrong := segmentOf(false, 1100, flagACK, payloadOf(100))
	wrong[60] ^= 1
	tests := []struct {
		name   string
		second []byte
		want   int
	}{
		{"the next", next(func([]byte) {}), 1},
		{"shorter", segmentOf(false, 1100, flagACK, payloadOf(50)), 1},
		{"longer", segmentOf(false, 1100, flagACK, payloadOf(150)), 2},
		{"a gap", segmentOf(false, 1101, flagACK, payloadOf(100)), 2},
		{"no data", segmentOf(false, 1100, flagACK, nil), 2},
		{"FIN", segmentOf(false, 1100, flagACK|flagFIN, payloadOf(100)), 2},
		{"wrong checksum", wrong, 2},
		{"another acknowledgement", next(func(b []byte) { b[20+8] = 1 }), 2},
		{"another window", next(func(b []byte) { b[20+14] = 1 }), 2},
		{"another time stamp", next(func(b []byte) { b[20+24] = 1 }), 2},
		{"another port", next(func(b []byte) { b[21] = 1 }), 2},
		{"another connection's family", segmentOf(true, 1100, flagACK, payloadOf(100)), 2},
	}
	for _, tt := range tests {
		out := mergeAll(first, tt.second)
		if len(out) != tt.want {
			t.Errorf("%s: got %d packets, want %d", tt.name, len(out), tt.want)
		}
		if tt.want == 2 && (!bytes.Equal(out[0].data, first) || !bytes.Equal(out[1].data, tt.second)) && tt.name != "longer" {
			t.Errorf("%s: the packets are not what they were", tt.name)
		}
	}
	if out := mergeAll(first, []byte{0x45}, []byte{}, []byte("no packet")); len(out) == 0 {
		t.Error("nothing came out")
	}
}

// Two connections side by side are merged each by itself.
func TestMergeInterleaved(t *testing.T) {
	var batch [][]byte
	for i := range 5 {
		for port := range 3 {
			b := segmentOf(false, uint32(100*i), flagACK, payloadOf(100))
			b[20] = byte(port)
			seal(b)
			batch = append(batch, b)
		}
	}
	if out := mergeAll(batch...); len(out) != 3 {
		t.Errorf("got %d packets, want 3", len(out))
	}
}

// What the server sends does no harm, and nothing is lost of it but the headers
// of what was merged.
func FuzzMerge(f *testing.F) {
	f.Add(segmentOf(false, 1, flagACK, payloadOf(100)), segmentOf(false, 101, flagACK, payloadOf(100)))
	f.Add(segmentOf(true, 1, flagACK, payloadOf(100)), segmentOf(true, 101, flagACK|flagPSH, payloadOf(50)))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		advertised(a)
		if len(a) == 0 || len(b) == 0 {
			return
		}
		out := mergeAll(a, b)
		if len(out) == 1 && out[0].v.gsoSize == 0 || len(out) == 0 || len(out) > 2 {
			t.Errorf("got %d packets of 2", len(out))
		}
	})
}
