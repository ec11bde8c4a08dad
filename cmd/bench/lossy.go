package main

import (
	"fmt"
	"math/rand/v2"

	"sstproxy/tunnel/tunneltest"
)

// loss is what a session loses beyond the server, where the tunnel can't
// repair it: each IP packet with the same probability, both ways. Which ones of a
// connection is determined by seed and by how many connections there were
// before, so that two sessions that do the same lose the same. The zero value
// loses nothing.
type loss struct {
	rate float64
	seed uint64
}

// lossSeeds is how many accounts there are for each rate.
const lossSeeds = 8

// account is whom a client logs in as to get a loss.
func (l loss) account() string {
	if l == (loss{}) {
		return benchUser
	}
	return fmt.Sprintf("%s-%g-%d", benchUser, l.rate, l.seed)
}

// losses are all those that a session can have.
func losses() (all []loss) {
	all = append(all, loss{})
	for _, rate := range []float64{lossLow, lossHigh} {
		for seed := range uint64(lossSeeds) {
			all = append(all, loss{rate, seed})
		}
	}
	return all
}

func accounts() map[string]string {
	users := map[string]string{lightUser: benchPassword}
	for _, l := range losses() {
		users[l.account()] = benchPassword
	}
	return users
}

func lossOf(account string) loss {
	for _, l := range losses() {
		if l.account() == account {
			return l
		}
	}
	return loss{}
}

// on puts the loss between a session and its network.
func (l loss) on(n tunneltest.Network) tunneltest.Network {
	if l.rate == 0 {
		return n
	}
	in := &lossy{loss: l, network: n, flows: map[flow]*rand.Rand{}}
	out := &lossy{loss: l, network: n, flows: map[flow]*rand.Rand{}, out: 1}
	n.Deliver, n.Fill = in.deliver, out.fill
	return n
}

// lossy is one direction of a network that loses packets.
type lossy struct {
	loss
	out     uint64 // 1 away from the network, 0 into it
	network tunneltest.Network
	flows   map[flow]*rand.Rand
	kept    [][]byte
}

// flow is the ports of an IPv4 packet without options; all others are one.
type flow [4]byte

func flowOf(packet []byte) (f flow) {
	if len(packet) >= 20+len(f) {
		copy(f[:], packet[20:])
	}
	return f
}

func (l *lossy) lose(packet []byte) bool {
	f := flowOf(packet)
	if l.flows[f] == nil {
		l.flows[f] = rand.New(rand.NewPCG(l.seed, uint64(2*len(l.flows))+l.out))
	}
	return l.flows[f].Float64() < l.rate
}

// deliver is a [tunneltest.Network]'s Deliver.
func (l *lossy) deliver(batch [][]byte) {
	l.kept = l.kept[:0]
	for _, packet := range batch {
		if !l.lose(packet) {
			l.kept = append(l.kept, packet)
		}
	}
	l.network.Deliver(l.kept)
}

// fill is a [tunneltest.Network]'s Fill. It must not return 0 while more
// waits, although all that it took may be lost.
func (l *lossy) fill(b []byte) int {
	for {
		n := l.network.Fill(b)
		if n == 0 {
			return 0
		}
		if n = l.thin(b[:n]); n > 0 {
			return n
		}
	}
}

// thin loses some of the frames in b, moves the others together and returns
// how many octets they are.
func (l *lossy) thin(b []byte) (kept int) {
	for at := 0; at < len(b); {
		size := frameLen(b[at:])
		if !l.lose(b[at+tunneltest.Headroom : at+size]) {
			kept += copy(b[kept:], b[at:at+size])
		}
		at += size
	}
	return kept
}
