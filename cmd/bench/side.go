package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/proxy"

	"sstproxy/tunnel/tunneltest"
)

// bench is one run of the program.
type bench struct {
	quick  bool
	self   string // this program
	client string // the sstproxy under test
	dir    string // for the CA file
	server *process
	far    farEnd
	sides  atomic.Uint32 // how many there have been
	out    report
}

// side is a way to the far service: a client process, behind a relay if the
// path is not the bare loopback.
type side struct {
	name    string
	number  byte // tells the uploads of the sides apart
	dial    func() (net.Conn, error)
	proxy   string // where the client speaks SOCKS5, if it does
	service string // and what is reached through it
	client  *process
	stats   func() (clientStats, error) // nil if the client tells nothing
	sunk    func() (int64, error)       // octets that uploads have brought to the far end
	relay   *tunneltest.Relay
	up      coming // of the program alone
}

// way says what a side is like.
type way struct {
	client string // raw, plain, sstproxy or stock
	path   tunneltest.Path
	back   bool // its stalls are on the way back alone
	loss   loss // beyond the SSTP server
	light  bool // what is there has no TCP of its own: see responder
}

// account is whom a client logs in as to get what is beyond the server.
func (w way) account() string {
	if w.light {
		return lightUser
	}
	return w.loss.account()
}

// begin starts sides at the same time, all or none.
func (b *bench) begin(ways ...way) ([]*side, error) {
	sides, errs := make([]*side, len(ways)), make([]error, len(ways))
	var wg sync.WaitGroup
	for i, w := range ways {
		wg.Go(func() { sides[i], errs[i] = b.start(w) }) // ends when it serves
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		closeSides(sides)
		return nil, err
	}
	return sides, nil
}

// start starts a side.
func (b *bench) start(w way) (*side, error) {
	s := &side{name: w.client, number: byte(b.sides.Add(1))}
	s.sunk = func() (int64, error) { return b.far.sunk(s.number) }
	target, err := s.through(w, b.far.address(w))
	if err == nil {
		err = b.startClient(s, w, target)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// address is where the client of a side has to connect to.
func (f farEnd) address(w way) string {
	switch {
	case w.client == "raw":
		return f.Raw
	case w.path.Stall != (tunneltest.Stall{}):
		return f.Watched
	}
	return f.SSTP
}

// through puts a relay before target if the path needs one.
func (s *side) through(w way, target string) (address string, err error) {
	if w.path == (tunneltest.Path{}) {
		return target, nil
	}
	up := w.path
	if w.back {
		up.Stall = tunneltest.Stall{}
	}
	if s.relay, err = tunneltest.NewRelay(target, up, w.path); err != nil {
		return "", err
	}
	return s.relay.Addr(), nil
}

func (b *bench) startClient(s *side, w way, target string) (err error) {
	switch w.client {
	case "raw":
		address, err := s.startSelf(b.self, "raw", target, b.caFile())
		s.dial = func() (net.Conn, error) { return net.Dial("tcp", address) }
		return err
	case "plain":
		address, err := s.startSelf(b.self, "plain")
		if err != nil {
			return err
		}
		return s.dialThrough(address, b.far.Light)
	case "stock":
		address, err := s.startSelf(b.self, "stock", target, b.caFile(), w.account())
		if err != nil {
			return err
		}
		return s.dialThrough(address, b.far.Service)
	}
	if err := b.startProgram(s, target, w.account()); err != nil {
		return err
	}
	return s.dialThrough(s.up.proxy, b.far.Service)
}

func (s *side) close() {
	if s.client != nil {
		s.client.stop()
	}
	if s.relay != nil {
		s.relay.Close()
	}
}

// closeSides ends clients at the same time; nil is none.
func closeSides(sides []*side) {
	var wg sync.WaitGroup
	for _, s := range sides {
		if s != nil {
			wg.Go(s.close) // ends with the client
		}
	}
	wg.Wait()
}

// startSelf makes another process of this program the side's client.
func (s *side) startSelf(self string, args ...string) (address string, err error) {
	if s.client, err = start(self, args...); err != nil {
		return "", err
	}
	return address, s.client.ready(&address)
}

func (b *bench) caFile() string { return filepath.Join(b.dir, "ca.pem") }

// dialThrough lets a side dial the service through a proxy.
func (s *side) dialThrough(address, service string) error {
	d, err := proxy.SOCKS5("tcp", address, nil, proxy.Direct)
	if err != nil {
		return err
	}
	s.dial = func() (net.Conn, error) { return d.Dial("tcp", service) }
	s.proxy, s.service = address, service
	return nil
}

// startProgram runs the real program and waits until its proxy listens.
func (b *bench) startProgram(s *side, target, account string) (err error) {
	begun := time.Now()
	s.client, err = startLogging(b.client, []string{"SSTPROXY_PASSWORD=" + benchPassword},
		"connect", target, "-u", account, "--ca", b.caFile(), "--server-name", "localhost",
		"--listen", "socks5://127.0.0.1:0", "--mtu", fmt.Sprint(tunnelMTU), "--log-format", "text")
	if err != nil {
		return err
	}
	s.stats = s.client.clientStats
	s.up, err = watchStart(begun, s.client.lines)
	return err
}

// coming is how the program came up.
type coming struct {
	proxy  string        // where it listens
	first  time.Duration // from the start of the process to its first log line
	ready  time.Duration // and to the proxy
	phases []phase
}

// phase is a step of a connect, as the program logs it.
type phase struct {
	name string
	dur  time.Duration
}

var (
	listening = regexp.MustCompile(`msg="proxy listening" url=socks5h://([0-9.]+:[0-9]+)`)
	phaseDone = regexp.MustCompile(` phases\.([a-z0-9]+)=([^ ]+)`)
)

// watchStart reads the program's log until it serves.
func watchStart(begun time.Time, lines <-chan string) (c coming, err error) {
	var seen []string
	for line := range lines {
		seen = append(seen, line)
		if c.first == 0 {
			c.first = time.Since(begun)
		}
		for _, m := range phaseDone.FindAllStringSubmatch(line, -1) {
			d, err := time.ParseDuration(m[2])
			if err != nil {
				return c, err
			}
			c.phases = append(c.phases, phase{m[1], d})
		}
		if m := listening.FindStringSubmatch(line); m != nil {
			c.proxy, c.ready = m[1], time.Since(begun)
			return c, nil
		}
	}
	return c, errors.New("sstproxy did not come up:\n" + strings.Join(seen, "\n"))
}

func (b *bench) startServer() (err error) {
	if b.server, err = start(b.self, "server"); err != nil {
		return err
	}
	if err := b.server.ready(&b.far); err != nil {
		return err
	}
	return os.WriteFile(b.caFile(), b.far.CA, 0o600)
}
