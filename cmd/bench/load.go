package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// side is one of the two ways to the far service that a figure compares.
type side struct {
	name   string
	dial   func() (net.Conn, error)
	client *process                    // the process whose CPU time counts
	stats  func() (clientStats, error) // nil for raw
}

// load says what a measurement does.
type load struct {
	ask     byte // askDownload or askUpload
	streams int
	warm    time.Duration // before the measurement
	measure time.Duration
	ping    bool // echo 64 octets on a connection of its own meanwhile
}

// result is what one measurement gave.
type result struct {
	goodput float64 // octets per second
	cpu     float64 // CPU seconds of the client process per 10^9 octets
	allocs  float64 // heap allocations of the client per inner packet
	pings   []time.Duration
}

// run puts a load on a side. far returns the octets that uploads have brought
// to the far end so far.
func (l load) run(s side, far func() (int64, error)) (result, error) {
	var r result
	var received atomic.Int64
	conns, err := l.open(s)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	if err != nil {
		return r, err
	}
	var wg sync.WaitGroup
	for _, c := range conns[:l.streams] {
		wg.Go(func() { l.move(c, &received) }) // ends when c is closed
	}
	var pings chan []time.Duration
	stop := make(chan struct{})
	if l.ping {
		pings = make(chan []time.Duration, 1)
		go func() { pings <- ping(conns[l.streams], stop) }() // ends with stop
	}
	count := func() (int64, error) { return received.Load(), nil }
	if l.ask == askUpload {
		count = far
	}
	<-time.After(l.warm)
	if r, err = l.sample(s, count); err != nil {
		return r, err
	}
	close(stop)
	if l.ping {
		r.pings = <-pings
	}
	for _, c := range conns {
		c.Close()
	}
	wg.Wait()
	return r, nil
}

// sample takes the figures over the time of the measurement.
func (l load) sample(s side, count func() (int64, error)) (r result, err error) {
	n0, err0 := count()
	cpu0, t0 := s.client.cpu(), time.Now()
	st0, err1 := s.read()
	<-time.After(l.measure)
	n1, err2 := count()
	cpu1, t1 := s.client.cpu(), time.Now()
	st1, err3 := s.read()
	octets := float64(n1 - n0)
	r.goodput = octets / t1.Sub(t0).Seconds()
	r.cpu = (cpu1 - cpu0).Seconds() / (octets / 1e9)
	if packets := st1.packets() - st0.packets(); packets > 0 {
		r.allocs = float64(st1.Mallocs-st0.Mallocs) / float64(packets)
	}
	return r, errors.Join(err0, err1, err2, err3)
}

func (s side) read() (clientStats, error) {
	if s.stats == nil {
		return clientStats{}, nil
	}
	return s.stats()
}

// open dials the streams, and one more connection for the echo.
func (l load) open(s side) (conns []net.Conn, err error) {
	for range l.streams {
		c, err := ask(s, l.ask)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
	}
	if l.ping {
		c, err := ask(s, askEcho)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// ask opens a connection to the far service and says what it is for.
func ask(s side, what byte) (net.Conn, error) {
	c, err := s.dial()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	if _, err := c.Write([]byte{what}); err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return c, nil
}

// move reads or writes until the connection ends.
func (l load) move(c net.Conn, received *atomic.Int64) {
	b := make([]byte, bulkBuffer)
	for {
		var n int
		var err error
		if l.ask == askDownload {
			n, err = c.Read(b)
			received.Add(int64(n))
		} else {
			_, err = c.Write(b)
		}
		if err != nil {
			return
		}
	}
}

// ping sends 64 octets every 10 ms, one at a time, until stop, and returns how
// long each took to come back.
func ping(c net.Conn, stop <-chan struct{}) (times []time.Duration) {
	b := make([]byte, 64)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return times
		case <-tick.C:
		}
		sent := time.Now()
		if _, err := c.Write(b); err != nil {
			return times
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return times
		}
		times = append(times, time.Since(sent))
	}
}

// percentile returns the p-th percentile of durations in milliseconds.
func percentile(d []time.Duration, p int) float64 {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return float64(s[min(len(s)*p/100, len(s)-1)]) / 1e6
}

// median returns the middle of some values.
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
