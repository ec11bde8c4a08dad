package proxy

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Limits of what one association remembers of names.
const (
	maxNames       = 64       // known or asked for
	maxAsked       = 16       // being looked up
	maxWaiting     = 64 << 10 // octets that wait for an address
	nameLife       = 30 * time.Second
	failedNameLife = 5 * time.Second
)

// Why a datagram to a name is dropped.
var (
	errManyNames   = errors.New("proxy: too many names at once")
	errManyWaiting = errors.New("proxy: too many datagrams wait for a name")
)

// names knows the addresses of the names that a client sends datagrams to. While
// one is looked up, datagrams to it wait and all others go on.
type names struct {
	mu      sync.Mutex
	known   map[string]*name // by the octets the client sent
	asked   int              // of them that are being looked up
	waiting int              // octets
}

// name is one entry of names.
type name struct {
	addr  netip.Addr
	err   error
	until time.Time  // zero while the name is being looked up
	queue []datagram // which waits for that; payloads are our own
}

// cost is what a datagram that waits takes, in octets.
func (d datagram) cost() int { return len(d.payload) + 128 }

// sendToName sends a datagram to a name's address, now or when that is known.
func (a *association) sendToName(ctx context.Context, d datagram) {
	n, err := a.names.find(ctx, a, d)
	switch {
	case err != nil:
		a.drop(printable(string(d.name)), err)
	case n != nil:
		a.send(d.payload, netip.AddrPortFrom(n.addr, d.port))
	}
}

// find returns what is known of a name, nil if the datagram has to wait. The
// error says why it can't be sent.
func (ns *names) find(ctx context.Context, a *association, d datagram) (*name, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	n := ns.known[string(d.name)]
	if n != nil && time.Now().Before(n.until) {
		return n, n.err
	}
	if ns.waiting+d.cost() > maxWaiting {
		return nil, errManyWaiting
	}
	if n == nil || !n.until.IsZero() {
		if ns.asked >= maxAsked {
			return nil, errManyNames
		}
		n = ns.ask(ctx, a, string(d.name))
	}
	ns.waiting += d.cost()
	n.queue = append(n.queue, datagram{port: d.port, payload: bytes.Clone(d.payload)})
	return nil, nil
}

// ask begins to look a name up. The mutex is held.
func (ns *names) ask(ctx context.Context, a *association, host string) *name {
	if ns.known == nil {
		ns.known = map[string]*name{}
	}
	for old, n := range ns.known {
		if len(ns.known) < maxNames {
			break
		}
		if !n.until.IsZero() { // of the others there are maxAsked at most
			delete(ns.known, old)
		}
	}
	n := &name{}
	ns.known[host] = n
	ns.asked++
	a.wg.Go(func() { ns.answer(ctx, a, host, n) }) // ends with ctx
	return n
}

// answer looks a name up and sends what waited for it.
func (ns *names) answer(ctx context.Context, a *association, host string, n *name) {
	addr, err := a.srv.lookup(ctx, "ip", host)
	ns.mu.Lock()
	n.addr, n.err, n.until = addr, err, time.Now().Add(nameLife)
	if err != nil {
		n.until = time.Now().Add(failedNameLife)
	}
	queue := n.queue
	n.queue = nil
	ns.asked--
	for _, d := range queue {
		ns.waiting -= d.cost()
	}
	ns.mu.Unlock()
	for _, d := range queue {
		if err != nil {
			a.drop(printable(host), err)
			continue
		}
		a.send(d.payload, netip.AddrPortFrom(addr, d.port))
	}
}
