package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// workers is how many dial at the same time.
const workers = 64

// spareFiles is what a process needs beside a socket per connection.
const spareFiles = 200

// affordable is how many of n connections the limit on open files allows; the
// program and the load generator have a socket for each.
func affordable(n, limit int) int {
	if limit == 0 {
		return n
	}
	return max(min(n, limit-spareFiles), 1)
}

// scale: idle connections through the proxy.
func (b *bench) scale() error {
	n := b.times(10_000, 2_000)
	if fit := affordable(n, fileLimit()); fit < n {
		progress("the limit of %d open files allows only %d connections instead of %d", fileLimit(), fit, n)
		n = fit
	}
	progress("%d idle connections", n)
	s, err := b.start(way{client: "sstproxy"})
	if err != nil {
		return err
	}
	defer s.close()
	<-time.After(time.Second)
	idle := s.client.rss()
	conns, err := s.hold(n)
	defer closeConns(conns)
	if err != nil {
		return err
	}
	<-time.After(2 * time.Second) // until what the burst needed has been given back
	// That is done once more 11.5 s after the burst, and is not idleness.
	watch := b.length(8*time.Second, 2*time.Second)
	cpu := s.client.cpu()
	<-time.After(watch)
	cpu = s.client.cpu() - cpu
	open := s.client.rss()
	name := fmt.Sprintf("%d idle connections", n)
	b.out.absolute("resident memory, no connection", "idle_rss_mib", "MiB", idle/1024, "<= 15")
	b.out.absolute(name+", resident memory", "rss_per_conn_kib", "KiB each", (open-idle)/float64(n), "<= 25")
	b.out.absolute("  CPU", "idle_cpu_percent", "%", 100*cpu.Seconds()/watch.Seconds(), "0")
	if b.quick {
		return nil
	}
	closeConns(conns)
	<-time.After(15 * time.Second)
	b.out.absolute("  resident memory when they are closed", "rss_after_close_mib", "MiB", s.client.rss()/1024, "")
	return nil
}

func closeConns(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// hold opens n connections on which one octet has come back.
func (s *side) hold(n int) (conns []net.Conn, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var begun atomic.Int64
	for range workers {
		wg.Go(func() { // ends when all are open, or one fails
			for begun.Add(1) <= int64(n) {
				c, e := s.touch()
				mu.Lock()
				if e == nil {
					conns = append(conns, c)
				} else {
					err = e
					begun.Store(int64(n))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return conns, err
}

// touch opens a connection and waits until one octet has come back.
func (s *side) touch() (net.Conn, error) {
	c, err := s.ask(askIdle)
	if err != nil {
		return nil, err
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return c, nil
}

// rate: connections per second, each opened, used for one octet and closed,
// beside a plain SOCKS5 proxy without a tunnel. What is at the far end takes as
// little as can be of the processors that it shares with the proxies. With a whole
// TCP/IP stack there, another row says how much of the rate is the far end's.
func (b *bench) rate() error {
	progress("connections per second")
	sides, err := b.begin(way{client: "plain"}, way{client: "sstproxy", light: true}, way{client: "sstproxy"})
	if err != nil {
		return err
	}
	defer closeSides(sides)
	var m [3]turnover
	for range b.rounds(5) {
		for i, s := range sides {
			err := b.turn(s, &m[i])
			if errors.Is(err, errors.ErrUnsupported) {
				progress("not measured on this system")
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	plain, tunnel, whole := m[0], m[1], m[2]
	b.out.comparePlain("connections through SOCKS5, 64 at a time, a light far end", "conns_per_second", "per second", median(plain.rates), median(tunnel.rates), ">= 5000")
	for i, f := range []struct{ name, key string }{
		{"client", "conn_cpu_us"}, {"server", "conn_cpu_server_us"}, {"load generator", "conn_cpu_load_us"},
	} {
		b.out.comparePlain("  CPU of the "+f.name, f.key, "us each", median(plain.costs[i]), median(tunnel.costs[i]), "")
	}
	b.out.comparePlain("  a whole TCP/IP stack at the far end", "conns_per_second_whole", "per second", median(plain.rates), median(whole.rates), "")
	return nil
}

// turnover is what opening and closing connections has come to, by round.
type turnover struct {
	rates []float64    // per second
	costs [3][]float64 // us of CPU per connection, of client, server and load generator
}

// turn adds a round to a side's turnover.
func (b *bench) turn(s *side, t *turnover) error {
	from := b.spent(s)
	n, took, err := s.churn(b.length(2*time.Second, time.Second), workers)
	if err != nil {
		return err
	}
	rate := float64(n) / took.Seconds()
	t.rates = append(t.rates, rate)
	for i, d := range b.spent(s) {
		t.costs[i] = append(t.costs[i], float64((d-from[i]).Microseconds())/float64(n))
	}
	progress("  %-8s %6.0f per second", s.name, rate)
	return nil
}
