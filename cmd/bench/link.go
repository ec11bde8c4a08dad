package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
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
	out    report
}

// link is a path to the server process with both sides on it.
type link struct {
	raw, tunnel side
	relays      []*tunneltest.Relay
	connect     time.Duration // how long the tunnel took to come up
	startup     time.Duration // from the start of the process to the first log line
}

// newLink starts both clients, behind a relay each if the path is not the
// bare loopback.
func (b *bench) newLink(up, down tunneltest.Path, flags ...string) (*link, error) {
	l := &link{}
	rawAddr, err := l.through(b.far.Raw, up, down)
	if err != nil {
		return l, err
	}
	server := b.far.SSTP
	if down.Stall != (tunneltest.Stall{}) {
		server = b.far.Watched
	}
	sstpAddr, err := l.through(server, up, down)
	if err != nil {
		return l, err
	}
	if err := b.startRaw(l, rawAddr); err != nil {
		return l, err
	}
	return l, b.startTunnel(l, sstpAddr, flags)
}

func (l *link) through(target string, up, down tunneltest.Path) (string, error) {
	if up == (tunneltest.Path{}) && down == (tunneltest.Path{}) {
		return target, nil
	}
	r, err := tunneltest.NewRelay(target, up, down)
	if err != nil {
		return "", err
	}
	l.relays = append(l.relays, r)
	return r.Addr(), nil
}

func (l *link) close() {
	l.tunnel.client.stop()
	l.raw.client.stop()
	for _, r := range l.relays {
		r.Close()
	}
}

func (b *bench) startRaw(l *link, target string) (err error) {
	l.raw.name = "raw"
	if l.raw.client, err = start(b.self, nil, "raw", target, b.caFile()); err != nil {
		return err
	}
	var address string
	if err := l.raw.client.ready(&address); err != nil {
		return err
	}
	l.raw.dial = func() (net.Conn, error) { return net.Dial("tcp", address) }
	return nil
}

func (b *bench) caFile() string { return filepath.Join(b.dir, "ca.pem") }

// startTunnel runs the real program and waits until its proxy listens.
func (b *bench) startTunnel(l *link, target string, flags []string) (err error) {
	l.tunnel.name = "sstproxy"
	args := append([]string{"connect", target, "-u", benchUser, "--ca", b.caFile(), "--server-name", "localhost",
		"--listen", "socks5://127.0.0.1:0", "--mtu", fmt.Sprint(tunnelMTU), "--log-format", "text"}, flags...)
	begun := time.Now()
	p, err := startLogging(b.client, []string{"SSTPROXY_PASSWORD=" + benchPassword}, args...)
	l.tunnel.client = p
	if err != nil {
		return err
	}
	var address string
	for line := range p.lines {
		if l.startup == 0 {
			l.startup = time.Since(begun)
		}
		if m := listening.FindStringSubmatch(line); m != nil {
			address = m[1]
			break
		}
	}
	l.connect = time.Since(begun)
	if address == "" {
		return errors.New("sstproxy did not come up:\n" + p.stderr.String())
	}
	socks, err := proxy.SOCKS5("tcp", address, nil, proxy.Direct)
	if err != nil {
		return err
	}
	l.tunnel.dial = func() (net.Conn, error) { return socks.Dial("tcp", b.far.Service) }
	l.tunnel.stats = p.clientStats
	return nil
}

// listening finds the proxy's address in a log line.
var listening = regexp.MustCompile(`url=socks5h://([0-9.]+:[0-9]+)`)

// clientStats is what the program tells of itself in a log line.
type clientStats struct {
	Mallocs uint64 // heap allocations so far
	In, Out uint64 // IP packets so far
	Resent  uint64 // TCP segments retransmitted so far
}

func (s clientStats) packets() uint64 { return s.In + s.Out }

func (b *bench) startServer() (err error) {
	if b.server, err = start(b.self, nil, "server"); err != nil {
		return err
	}
	if err := b.server.ready(&b.far); err != nil {
		return err
	}
	return os.WriteFile(b.caFile(), b.far.CA, 0o600)
}
