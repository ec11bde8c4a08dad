// Command bench measures sstproxy against the yardstick of one plain TLS
// connection in the same run, on loopback, and prints a line "ratio NAME VALUE"
// for each figure and a table. It starts everything it needs: an embedded SSTP
// server with a service in its network, a bare TLS relay to the same service,
// and the real program, each as a process of its own so that CPU time can be
// told apart.
//
// Absolute figures mean nothing beyond the run; compare the ratios.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
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
	case len(args) == 3 && args[0] == "raw":
		ca, err := os.ReadFile(args[2])
		if err != nil {
			return err
		}
		return runRaw(args[1], ca)
	case len(args) < 1:
		return errors.New("usage: bench SSTPROXY [FIGURE]")
	}
	return measure(args[0], args[1:])
}

// measure takes the figures named, or all.
func measure(client string, names []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sstproxy-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{quick: os.Getenv("BENCH") == "quick", self: self, client: client, dir: dir}
	if err := b.startServer(); err != nil {
		return err
	}
	defer b.server.stop()
	for _, f := range []struct {
		name string
		take func() error
	}{
		{"throughput", b.throughput},
		{"stalls", b.stalls},
		{"loaded", b.loaded},
		{"longpath", b.longPath},
	} {
		if len(names) > 0 && !slices.Contains(names, f.name) {
			continue
		}
		if err := f.take(); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	b.out.write(os.Stdout)
	return nil
}
