package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// load says what a measurement does.
type load struct {
	ask     byte // askDownload or askUpload
	streams int
	warm    time.Duration // before the measurement
	measure time.Duration
	ping    bool // echo 64 octets on a connection of its own meanwhile
	settle  bool // wait in the end until what buffers hold has arrived
}

// result is what one measurement gave.
type result struct {
	goodput float64 // octets per second
	cpu     costs
	allocs  float64 // heap allocations of the client per inner packet
	resent  float64 // TCP segments the client retransmitted
	pings   []time.Duration
}

// costs are CPU seconds per 10^9 octets of the processes that take part. Load
// is this one, with the relays of slow paths in it.
type costs struct{ client, server, load float64 }

// run puts a load on a side.
func (b *bench) run(s *side, l load) (result, error) {
	var received atomic.Int64
	conns, err := l.open(s)
	closeAll := func() {
		for _, c := range conns {
			c.Close()
		}
	}
	defer closeAll()
	if err != nil {
		return result{}, err
	}
	var wg sync.WaitGroup
	for _, c := range conns[:l.streams] {
		wg.Go(func() { l.move(c, &received) }) // ends when c is closed
	}
	stop, pings := make(chan struct{}), make(chan []time.Duration, 1)
	count := func() (int64, error) { return received.Load(), nil }
	if l.ask == askUpload {
		count = s.sunk
	}
	<-time.After(l.warm)
	if l.ping {
		go func() { pings <- ping(conns[l.streams], stop) }() // ends with stop
	}
	r, err := b.sample(s, l.measure, count)
	close(stop)
	if l.ping {
		r.pings = <-pings
	}
	closeAll()
	wg.Wait()
	if l.settle && l.ask == askUpload && err == nil {
		err = s.settle()
	}
	return r, err
}

// settle waits until nothing of the side's uploads arrives any more: hundreds of
// MiB would take what they need from the next measurement, which is of another.
func (s *side) settle() error {
	last := int64(-1)
	for same := 0; same < 3; {
		n, err := s.sunk()
		if err != nil {
			return err
		}
		if same++; n != last {
			last, same = n, 0
		}
		<-time.After(50 * time.Millisecond)
	}
	return nil
}

// snapshot is what is counted at the ends of a measurement.
type snapshot struct {
	at     time.Time
	octets int64
	cpu    [3]time.Duration
	stats  clientStats
}

func (b *bench) snap(s *side, count func() (int64, error)) (n snapshot, err error) {
	if s.stats != nil {
		n.stats, err = s.stats()
	}
	n.cpu = b.spent(s)
	octets, err2 := count()
	n.at, n.octets = time.Now(), octets
	return n, errors.Join(err, err2)
}

// spent is the CPU time of the client, the server and this process so far.
func (b *bench) spent(s *side) [3]time.Duration {
	return [3]time.Duration{s.client.cpu(), b.server.cpu(), cpuOf(os.Getpid())}
}

// sample takes the figures over a time.
func (b *bench) sample(s *side, d time.Duration, count func() (int64, error)) (result, error) {
	from, err := b.snap(s, count)
	if err != nil {
		return result{}, err
	}
	<-time.After(d)
	to, err := b.snap(s, count)
	return between(from, to), err
}

// between is what happened from one snapshot to another.
func between(from, to snapshot) (r result) {
	octets := float64(to.octets - from.octets)
	per := func(i int) float64 { return (to.cpu[i] - from.cpu[i]).Seconds() / (octets / 1e9) }
	r.goodput = octets / to.at.Sub(from.at).Seconds()
	r.cpu = costs{per(0), per(1), per(2)}
	r.resent = float64(to.stats.Resent - from.stats.Resent)
	if packets := to.stats.packets() - from.stats.packets(); packets > 0 {
		r.allocs = float64(to.stats.Mallocs-from.stats.Mallocs) / float64(packets)
	}
	return r
}

// open dials the streams, and one more connection for the echo.
func (l load) open(s *side) (conns []net.Conn, err error) {
	asks := make([]byte, l.streams, l.streams+1)
	for i := range asks {
		asks[i] = l.ask
	}
	if l.ping {
		asks = append(asks, askEcho)
	}
	for _, what := range asks {
		c, err := s.ask(what)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// ask opens a connection to the far service and says what it is for.
func (s *side) ask(what byte) (net.Conn, error) {
	c, err := s.dial()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	if _, err := c.Write([]byte{what, s.number}); err != nil {
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
