package main

import (
	"math"
	"slices"
	"time"
)

// medians returns the medians of each side's results, with all their pings and
// the sum of what was retransmitted: the goal is that nothing ever is.
func medians(sides [][]result) []result {
	m := make([]result, len(sides))
	for i, rs := range sides {
		of := func(f func(result) float64) float64 {
			v := make([]float64, len(rs))
			for i, r := range rs {
				v[i] = f(r)
			}
			return median(v)
		}
		m[i].goodput = of(func(r result) float64 { return r.goodput })
		m[i].allocs = of(func(r result) float64 { return r.allocs })
		m[i].cpu.client = of(func(r result) float64 { return r.cpu.client })
		m[i].cpu.server = of(func(r result) float64 { return r.cpu.server })
		m[i].cpu.load = of(func(r result) float64 { return r.cpu.load })
		for _, r := range rs {
			m[i].pings = append(m[i].pings, r.pings...)
			m[i].resent += r.resent
		}
	}
	return m
}

// mean returns the average of some values; 0 of none.
func mean(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x
	}
	return sum / float64(max(len(v), 1))
}

// ratioError returns the standard error of mean(b) / mean(a), values of which
// a[i] and b[i] belong together: what both have in common is no error.
func ratioError(a, b []float64) float64 {
	ratio, n := mean(b)/mean(a), float64(len(a))
	var squares float64
	for i := range a {
		off := b[i] - ratio*a[i]
		squares += off * off
	}
	return math.Sqrt(squares/(n-1)/n) / mean(a)
}

// median returns the middle of some values; 0 of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// percentile returns the p-th percentile of durations in milliseconds.
func percentile(d []time.Duration, p int) float64 {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return float64(s[min(len(s)*p/100, len(s)-1)]) / 1e6
}

// millis is a duration in milliseconds.
func millis(d time.Duration) float64 { return float64(d) / 1e6 }
