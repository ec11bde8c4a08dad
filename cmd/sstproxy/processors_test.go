package main

import (
	"runtime"
	"testing"
)

func TestUseProcessors(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 8: 4, 64: 4} {
		if got := processors(n); got != want {
			t.Errorf("processors(%d) = %d, want %d", n, got, want)
		}
	}
	before := runtime.GOMAXPROCS(4)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	useProcessors(func(string) (string, bool) { return "4", true })
	if got := runtime.GOMAXPROCS(0); got != 4 {
		t.Errorf("with GOMAXPROCS in the environment: %d processors, want 4", got)
	}
	useProcessors(func(string) (string, bool) { return "", false })
	if got := runtime.GOMAXPROCS(0); got != 2 {
		t.Errorf("%d processors of 4, want 2", got)
	}
}
