package main

import (
	"bytes"
	"encoding/binary"
	"testing"

	"sstproxy/tunnel/tunneltest"
)

// frames returns n frames of different lengths that carry their number.
func frames(n int) (all [][]byte) {
	for i := range n {
		f := make([]byte, tunneltest.Headroom+4+i%1000)
		f[tunneltest.Headroom] = 0x45
		binary.BigEndian.PutUint16(f[tunneltest.Headroom+2:], uint16(i))
		tunneltest.PutHeader(f)
		all = append(all, f)
	}
	return all
}

// source is a Fill that hands out frames, at most ten at a time.
func source(all [][]byte) func([]byte) int {
	return func(b []byte) (n int) {
		for range min(10, len(all)) {
			n += copy(b[n:], all[0])
			all = all[1:]
		}
		return n
	}
}

// drain calls fill until nothing waits.
func drain(fill func([]byte) int) (got []byte) {
	b := make([]byte, 64<<10)
	for {
		n := fill(b)
		if n == 0 {
			return got
		}
		got = append(got, b[:n]...)
	}
}

// TestLoss: both directions lose about as many packets as they should, leave
// the others alone and in order, and lose the same ones for the same seed.
func TestLoss(t *testing.T) {
	all := frames(4000)
	whole := bytes.Join(all, nil)
	for _, tt := range []struct {
		rate     float64
		min, max int
	}{{0, 4000, 4000}, {0.25, 2850, 3150}, {1, 0, 0}} {
		lost := loss{tt.rate, 3}
		pass := func() (in [][]byte, out []byte) {
			n := lost.on(tunneltest.Network{
				Deliver: func(batch [][]byte) { in = append(in, batch...) },
				Fill:    source(all),
			})
			for i := range 400 {
				n.Deliver(all[10*i : 10*i+10])
			}
			return in, drain(n.Fill)
		}
		in, out := pass()
		again, outAgain := pass()
		if len(in) < tt.min || len(in) > tt.max {
			t.Errorf("rate %v: %d of 4000 packets in, want %d to %d", tt.rate, len(in), tt.min, tt.max)
		}
		if n := subsequence(t, out, all); n < tt.min || n > tt.max {
			t.Errorf("rate %v: %d of 4000 packets out, want %d to %d", tt.rate, n, tt.min, tt.max)
		}
		subsequence(t, bytes.Join(in, nil), all)
		if !bytes.Equal(bytes.Join(in, nil), bytes.Join(again, nil)) || !bytes.Equal(out, outAgain) {
			t.Errorf("rate %v: the same seed lost others", tt.rate)
		}
		if tt.rate > 0 && tt.rate < 1 && bytes.Equal(bytes.Join(in, nil), out) {
			t.Errorf("rate %v: both directions lost the same", tt.rate)
		}
	}
	if !bytes.Equal(whole, bytes.Join(all, nil)) {
		t.Error("the packets were written to")
	}
}

// TestLossOfFlow: what a connection loses does not depend on the packets of
// another, or on its own ports, and differs from what the one before it lost.
func TestLossOfFlow(t *testing.T) {
	const n = 1000
	kept := func(ports ...byte) map[byte]string {
		got := map[byte]string{}
		lost := loss{0.25, 3}.on(tunneltest.Network{Deliver: func(batch [][]byte) {
			for _, p := range batch {
				got[p[20]] += string(p[24:])
			}
		}})
		for i := range n {
			for _, port := range ports {
				p := append(make([]byte, 20), port, 0, 0, 0)
				lost.Deliver([][]byte{binary.BigEndian.AppendUint16(p, uint16(i))})
			}
		}
		return got
	}
	alone, both := kept(1), kept(2, 3)
	if alone[1] != both[2] {
		t.Error("another connection changed what the first lost")
	}
	if both[2] == both[3] {
		t.Error("the second connection lost the same as the first")
	}
}

// subsequence counts the frames in b and checks that they are of all, in order.
func subsequence(t *testing.T, b []byte, all [][]byte) (n int) {
	t.Helper()
	for ; len(b) > 0; n++ {
		for len(all) > 0 && !bytes.HasPrefix(b, all[0]) {
			all = all[1:]
		}
		if len(all) == 0 {
			t.Fatalf("frame %d is none of those sent, or in another place", n)
		}
		b, all = b[len(all[0]):], all[1:]
	}
	return n
}

// TestLossAccounts: each loss has an account of its own that leads back to it, and
// so has a light far end.
func TestLossAccounts(t *testing.T) {
	users := accounts()
	if len(users) != len(losses())+1 || users[lightUser] == "" {
		t.Fatalf("%d accounts for %d losses and a light far end", len(users), len(losses()))
	}
	for _, l := range losses() {
		if _, ok := users[l.account()]; !ok || lossOf(l.account()) != l {
			t.Errorf("account %q of %v leads to %v", l.account(), l, lossOf(l.account()))
		}
	}
	if lossOf("somebody") != (loss{}) {
		t.Error("an unknown account loses packets")
	}
}
