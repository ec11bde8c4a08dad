package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// heapSlack is by how much the live heap may differ between two times at rest:
// closed connections stay for 10 s, and pools keep what was used last.
const heapSlack = 12 << 20

// judge fails the test for every promise that was not kept.
func (s *soak) judge() {
	s.t.Helper()
	if n := s.load.wrong.Load() + s.site.wrong.Load(); n != 0 {
		s.t.Errorf("%d octets wrong", n)
	}
	for _, r := range s.unpredicted() {
		s.t.Errorf("%s, begun at %.1f s, ended at %.1f s: %v", r.what, r.begun.Sub(s.begun).Seconds(), r.ended.Sub(s.begun).Seconds(), r.err)
	}
	for _, k := range s.struck {
		if d := k.recovered.Sub(k.over); d > hangs {
			s.t.Errorf("%s, %s: back after %v", k.name, k.obstacle, d)
		}
	}
	first, last, end := s.residues[0], s.residues[len(s.residues)-2], s.residues[len(s.residues)-1]
	if last.heap > first.heap+first.heap/4+heapSlack {
		s.t.Errorf("live heap grew from %d to %d octets", first.heap, last.heap)
	}
	if end.goroutines > s.base.goroutines || end.files > s.base.files {
		s.t.Errorf("%d goroutines and %d files left, want %d and %d:\n%s", end.goroutines, end.files, s.base.goroutines, s.base.files, stacks())
	}
	if s.t.Failed() {
		s.t.Logf("to repeat the faults: SOAK_SEED=%d", s.seed)
	}
}

func (s *soak) unpredicted() []reset {
	return slices.DeleteFunc(slices.Clone(s.load.resets), s.tunnel.predicted)
}

// report writes what happened as a table.
func (s *soak) report(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	row := func(name string, values ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, strings.TrimSpace(fmt.Sprintln(values...)))
	}
	l := s.load
	row("seed", s.seed)
	row("length", time.Since(s.begun).Round(time.Second))
	row("octets moved", l.moved.Load())
	row("octets wrong", l.wrong.Load()+s.site.wrong.Load())
	row("transfers whole", l.transfers.Load())
	row("lines on idle connections", l.lines.Load(), "on", l.chats.Load(), "connections")
	row("look-ups answered", s.site.asked.Load())
	row("sessions", s.tunnel.ups, "of them with another address", len(s.tunnel.moves)-1)
	row("reset, the address had changed", len(l.resets)-len(s.unpredicted()))
	row("reset for no reason", len(s.unpredicted()))
	fmt.Fprintln(t)
	s.reportFaults(t)
	fmt.Fprintln(t)
	fmt.Fprintln(t, "held\tgoroutines\tfiles\tlive heap, KiB")
	for i, r := range append([]residue{s.base}, s.residues...) {
		when := "at rest"
		switch i {
		case 0:
			when = "before"
		case len(s.residues):
			when = "after"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\n", when, r.goroutines, r.files, r.heap>>10)
	}
}

// reportFaults writes how long the tunnel was away, until a request was served,
// by fault and by what met the client when it came back.
func (s *soak) reportFaults(w io.Writer) {
	fmt.Fprintln(w, "time to recover, s\t\tfrom the fault\t\t\tfrom its end\t\t")
	fmt.Fprintln(w, "fault\ttimes\tmedian\tp99\tmax\tmedian\tp99\tmax")
	kinds := map[string][]strike{}
	for _, k := range s.struck {
		kinds["all"] = append(kinds["all"], k)
		if k.obstacle == "" || k.obstacle == "other address" {
			kinds[k.name] = append(kinds[k.name], k)
		}
		if k.obstacle != "" {
			kinds["then "+k.obstacle] = append(kinds["then "+k.obstacle], k)
		}
	}
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		var whole, after []time.Duration
		for _, k := range kinds[name] {
			whole, after = append(whole, k.recovered.Sub(k.at)), append(after, k.recovered.Sub(k.over))
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", name, len(whole), quantiles(whole), quantiles(after))
	}
}

// stacks are those of all goroutines.
func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

func quantiles(list []time.Duration) string {
	slices.Sort(list)
	at := func(q float64) float64 { return list[int(q*float64(len(list)-1)+0.5)].Seconds() }
	return fmt.Sprintf("%.3f\t%.3f\t%.3f", at(0.5), at(0.99), at(1))
}
