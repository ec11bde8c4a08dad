package main

import (
	"fmt"
	"time"

	"sstproxy/tunnel/tunneltest"
)

// rounds is how often each measurement is taken, raw and tunnel in turn; the
// table has the medians.
func (b *bench) rounds(full int) int {
	if b.quick {
		return 1
	}
	return full
}

// interleave measures both sides in turn and returns the medians.
func (b *bench) interleave(l *link, load load, rounds int) (raw, tunnel result, err error) {
	var results [2][]result
	for range rounds {
		for i, s := range []side{l.raw, l.tunnel} {
			r, err := load.run(s, b.far.sunkAt)
			if err != nil {
				return raw, tunnel, err
			}
			progress("  %-8s %7.3f Gbit/s  %5.2f CPU s/GB", s.name, r.goodput*8/1e9, r.cpu)
			results[i] = append(results[i], r)
		}
	}
	return medians(results[0]), medians(results[1]), nil
}

func medians(rs []result) (m result) {
	var goodput, cpu, allocs []float64
	for _, r := range rs {
		goodput, cpu, allocs = append(goodput, r.goodput), append(cpu, r.cpu), append(allocs, r.allocs)
		m.pings = append(m.pings, r.pings...)
	}
	m.goodput, m.cpu, m.allocs = median(goodput), median(cpu), median(allocs)
	return m
}

const gbit = 8 / 1e9

// throughput: one stream and 64, each way, on the bare loopback.
func (b *bench) throughput() error {
	l, err := b.newLink(tunneltest.Path{}, tunneltest.Path{})
	defer l.close()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name, key string
		load      load
		goal      string
		cpuGoal   string
		allocGoal string
	}{
		{"download, 1 stream", "download", load{ask: askDownload, streams: 1}, ">= 0.90", "<= 1.4", "<= 0.1"},
		{"upload, 1 stream", "upload", load{ask: askUpload, streams: 1}, ">= 0.65", "<= 1.8", "<= 0.5"},
		{"download, 64 streams", "streams64_down", load{ask: askDownload, streams: 64}, ">= 0.5", "", ""},
		{"upload, 64 streams", "streams64_up", load{ask: askUpload, streams: 64}, ">= 0.5", "", ""},
	} {
		progress("%s", f.name)
		f.load.warm, f.load.measure = 500*time.Millisecond, b.length(2*time.Second)
		raw, tunnel, err := b.interleave(l, f.load, b.rounds(7))
		if err != nil {
			return err
		}
		b.out.compare(f.name, f.key+"_vs_raw", "Gbit/s", raw.goodput*gbit, tunnel.goodput*gbit, f.goal)
		if f.cpuGoal != "" {
			b.out.compare(f.name+", client CPU", "cpu_"+f.key+"_vs_raw", "s/GB", raw.cpu, tunnel.cpu, f.cpuGoal)
			b.out.absolute(f.name+", allocations", "allocs_"+f.key, "per packet", tunnel.allocs, f.allocGoal)
		}
	}
	return nil
}

// length shortens a measurement of a quick run.
func (b *bench) length(full time.Duration) time.Duration {
	if b.quick {
		return min(full, 1500*time.Millisecond)
	}
	return full
}

const mbit = 1_000_000

