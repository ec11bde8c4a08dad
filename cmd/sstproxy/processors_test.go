package main

import (
	"runtime"
	"testing"
)

func TestUseProcessors(t *testing.T) {
	for _, tt := range []struct{ n, tunnels, want int }{
		{1, 1, 1}, {2, 1, 1}, {3, 1, 1}, {4, 1, 2}, {8, 1, 4}, {64, 1, 4},
		{1, 3, 1}, {2, 3, 2}, {4, 3, 4}, {64, 3, 12},
	} {
		if got := processors(tt.n, tt.tunnels); got != tt.want {
			t.Errorf("processors(%d, %d) = %d, want %d", tt.n, tt.tunnels, got, tt.want)
		}
	}
	before, all := runtime.GOMAXPROCS(0), available
	available = 8
	t.Cleanup(func() { available = all; runtime.GOMAXPROCS(before) })
	for set, want := range map[string]int{"": 4, "3": 7, "0": 4, "x": 4} {
		runtime.GOMAXPROCS(7)
		useProcessors(func(string) (string, bool) { return set, true }, 1)
		if got := runtime.GOMAXPROCS(0); got != want {
			t.Errorf("GOMAXPROCS=%q: %d processors of 8, want %d", set, got, want)
		}
	}
}
