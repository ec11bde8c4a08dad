package tunneltest

import (
	"errors"
	"net/netip"
	"sync"
)

// errPoolEmpty says that every address of the pool is in use.
var errPoolEmpty = errors.New("tunneltest: address pool is empty")

// pool lends the host addresses of one prefix, lowest first.
type pool struct {
	prefix  netip.Prefix
	gateway netip.Addr

	mu   sync.Mutex
	lent map[netip.Addr]bool
	last map[string]netip.Addr // each user's address of last time
}

func newPool(prefix netip.Prefix, gateway netip.Addr) *pool {
	return &pool{prefix: prefix.Masked(), gateway: gateway, lent: make(map[netip.Addr]bool), last: make(map[string]netip.Addr)}
}

// lend takes the lowest free address.
func (p *pool) lend() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a := p.prefix.Addr().Next(); p.usable(a); a = a.Next() {
		if a != p.gateway && !p.lent[a] {
			p.lent[a] = true
			return a, nil
		}
	}
	return netip.Addr{}, errPoolEmpty
}

// claim takes one particular address if it is in the prefix and free.
func (p *pool) claim(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.usable(a) || a == p.prefix.Addr() || a == p.gateway || p.lent[a] {
		return false
	}
	p.lent[a] = true
	return true
}

// lendTo takes the address that the user had last, if it is free, and another
// one if not.
func (p *pool) lendTo(user string) (netip.Addr, error) {
	p.mu.Lock()
	last, known := p.last[user]
	p.mu.Unlock()
	if known && p.claim(last) {
		return last, nil
	}
	return p.lend()
}

// remember notes which address a user has.
func (p *pool) remember(user string, a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[user] = a
}

func (p *pool) release(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lent, a)
}

// usable leaves out what lies outside the prefix and the broadcast address.
func (p *pool) usable(a netip.Addr) bool {
	return p.prefix.Contains(a) && p.prefix.Contains(a.Next())
}
