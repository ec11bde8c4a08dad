package main

import "testing"

func TestAffordable(t *testing.T) {
	for _, tt := range []struct{ n, limit, want int }{
		{10000, 0, 10000}, {10000, 20000, 10000}, {10000, 4096, 3896}, {10000, 100, 1},
	} {
		if got := affordable(tt.n, tt.limit); got != tt.want {
			t.Errorf("affordable(%d, %d) = %d, want %d", tt.n, tt.limit, got, tt.want)
		}
	}
}