// stalls: the outer link stands still now and then.
func (b *bench) stalls() error {
	for _, f := range []struct {
		name, key string
		stall     tunneltest.Stall
		ask       byte
	}{
		{"upload, stalls of 1 s every 3 s", "stall_1s", tunneltest.Stall{Every: 3 * time.Second, For: time.Second}, askUpload},
		{"upload, stalls of 200 ms every 2 s", "stall_200ms", tunneltest.Stall{Every: 2 * time.Second, For: 200 * time.Millisecond}, askUpload},
		{"download, stalls of 1 s every 3 s", "stall_1s_down", tunneltest.Stall{Every: 3 * time.Second, For: time.Second}, askDownload},
		{"download, stalls of 200 ms every 2 s", "stall_200ms_down", tunneltest.Stall{Every: 2 * time.Second, For: 200 * time.Millisecond}, askDownload},
	} {
		if err := b.stall(f.name, f.key, f.stall, f.ask); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

func (b *bench) stall(name, key string, stall tunneltest.Stall, ask byte) error {
	progress("%s", name)
	p := tunneltest.Path{Delay: 10 * time.Millisecond, Rate: 100 * mbit, Stall: stall}
	l, err := b.newLink(p, p)
	defer l.close()
	if err != nil {
		return err
	}
	measure := 9 * time.Second
	if b.quick {
		measure = 6 * time.Second
	}
	before, err := l.tunnel.read()
	if err != nil {
		return err
	}
	raw, tunnel, err := b.together(l, load{ask: ask, streams: 1, warm: time.Second, measure: measure})
	if err != nil {
		return err
	}
	after, err := l.tunnel.read()
	if err != nil {
		return err
	}
	b.out.compare(name, key+"_vs_raw", "Mbit/s", raw.goodput*8/1e6, tunnel.goodput*8/1e6, ">= 0.9")
	if ask == askUpload {
		b.out.absolute(name+", retransmitted", key+"_retransmits", "segments", float64(after.Resent-before.Resent), "0")
	}
	return nil
}

// together measures both sides at the same time, each behind a relay of its
// own: where the link is slow, the processor is no bottleneck.
func (b *bench) together(l *link, load load) (raw, tunnel result, err error) {
	errs := make(chan error, 1)
	go func() { // ends with its measurement
		var err error
		raw, err = load.run(l.raw, b.far.sunkAt)
		errs <- err
	}()
	// Both count at the far end, so uploads must take turns.
	if load.ask == askUpload {
		if err := <-errs; err != nil {
			return raw, tunnel, err
		}
		tunnel, err = load.run(l.tunnel, b.far.sunkAt)
		return raw, tunnel, err
	}
	tunnel, err = load.run(l.tunnel, b.far.sunkAt)
	if e := <-errs; err == nil {
		err = e
	}
	return raw, tunnel, err
}

// loaded: a small request while four uploads fill a 50 Mbit/s uplink.
func (b *bench) loaded() error {
	progress("latency under load")
	p := tunneltest.Path{Delay: 10 * time.Millisecond, Rate: 50 * mbit}
	l, err := b.newLink(p, p)
	defer l.close()
	if err != nil {
		return err
	}
	tunnel, err := load{ask: askUpload, streams: 4, warm: 2 * time.Second, measure: b.length(6 * time.Second), ping: true}.run(l.tunnel, b.far.sunkAt)
	if err != nil {
		return err
	}
	p50, p95 := percentile(tunnel.pings, 50), percentile(tunnel.pings, 95)
	b.out.absolute("ping p50 under 4 uploads, 50 Mbit/s, RTT 20 ms", "loaded_ping_p50_ms", "ms", p50, "<= 70")
	b.out.absolute("ping p95, the same", "loaded_ping_p95_ms", "ms", p95, "<= 1.5 p50")
	b.out.absolute("goodput meanwhile", "loaded_goodput_mbit", "Mbit/s", tunnel.goodput*8/1e6, "")
	return nil
}

// longPath: one stream over a round trip of 100 ms without a rate limit.
func (b *bench) longPath() error {
	progress("long fat path")
	p := tunneltest.Path{Delay: 50 * time.Millisecond}
	l, err := b.newLink(p, p)
	defer l.close()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name, key string
		ask       byte
		goal      string
	}{
		{"download, RTT 100 ms", "long_download_mbit", askDownload, ">= 600"},
		{"upload, RTT 100 ms", "long_upload_mbit", askUpload, ">= 800"},
	} {
		r, err := load{ask: f.ask, streams: 1, warm: 5 * time.Second, measure: b.length(5 * time.Second)}.run(l.tunnel, b.far.sunkAt)
		if err != nil {
			return err
		}
		b.out.absolute(f.name, f.key, "Mbit/s", r.goodput*8/1e6, f.goal)
	}
	return nil
}
