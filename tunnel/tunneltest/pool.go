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
}

func newPool(prefix netip.Prefix, gateway netip.Addr) *pool {
	return &pool{prefix: prefix.Masked(), gateway: gateway, lent: make(map[netip.Addr]bool)}
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

func (p *pool) release(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lent, a)
}

// usable leaves out what lies outside the prefix and the broadcast address.
func (p *pool) usable(a netip.Addr) bool {
	return p.prefix.Contains(a) && p.prefix.Contains(a.Next())
}
