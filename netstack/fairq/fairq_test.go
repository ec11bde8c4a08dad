package fairq

import (
	"go/build"
	"maps"
	"slices"
	"strings"
	"testing"
)

// testQueue has packets that are octets to send; what is under the cutter of a
// flow is how many of them are left.
type testQueue = Queue[rune, int, int]

func push(q *testQueue, key rune, sizes ...int) {
	for _, n := range sizes {
		q.Of(key).Push(n, n)
	}
}

// sendOne sends a packet, or what is left of it, at most so many octets, and
// returns the flow's key; 0 if nothing waits.
func sendOne(q *testQueue, most int) (key rune, octets int) {
	f := q.Next()
	if f == nil {
		return 0, 0
	}
	if !f.Begun {
		f.Begun = true
		f.Cut, _ = f.Pop()
	}
	octets = min(f.Cut, most)
	f.Cut -= octets
	f.Begun = f.Cut > 0
	f.Credit -= octets
	return f.key, octets
}

func send(q *testQueue, n int) string {
	var keys strings.Builder
	for range n {
		key, _ := sendOne(q, 1000)
		keys.WriteRune(key)
	}
	return keys.String()
}

// TestTurns: bulk flows take turns, also in the middle of a packet, and a flow
// that had nothing waiting goes before them.
func TestTurns(t *testing.T) {
	var q testQueue
	const turn = Quantum/1000 + 1
	push(&q, 'a', slices.Repeat([]int{1000}, 3*turn)...)
	push(&q, 'b', 3*turn*1000)
	want := strings.Repeat("a", turn) + strings.Repeat("b", turn) + "aa"
	if got := send(&q, len(want)); got != want {
		t.Errorf("got %q, want a turn each", got)
	}
	push(&q, 'k', 10)
	if got := send(&q, 2); got != "ka" {
		t.Errorf("got %q, want the keystroke first", got)
	}
	push(&q, 'k', 10) // it had its turn
	if got := send(&q, 2); got != "aa" {
		t.Errorf("got %q, want the turn to go on", got)
	}
}

// TestFairShare: over many turns each flow sends the same number of octets,
// whatever the size of its packets.
func TestFairShare(t *testing.T) {
	var q testQueue
	push(&q, 'a', slices.Repeat([]int{100}, 100_000)...)
	push(&q, 'b', slices.Repeat([]int{999}, 10_000)...)
	push(&q, 'c', 10_000_000)
	octets := map[rune]int{}
	for octets['a']+octets['b']+octets['c'] < 9_000_000 {
		key, n := sendOne(&q, 20_000)
		octets[key] += n
	}
	for key, n := range octets {
		if n < 3_000_000-2*Quantum || n > 3_000_000+2*Quantum {
			t.Errorf("flow %c sent %d octets of 9000000, want a third", key, n)
		}
	}
}

// TestOrder: within a flow, whatever is pushed and popped in between.
func TestOrder(t *testing.T) {
	f := &Flow[rune, int, int]{}
	next, want := 0, 0
	for round := range 200 {
		for range round % 7 {
			f.Push(next, 1)
			next++
		}
		for range min(round%5, f.Waiting()) {
			if got, _ := f.Pop(); got != want {
				t.Fatalf("got packet %d, want %d", got, want)
			}
			want++
		}
		if f.Waiting() != next-want || f.cost != next-want {
			t.Fatalf("%d wait at a cost of %d, want %d", f.Waiting(), f.cost, next-want)
		}
	}
	if want < 100 {
		t.Errorf("only %d packets came out", want)
	}
}

// TestNothingIsKept: a flow that is never empty needs no more memory for that, and
// holds none of what was taken off it.
func TestNothingIsKept(t *testing.T) {
	f := &Flow[rune, int, int]{}
	f.Push(1, 1)
	for range 1000 {
		f.Push(1, 1)
		f.Push(1, 1)
		f.Pop()
		f.Pop()
		for i, it := range f.items[:cap(f.items)] {
			if waits := i >= f.head && i < len(f.items); waits != (it.packet == 1) {
				t.Fatalf("item %d of %d, of which %d wait from %d on, is %v", i, cap(f.items), f.Waiting(), f.head, it)
			}
		}
	}
	if cap(f.items) > 8 {
		t.Errorf("room for %d packets, three were the most", cap(f.items))
	}
}

// TestForgotten: a flow that has sent all leaves nothing behind, and its memory
// serves the next.
func TestForgotten(t *testing.T) {
	var q testQueue
	for i := range rune(1000) {
		push(&q, i+1, 10)
		send(&q, 1)
	}
	if got := q.Next(); got != nil || len(q.flows) > 0 {
		t.Errorf("%d flows are kept", len(q.flows))
	}
	if n := spares(&q); n > 2 {
		t.Errorf("%d flows to spare after one at a time", n)
	}
}

// TestSparesAreBounded: a burst of many flows is not paid for ever.
func TestSparesAreBounded(t *testing.T) {
	var q testQueue
	for i := range rune(10 * maxSpare) {
		push(&q, i+1, 10)
	}
	if n := len(maps.Collect(q.Flows())); n != 10*maxSpare {
		t.Errorf("%d flows, want %d", n, 10*maxSpare)
	}
	send(&q, 10*maxSpare+1)
	if n := spares(&q); n != maxSpare || q.spares != n {
		t.Errorf("%d flows to spare, counted as %d, want %d", n, q.spares, maxSpare)
	}
}

func spares(q *testQueue) (n int) {
	for f := q.spare; f != nil; f = f.next {
		n++
	}
	return n
}

// TestLongest: of the flows that grew, by what waits now; and none that is
// forgotten.
func TestLongest(t *testing.T) {
	var q testQueue
	grow := func(key rune, n int) rune {
		push(&q, key, n)
		return q.Longest(q.Of(key)).key
	}
	got := string([]rune{grow('a', 100), grow('b', 50), grow('b', 40), grow('b', 40), grow('a', 20)})
	if got != "aaabb" {
		t.Errorf("longest after each packet: got %q, want %q", got, "aaabb")
	}
	q.Longest(q.Of('b')).Pop()
	if got := q.Longest(q.Of('a')).key; got != 'a' {
		t.Errorf("after a drop: got %c, want a", got)
	}
	send(&q, 5)
	if f := q.Next(); f != nil || q.longest != nil {
		t.Errorf("in an empty queue %v is next and %v the longest", f, q.longest)
	}
}

// TestAllocations: packets that come and go cost nothing.
func TestAllocations(t *testing.T) {
	var q testQueue
	if n := testing.AllocsPerRun(1000, func() {
		for i := range 10 {
			push(&q, rune(1+i%3), 100)
		}
		for range 10 {
			sendOne(&q, 1000)
		}
	}); n > 0 {
		t.Errorf("%v allocations for ten packets", n)
	}
}

// The package is pure: it has no clock, no lock, and knows no packets.
func TestImports(t *testing.T) {
	p, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"iter", "maps"}; !slices.Equal(p.Imports, want) {
		t.Errorf("imports: got %v, want %v", p.Imports, want)
	}
}
