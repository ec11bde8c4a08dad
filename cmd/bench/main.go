// Command bench measures sstproxy against the yardstick of one plain TLS
// connection in the same run, on loopback, and prints a line "ratio NAME VALUE"
// for each figure and a table. It starts everything it needs: an embedded SSTP
// server with a service in its network, a bare TLS relay to the same service,
// and the real program, each as a process of its own so that CPU time can be
// told apart.
//
//	bench SSTPROXY [FIGURE ...]
//
// takes the figures named, or all but compare, which needs OpenSSH. What a
// connection costs is beside a plain SOCKS5 proxy without a tunnel. BENCH=quick
// in the environment takes all of them within a minute, from few and short
// measurements.
//
// Absolute figures mean nothing beyond the run; compare the ratios.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the bench itself, or one of the processes it starts.
func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "server":
		return runServer()
	case len(args) == 1 && args[0] == "plain":
		return runPlain()
	case len(args) == 3 && args[0] == "raw":
		ca, err := os.ReadFile(args[2])
		if err != nil {
			return err
		}
		return runRaw(args[1], ca)
	case len(args) == 4 && args[0] == "stock":
		ca, err := os.ReadFile(args[2])
		if err != nil {
			return err
		}
		return runStock(args[1], ca, args[3])
	case len(args) < 1:
		return errors.New("usage: bench SSTPROXY [FIGURE ...]")
	}
	return measure(args[0], args[1:])
}

// figure is a group of measurements that can be asked for by name.
type figure struct {
	name  string
	take  func() error
	extra bool // only when asked for: it needs programs that may not be here
}

func (b *bench) figures() []figure {
	return []figure{
		{name: "connect", take: b.connect},
		{name: "throughput", take: b.throughput},
		{name: "stalls", take: b.stalls},
		{name: "loss", take: b.loss},
		{name: "loaded", take: b.loaded},
		{name: "longpath", take: b.longPath},
		{name: "scale", take: b.scale},
		{name: "rate", take: b.rate},
		{name: "compare", take: b.compare, extra: true},
	}
}

// choose returns the figures named, or all that need nothing else.
func choose(all []figure, names []string) (chosen []figure, err error) {
	var known []string
	for _, f := range all {
		known = append(known, f.name)
		if len(names) == 0 && !f.extra || slices.Contains(names, f.name) {
			chosen = append(chosen, f)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no figure %q; there are: %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// measure takes the figures named, or all.
func measure(client string, names []string) error {
	b := &bench{quick: os.Getenv("BENCH") == "quick", client: client}
	chosen, err := choose(b.figures(), names)
	if err != nil {
		return err
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "sstproxy-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := b.startServer(); err != nil {
		return err
	}
	defer b.server.stop()
	begun := time.Now()
	for _, f := range chosen {
		if err := f.take(); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		progress("%s done after %.0f s", f.name, time.Since(begun).Seconds())
	}
	b.out.write(os.Stdout)
	return nil
}
