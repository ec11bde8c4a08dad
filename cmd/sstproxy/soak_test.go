package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"sstproxy/tunnel"
)

// What uses the tunnel at a time.
const (
	soakTransfers = 50
	soakChats     = 50
)

// TestSoak loses the tunnel in all ways there are while it is used, and checks
// what was promised: no octet is wrong, connections are reset only if the
// address has changed, the tunnel comes back, and nothing is left behind. SOAK
// is how long it takes, by default so short that only the faults that are
// noticed at once have a place; SOAK_SEED repeats the faults of another run.
func TestSoak(t *testing.T) {
	length, brief, seed := 4*time.Second, true, rand.Uint64()
	var err error
	if text := os.Getenv("SOAK"); text != "" {
		brief = false
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SOAK: %v", err)
		}
	}
	if text := os.Getenv("SOAK_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SOAK_SEED: %v", err)
		}
	}
	dead, patient := time.Second, 3*time.Second
	if brief { // nothing is silent, but the machine may be busy with other tests
		dead, patient = 15*time.Second, patience
	}
	s := startSoak(t, seed, dead, patient)
	s.faults, s.obstacles = losses(brief), hindrances(brief)
	s.use()
	s.run(time.Now().Add(length))
	s.end()
	s.report(t.Output())
	s.judge()
}

// soak is a run: site, client, load and what was seen of them.
type soak struct {
	t         *testing.T
	seed      uint64
	random    *rand.Rand // of the faults
	begun     time.Time
	base      residue // before all else
	faults    []fault
	obstacles []obstacle
	site      *soakSite
	tunnel    *observer
	load      *load

	stop, stopLoad func()
	ended          chan error
	users          sync.WaitGroup

	struck   []strike
	residues []residue // at rest, in the run; the last one: after it
}

// strike is a fault that was.
type strike struct {
	name, obstacle string
	at, over       time.Time // over: from then on the tunnel could be had again
	recovered      time.Time // a request was served
}

// startSoak starts server and client, with this keepalive and this time for an
// attempt to connect, and waits for the tunnel.
func startSoak(t *testing.T, seed uint64, keepalive, attempt time.Duration) *soak {
	t.Helper()
	s := &soak{
		t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), begun: time.Now(),
		tunnel: &observer{changed: make(chan struct{})}, ended: make(chan error, 1),
	}
	s.base = baseResidue(t)
	s.site = startSoakSite(t)
	local := localOptions{listen: []string{"127.0.0.1:0"}}
	endpoints, err := local.endpoints()
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := listen(endpoints)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	c := &client{
		keeper: tunnel.KeeperConfig{
			Tunnel: tunnel.Config{
				Server: s.site.address, User: "alice", Password: "wonderland",
				TLS: tunnel.TLSConfig{CA: s.site.server.CA()}, Keepalive: keepalive, Logger: log,
			},
			ConnectTimeout: attempt, GiveUpAfter: never, StableAfter: 1,
		},
		listeners: listeners, wait: 30 * time.Second, view: s.tunnel, log: log,
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	go func() { // ends with stop
		defer closeAll(listeners)
		s.ended <- c.run(ctx)
	}()
	done := make(chan struct{})
	s.stopLoad = sync.OnceFunc(func() { close(done) })
	s.load = newLoad(proxyURLs(t, listeners[0]), done)
	t.Cleanup(func() { s.stopLoad(); s.stop() })
	s.await(1)
	return s
}

func proxyURLs(t *testing.T, l listener) []*url.URL {
	t.Helper()
	var list []*url.URL
	for _, text := range l.urls() {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, u)
	}
	return list
}

// await waits until n sessions have come up in all.
func (s *soak) await(n int) {
	s.t.Helper()
	timeout := time.After(hangs)
	for {
		ups, changed := s.tunnel.sessions()
		if ups >= n {
			return
		}
		select {
		case <-changed:
		case err := <-s.ended:
			s.t.Fatalf("the client ended: %v (seed %d)", err, s.seed)
		case <-timeout:
			s.t.Fatalf("no session after %v (seed %d)", hangs, s.seed)
		}
	}
}

// use sets the load to work.
func (s *soak) use() {
	for i := range soakTransfers {
		r := rand.New(rand.NewPCG(s.seed, uint64(1000+i)))
		s.users.Go(func() { s.load.transferring(r) }) // ends with stopLoad
	}
	for i := range soakChats {
		r := rand.New(rand.NewPCG(s.seed, uint64(2000+i)))
		s.users.Go(func() { s.load.chatting(r) }) // ends with stopLoad
	}
}

