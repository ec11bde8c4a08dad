package main

import "time"

// connect: how long the program takes to come up, phase by phase as it logs
// them, against a server that answers at once. The server's own work is in it.
func (b *bench) connect() error {
	progress("connect")
	var starts []coming
	for range b.times(25, 5) {
		s, err := b.start(way{client: "sstproxy"})
		if err != nil {
			return err
		}
		s.close()
		starts = append(starts, s.up)
	}
	of := func(f func(coming) time.Duration) float64 {
		v := make([]float64, len(starts))
		for i, c := range starts {
			v[i] = millis(f(c))
		}
		return median(v)
	}
	b.out.absolute("start of the process to its first line", "startup_ms", "ms", of(func(c coming) time.Duration { return c.first }), "< 150")
	b.out.absolute("connect, all phases", "connect_ms", "ms", of(coming.connect), "<= 30")
	for _, p := range starts[0].phases {
		b.out.absolute("  "+p.name, "connect_"+p.name+"_ms", "ms", of(func(c coming) time.Duration { return c.phase(p.name) }), "")
	}
	b.out.absolute("start of the process to its proxy", "ready_ms", "ms", of(func(c coming) time.Duration { return c.ready }), "")
	return nil
}

// connect is how long all phases took.
func (c coming) connect() (sum time.Duration) {
	for _, p := range c.phases {
		sum += p.dur
	}
	return sum
}

// phase is how long the named one took; 0 if there was none.
func (c coming) phase(name string) time.Duration {
	for _, p := range c.phases {
		if p.name == name {
			return p.dur
		}
	}
	return 0
}
