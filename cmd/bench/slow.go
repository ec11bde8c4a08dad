package main

import (
	"errors"
	"sync"
	"time"

	"sstproxy/tunnel/tunneltest"
)

// slowRate is the bottleneck of the figures that need one, in bits per second.
// There the processor is not, so their measurements run at the same time, each
// behind a relay of its own.
const slowRate = 100_000_000

// trial is one of the cases of such a figure.
type trial struct {
	name, key string
	stall     tunneltest.Stall
	back      bool // the stalls are on the way back to the client alone
	loss      float64
	ask       byte
	goal      string
}

// path is the trial's path between client and server.
func (t trial) path() tunneltest.Path {
	return tunneltest.Path{Delay: 10 * time.Millisecond, Rate: slowRate, Stall: t.stall}
}

// together runs trials at the same time, rounds times, and returns the results
// of each side. ways says which sides a trial has.
func (b *bench) together(trials []trial, rounds int, l load, ways func(trial) []way) ([][][]result, error) {
	var all []way
	var of []int // the trial of each way
	for i, t := range trials {
		for _, w := range ways(t) {
			all, of = append(all, w), append(of, i)
		}
	}
	sides, err := b.begin(all...)
	if err != nil {
		return nil, err
	}
	defer closeSides(sides)
	results := make([][]result, len(sides))
	for range rounds {
		if err := b.round(sides, results, func(i int) load { l.ask = trials[of[i]].ask; return l }); err != nil {
			return nil, err
		}
	}
	grouped := make([][][]result, len(trials))
	for i, rs := range results {
		grouped[of[i]] = append(grouped[of[i]], rs)
	}
	return grouped, nil
}

// round measures all sides at the same time, and appends a result to each
// one's.
func (b *bench) round(sides []*side, results [][]result, load func(int) load) error {
	errs := make([]error, len(sides))
	var wg sync.WaitGroup
	for i, s := range sides {
		l := load(i)
		wg.Go(func() { // ends with its measurement
			var r result
			r, errs[i] = b.run(s, l)
			results[i] = append(results[i], r)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// stalls: the outer link stands still now and then. The sides are raw, the
// program, and its parts with an ordinary clock. Stalls of the way back alone
// leave raw as it is; an upload can't go on for longer than a window without
// acknowledgements, and has hardly more than two thirds of the time. In a full run
// they are taken by themselves, so that the processors keep pace with the others.
func (b *bench) stalls() error {
	long := tunneltest.Stall{Every: 3 * time.Second, For: time.Second}
	short := tunneltest.Stall{Every: 2 * time.Second, For: 200 * time.Millisecond}
	progress("stalls")
	both := []trial{
		{name: "upload, stalls of 1 s every 3 s", key: "stall_1s", stall: long, ask: askUpload, goal: ">= 0.9"},
		{name: "upload, stalls of 200 ms every 2 s", key: "stall_200ms", stall: short, ask: askUpload, goal: ">= 0.9"},
		{name: "download, stalls of 1 s every 3 s", key: "stall_1s_down", stall: long, ask: askDownload, goal: ">= 0.9"},
		{name: "download, stalls of 200 ms every 2 s", key: "stall_200ms_down", stall: short, ask: askDownload, goal: ">= 0.9"},
	}
	back := trial{name: "upload, 1 s every 3 s, the way back alone", key: "stall_back", stall: long, back: true, ask: askUpload, goal: ">= 0.6"}
	if b.quick {
		return b.stall(append(both, back), 1)
	}
	if err := b.stall(both, 5); err != nil {
		return err
	}
	return b.stall([]trial{back}, 3)
}

// stall takes trials at the same time.
func (b *bench) stall(trials []trial, rounds int) error {
	l := load{streams: 1, warm: time.Second, measure: 6 * time.Second} // two or three stalls
	results, err := b.together(trials, rounds, l, func(t trial) (ways []way) {
		for _, client := range []string{"raw", "sstproxy", "stock"} {
			ways = append(ways, way{client: client, path: t.path(), back: t.back})
		}
		return ways
	})
	if err != nil {
		return err
	}
	for i, t := range trials {
		m := medians(results[i])
		raw, tunnel, stock := m[0].goodput*mbit, m[1].goodput*mbit, m[2].goodput*mbit
		b.out.compare(t.name, t.key+"_vs_raw", "Mbit/s", raw, tunnel, t.goal)
		if t.ask == askUpload {
			b.out.absolute("  segments retransmitted, all rounds", t.key+"_retransmits", "", m[1].resent, "0")
			b.out.compare("  without the stall clock", t.key+"_stock_vs_raw", "Mbit/s", raw, stock, "")
		}
	}
	return nil
}

// The rates of loss beyond the server.
const (
	lossLow  = 0.0005
	lossHigh = 0.005
)

// loss: packets get lost beyond the server, so that the inner TCP has to cope.
// The yardstick is the same client with an ordinary clock. Losses are few and
// each has a long effect, so there are several paths for each trial, the n-th
// connection over a path loses the same packets on either side, and the means
// of all count instead of the medians.
func (b *bench) loss() error {
	trials := []trial{
		{name: "upload, 0.05 % lost beyond the server", key: "loss_005", loss: lossLow, ask: askUpload, goal: ">= 1"},
		{name: "upload, 0.5 % lost beyond the server", key: "loss_05", loss: lossHigh, ask: askUpload, goal: ">= 1"},
		{name: "download, 0.05 % lost beyond the server", key: "loss_005_down", loss: lossLow, ask: askDownload, goal: ">= 1"},
		{name: "download, 0.5 % lost beyond the server", key: "loss_05_down", loss: lossHigh, ask: askDownload, goal: ">= 1"},
	}
	progress("loss")
	l := load{streams: 1, warm: time.Second, measure: b.length(12*time.Second, 6*time.Second)}
	results, err := b.together(trials, b.rounds(4), l, func(t trial) (ways []way) {
		for seed := range b.times(4, 3) {
			l := loss{t.loss, uint64(seed)}
			p := t.path()
			ways = append(ways, way{client: "stock", path: p, loss: l}, way{client: "sstproxy", path: p, loss: l})
		}
		return ways
	})
	if err != nil {
		return err
	}
	for i, t := range trials {
		var goodputs [2][]float64 // stock, sstproxy
		for j, rs := range results[i] {
			for _, r := range rs {
				goodputs[j%2] = append(goodputs[j%2], r.goodput*mbit)
			}
		}
		b.out.compareStock(t.name, t.key+"_vs_stock", goodputs[0], goodputs[1], t.goal)
	}
	return nil
}