// run lets faults happen until the end, and looks at what the program holds
// after the first ones, in the middle and at the end.
func (s *soak) run(until time.Time) {
	warm, middle := min(len(s.faults), 3), time.Now().Add(time.Until(until)/2)
	for n := 0; time.Now().Before(until); n++ {
		pauseFor(nil, time.Duration(200+s.random.IntN(1800))*time.Millisecond)
		s.strike()
		if n == warm || len(s.residues) == 1 && time.Now().After(middle) {
			s.rest()
		}
	}
	s.rest()
}

// strike makes a fault happen and waits until the tunnel can be used again.
func (s *soak) strike() {
	line := s.site.server.Line()
	r := s.random
	f := s.faults[r.IntN(len(s.faults))]
	k := strike{name: f.name}
	var blocked time.Duration
	switch chance := r.IntN(10); {
	case f.holds:
	case chance == 0:
		otherNetwork(s.site, r)
		k.obstacle = "other address"
	case chance < 4:
		o := s.obstacles[r.IntN(len(s.obstacles))]
		blocked = time.Duration(300+r.IntN(2700)) * time.Millisecond
		o.do(line, r, blocked)
		k.obstacle = o.name
	}
	ups, _ := s.tunnel.sessions()
	lasts := f.do(s.site, r)
	k.at = time.Now()
	k.over = k.at.Add(max(lasts, blocked))
	pauseFor(nil, time.Until(k.over))
	line.Script()
	if !f.holds {
		s.await(ups + 1)
	}
	s.load.probe(r)
	k.recovered = time.Now()
	s.struck = append(s.struck, k)
}

// rest waits until nothing is in flight and takes note of what is held then.
func (s *soak) rest() {
	s.load.calm.Lock()
	defer s.load.calm.Unlock()
	s.residues = append(s.residues, takeResidue())
}

// end stops all of it, and waits until what is left is what was there before.
func (s *soak) end() {
	s.t.Helper()
	s.stopLoad()
	s.users.Wait()
	s.load.close()
	s.stop()
	if err := <-s.ended; err != nil {
		s.t.Errorf("the client ended: %v", err)
	}
	s.site.close()
	s.residues = append(s.residues, s.base.await())
}

// observer is the view that keeps what is to be known of the tunnel.
type observer struct {
	mu      sync.Mutex
	ups     int
	addr    netip.Addr
	moves   []time.Time // when the address changed
	changed chan struct{}
}

func (*observer) warn(string)                 {}
func (*observer) begin(tunnel.Config, opened) {}
func (*observer) stopping()                   {}
func (*observer) down()                       {}

func (o *observer) state(s tunnel.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s.Up == o.ups {
		return
	}
	if addr := s.Info.IPv4.Addr; addr != o.addr {
		o.moves, o.addr = append(o.moves, time.Now()), addr
	}
	o.ups = s.Up
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *observer) sessions() (n int, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ups, o.changed
}

// predicted tells whether a connection had to be reset: the address changed
// while it was open. The change is seen by connections before it is told.
func (o *observer) predicted(r reset) bool {
	for _, at := range o.moves {
		if at.After(r.begun) && at.Before(r.ended.Add(2*time.Second)) {
			return true
		}
	}
	return false
}

// residue is what a process holds.
type residue struct {
	goroutines, files int
	heap              uint64 // octets live
}

func takeResidue() residue {
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r := residue{goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc}
	for _, dir := range []string{"/proc/self/fd", "/dev/fd"} {
		if list, err := os.ReadDir(dir); err == nil {
			r.files = len(list) - 1 // that of the directory
			break
		}
	}
	return r
}

// baseResidue is what there is before a test, and with it what the runtime
// makes once and keeps.
func baseResidue(t *testing.T) residue {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	signal.Stop(signals)
	return takeResidue()
}

// await waits until no more is held than there was, and returns what is.
func (base residue) await() residue {
	deadline := time.Now().Add(patience)
	for {
		now := takeResidue()
		if now.goroutines <= base.goroutines && now.files <= base.files || time.Now().After(deadline) {
			return now
		}
		pauseFor(nil, 50*time.Millisecond)
	}
}
