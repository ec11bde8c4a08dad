package main

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"sstproxy/netstack"
	"sstproxy/tunnel"
)

// ipv6Grace is how long the stack keeps the IPv6 addresses of the session
// before, until the new one has negotiated its own: IPV6CP comes after IPCP.
const ipv6Grace = 10 * time.Second

// joint joins the sessions of a tunnel, one after the other, to its stack, or to
// the network of a command. Its methods may be called concurrently.
type joint struct {
	stack *netstack.Stack
	space *isolation // nil: none
	log   *slog.Logger
	dns   []netip.Addr // name servers instead of the session's, if any

	mu      sync.Mutex
	session int         // number of the one that is up; what is said of others comes too late
	id      [8]byte     // interface identifier of the stack's IPv6 addresses
	grace   *time.Timer // ends what id has from the session before; nil if nothing
}

// up is a [tunnel.KeeperConfig]'s Up.
func (j *joint) up(info tunnel.Info) (tunnel.Packets, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leave()
	session := j.session
	packets := tunnel.Packets{
		Deliver: j.stack.Deliver, Ready: j.stack.Ready(), Fill: j.stack.Fill,
		Stalled: j.stack.Stalled, Awaits: j.stack.Awaits,
		Changed: func(info tunnel.Info) { j.change(session, info, info.IPv6.InterfaceID) },
	}
	if j.space != nil {
		j.space.divert(&packets)
	}
	return packets, j.begin(info)
}

// begin gives the stack the link of a session that is just up. It wants mu held.
func (j *joint) begin(info tunnel.Info) error {
	if info.IPv6.InterfaceID != [8]byte{} || j.id == [8]byte{} {
		return j.set(info, info.IPv6.InterfaceID)
	}
	if err := j.set(info, j.id); err != nil {
		return err
	}
	session := j.session
	j.grace = time.AfterFunc(ipv6Grace, func() { j.change(session, info, [8]byte{}) })
	return nil
}

// change sets the interface identifier that a session has, or has not.
func (j *joint) change(session int, info tunnel.Info, id [8]byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if session != j.session || j.grace == nil && id == [8]byte{} { // the grace has been ended meanwhile
		return
	}
	if err := j.set(info, id); err != nil {
		j.log.Warn("no IPv6", "err", err)
	}
}

// down is a [tunnel.KeeperConfig]'s Down.
func (j *joint) down() {
	j.stop()
	j.stack.LinkDown()
}

// stop ends the grace; the stack keeps what it has.
func (j *joint) stop() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leave()
}

// leave makes what is said of the session so far come too late. It wants mu held.
func (j *joint) leave() {
	j.session++
	j.endGrace()
}

// endGrace wants mu held.
func (j *joint) endGrace() {
	if j.grace != nil {
		j.grace.Stop()
		j.grace = nil
	}
}

// set gives the stack a link. It wants mu held.
func (j *joint) set(info tunnel.Info, id [8]byte) error {
	j.endGrace()
	j.id = id
	link := j.link(info, id)
	if j.space != nil {
		if err := j.space.set(link); err != nil {
			return err
		}
	}
	return j.stack.SetLink(link)
}

// link is what the stack learns of a session.
func (j *joint) link(info tunnel.Info, id [8]byte) netstack.Link {
	link := netstack.Link{MTU: info.MTU, DNS: info.IPv4.DNS, InterfaceID: id, RTT: info.RTT}
	if len(j.dns) > 0 {
		link.DNS = j.dns
	}
	if addr := info.IPv4.Addr; addr.IsValid() {
		link.Addrs = []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
	}
	return link
}
