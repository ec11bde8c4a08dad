package main

import (
	"time"

	"sstproxy/tunnel/tunneltest"
)

// rounds is how often a measurement is taken; the table has the medians, and means for losses.
func (b *bench) rounds(full int) int { return b.times(full, 1) }

// times is how many there are of something.
func (b *bench) times(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

// length is how long a measurement takes.
func (b *bench) length(full, quick time.Duration) time.Duration {
	if b.quick {
		return quick
	}
	return full
}

// interleave measures sides in turn, round by round, and returns their medians.
func (b *bench) interleave(l load, rounds int, sides ...*side) ([]result, error) {
	results := make([][]result, len(sides))
	for range rounds {
		for i, s := range sides {
			r, err := b.run(s, l)
			if err != nil {
				return nil, err
			}
			progress("  %-8s %7.3f Gbit/s  %5.2f CPU s/GB", s.name, r.goodput*gbit, r.cpu.client)
			results[i] = append(results[i], r)
		}
	}
	return medians(results), nil
}

const (
	gbit = 8 / 1e9 // of an octet
	mbit = 8 / 1e6
)

// throughput: one stream and 64, each way, on the bare loopback.
func (b *bench) throughput() error {
	sides, err := b.begin(way{client: "raw"}, way{client: "sstproxy"})
	if err != nil {
		return err
	}
	defer closeSides(sides)
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
		f.load.settle = true
		f.load.warm = b.length(400*time.Millisecond, 200*time.Millisecond)
		f.load.measure = b.length(1200*time.Millisecond, 500*time.Millisecond)
		m, err := b.interleave(f.load, b.times(11, 2), sides...)
		if err != nil {
			return err
		}
		b.out.compare(f.name, f.key+"_vs_raw", "Gbit/s", m[0].goodput*gbit, m[1].goodput*gbit, f.goal)
		b.out.compare("  CPU of the client", "cpu_"+f.key+"_vs_raw", "s/GB", m[0].cpu.client, m[1].cpu.client, f.cpuGoal)
		b.out.compare("  CPU of the server", "cpu_"+f.key+"_server_vs_raw", "s/GB", m[0].cpu.server, m[1].cpu.server, "")
		b.out.compare("  CPU of the load generator", "cpu_"+f.key+"_load_vs_raw", "s/GB", m[0].cpu.load, m[1].cpu.load, "")
		b.out.absolute("  allocations of the client", "allocs_"+f.key, "per packet", m[1].allocs, f.allocGoal)
	}
	return nil
}

// loaded: a small request while four uploads fill a 50 Mbit/s uplink.
func (b *bench) loaded() error {
	progress("latency under load")
	s, err := b.start(way{client: "sstproxy", path: tunneltest.Path{Delay: 10 * time.Millisecond, Rate: 50_000_000}})
	if err != nil {
		return err
	}
	defer s.close()
	l := load{ask: askUpload, streams: 4, warm: 2 * time.Second, measure: b.length(6*time.Second, 3*time.Second), ping: true}
	m, err := b.interleave(l, b.rounds(3), s)
	if err != nil {
		return err
	}
	p50, p95 := percentile(m[0].pings, 50), percentile(m[0].pings, 95)
	b.out.absolute("ping p50 under 4 uploads, 50 Mbit/s, RTT 20 ms", "loaded_ping_p50_ms", "ms", p50, "<= 70")
	b.out.absolute("  p95", "loaded_ping_p95_ms", "ms", p95, "")
	b.out.absolute("  p95 / p50", "loaded_ping_p95_vs_p50", "", p95/p50, "<= 1.5")
	b.out.absolute("  goodput meanwhile", "loaded_goodput_mbit", "Mbit/s", m[0].goodput*mbit, "")
	return nil
}

// longPath: one stream over a round trip of 100 ms without a rate limit.
func (b *bench) longPath() error {
	progress("long fat path")
	s, err := b.start(way{client: "sstproxy", path: tunneltest.Path{Delay: 50 * time.Millisecond}})
	if err != nil {
		return err
	}
	defer s.close()
	for _, f := range []struct {
		name, key string
		ask       byte
		goal      string
	}{
		{"download, 1 stream, RTT 100 ms", "long_download_mbit", askDownload, ">= 600"},
		{"upload, 1 stream, RTT 100 ms", "long_upload_mbit", askUpload, ">= 800"},
	} {
		l := load{
			ask: f.ask, streams: 1, warm: b.length(5*time.Second, 3*time.Second),
			measure: b.length(5*time.Second, time.Second),
		}
		m, err := b.interleave(l, b.rounds(3), s)
		if err != nil {
			return err
		}
		b.out.absolute(f.name, f.key, "Mbit/s", m[0].goodput*mbit, f.goal)
	}
	return nil
}
