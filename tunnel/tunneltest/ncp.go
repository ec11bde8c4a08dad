package tunneltest

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// startNCPs begins the network protocols that do not wait for the client.
func (c *Conn) startNCPs() {
	for _, n := range c.link.ncps {
		network := n.proto == ppp.ProtoIPCP || n.proto == ppp.ProtoIPV6CP
		if !network || !c.quirks.NCP.Passive {
			n.start()
		}
	}
}

// ipcpRules are the options of IPCP (RFC 1332 §3, RFC 1877).
type ipcpRules struct {
	conn  *Conn
	extra []ppp.Option
	noOwn bool // the client has refused our address option
}

func newIPCPRules(c *Conn) *ipcpRules {
	r := &ipcpRules{conn: c}
	if c.quirks.NCP.OffersVJ {
		// 002d, 15 slots, slot compression (RFC 1332 §4)
		r.extra = []ppp.Option{{Type: ppp.IPCPCompression, Data: []byte{0x00, 0x2D, 0x0F, 0x01}}}
	}
	return r
}

func (r *ipcpRules) request() []ppp.Option {
	opts := slices.Clone(r.extra)
	if !r.noOwn {
		opts = append(opts, ppp.Option{Type: ppp.IPCPAddress, Data: r.conn.pool.gateway.AsSlice()})
	}
	return opts
}

func (r *ipcpRules) refused(_ ppp.Code, opts []ppp.Option) {
	for _, o := range opts {
		if o.Type == ppp.IPCPAddress {
			r.noOwn = true
		}
		r.extra = slices.DeleteFunc(r.extra, func(e ppp.Option) bool { return e.Type == o.Type })
	}
}

func (r *ipcpRules) judge(opts []ppp.Option) (naks, rejects []ppp.Option) {
	given := r.values()
	for _, o := range opts {
		want, known := given[o.Type]
		switch {
		case !known || len(o.Data) != 4:
			rejects = append(rejects, o)
		case o.Type == ppp.IPCPAddress && r.choose(netip.AddrFrom4([4]byte(o.Data))):
		case netip.AddrFrom4([4]byte(o.Data)) != want:
			naks = append(naks, ppp.Option{Type: o.Type, Data: want.AsSlice()})
		}
	}
	if r.conn.quirks.NCP.NaksExtra && len(naks) > 0 {
		naks = append(naks, r.extraNaks(opts, given)...)
	}
	return naks, rejects
}

// values are the options we can give, with their values.
func (r *ipcpRules) values() map[uint8]netip.Addr {
	given := make(map[uint8]netip.Addr)
	q, cfg := &r.conn.quirks.NCP, &r.conn.server.cfg
	if !q.RejectsAddress {
		given[ppp.IPCPAddress] = r.address()
	}
	for i, addr := range cfg.DNS {
		given[[]uint8{ppp.IPCPPrimaryDNS, ppp.IPCPSecondaryDNS}[i]] = addr
	}
	for i, addr := range q.NBNS[:min(2, len(q.NBNS))] {
		given[[]uint8{ppp.IPCPPrimaryNBNS, ppp.IPCPSecondaryNBNS}[i]] = addr
	}
	return given
}

// address is the client's: lent from the pool on first use, 0.0.0.0 if there
// is none.
func (r *ipcpRules) address() netip.Addr {
	l := &r.conn.link
	if r.conn.quirks.NCP.NoAddress {
		return netip.IPv4Unspecified()
	}
	if !l.lease.IsValid() {
		addr, err := r.conn.borrow()
		if err != nil {
			return netip.IPv4Unspecified()
		}
		l.lease = addr
	}
	return l.lease
}

// borrow takes an address from the pool.
func (c *Conn) borrow() (netip.Addr, error) {
	if c.server.cfg.Sticky {
		return c.pool.lendTo(c.link.auth.user)
	}
	return c.pool.lend()
}

func (c *Conn) changeAddress() {
	addr, err := c.pool.lend()
	if err != nil || !c.ncpOpen(ppp.ProtoIPCP) {
		return
	}
	c.pool.release(c.link.lease)
	c.link.lease = addr
	c.ncp(ppp.ProtoIPCP).restart()
}

// choose lets the client have the address it asks for, if it may and can.
func (r *ipcpRules) choose(addr netip.Addr) bool {
	l, pool := &r.conn.link, r.conn.pool
	if !r.conn.quirks.NCP.AcceptsStatic || addr == l.lease || !pool.claim(addr) {
		return false
	}
	pool.release(l.lease)
	l.lease = addr
	return true
}

func (r *ipcpRules) extraNaks(opts []ppp.Option, given map[uint8]netip.Addr) []ppp.Option {
	var extra []ppp.Option
	for _, t := range []uint8{ppp.IPCPPrimaryDNS, ppp.IPCPSecondaryDNS} {
		asked := slices.ContainsFunc(opts, func(o ppp.Option) bool { return o.Type == t })
		if addr, ok := given[t]; ok && !asked {
			extra = append(extra, ppp.Option{Type: t, Data: addr.AsSlice()})
		}
	}
	return extra
}

func (r *ipcpRules) opened() {
	c := r.conn
	c.setInfo(func(i *Info) { i.Addr = c.link.lease })
	c.pool.remember(c.link.auth.user, c.link.lease)
	c.record(EventIPCPOpened, c.link.lease.String())
	c.openData()
}

func (r *ipcpRules) closed() { r.conn.data.close() }

// ipv6cpRules are the options of IPV6CP (RFC 5072 §4).
type ipv6cpRules struct {
	conn  *Conn
	id    [8]byte // ours
	peer  [8]byte // the client's
	naked bool    // Quirks.NCP.NaksIdentifier is done
}

func newIPV6CPRules(c *Conn) *ipv6cpRules {
	r := &ipv6cpRules{conn: c}
	if !c.quirks.NCP.ZeroIdentifier {
		r.id = randomIdentifier()
	}
	return r
}

// randomIdentifier is one with the universal bit cleared (RFC 5072 §4.1).
func randomIdentifier() (id [8]byte) {
	rand.Read(id[:])
	id[0] &^= 0x02
	id[7] |= 1
	return id
}

func (r *ipv6cpRules) request() []ppp.Option {
	return []ppp.Option{{Type: ppp.IPV6CPInterfaceID, Data: bytes.Clone(r.id[:])}}
}

func (r *ipv6cpRules) refused(code ppp.Code, opts []ppp.Option) {
	for _, o := range opts {
		if code == ppp.ConfigureNak && o.Type == ppp.IPV6CPInterfaceID && len(o.Data) == 8 {
			r.id = [8]byte(o.Data)
		}
	}
}

func (r *ipv6cpRules) judge(opts []ppp.Option) (naks, rejects []ppp.Option) {
	for _, o := range opts {
		switch {
		case o.Type != ppp.IPV6CPInterfaceID || len(o.Data) != 8:
			rejects = append(rejects, o)
		case r.wants([8]byte(o.Data)):
			r.peer = [8]byte(o.Data)
		default:
			id := randomIdentifier()
			naks = append(naks, ppp.Option{Type: o.Type, Data: id[:]})
		}
	}
	return naks, rejects
}

// wants follows the table of RFC 5072 §4.1.
func (r *ipv6cpRules) wants(id [8]byte) bool {
	if r.conn.quirks.NCP.NaksIdentifier && !r.naked {
		r.naked = true
		return false
	}
	return id != [8]byte{} && id != r.id
}

func (r *ipv6cpRules) opened() {
	r.conn.setInfo(func(i *Info) { i.InterfaceID = r.peer })
	r.conn.record(EventIPV6CPOpened, hex.EncodeToString(r.peer[:]))
	r.conn.openData()
}

func (r *ipv6cpRules) closed() { r.conn.data.open6.Store(false) }

// otherRules begin a protocol that leads nowhere; everything the client wants
// in it is rejected.
type otherRules struct{ opts []ppp.Option }

func (r *otherRules) request() []ppp.Option { return r.opts }

func (r *otherRules) judge(opts []ppp.Option) (naks, rejects []ppp.Option) { return nil, opts }

func (r *otherRules) refused(_ ppp.Code, opts []ppp.Option) {
	r.opts = slices.DeleteFunc(slices.Clone(r.opts), func(o ppp.Option) bool {
		return len(sameTypes([]ppp.Option{o}, opts)) > 0
	})
}

func (r *otherRules) opened() {}
func (r *otherRules) closed() {}

// openData lets IP packets pass once the call is connected and IPCP open, or
// IPV6CP where there is no IPCP.
func (c *Conn) openData() {
	v4, v6 := c.ncpOpen(ppp.ProtoIPCP), c.ncpOpen(ppp.ProtoIPV6CP)
	if c.call.state != connected || !v4 && !(v6 && c.quirks.NCP.NoIPCP) {
		return
	}
	if c.data.network.Load() == nil {
		var n Network
		if attach := c.server.cfg.Attach; attach != nil {
			i := c.Info()
			n = attach(Client{
				Conn: c, User: i.User, Addr: i.Addr, Gateway: c.pool.gateway, MTU: i.MTU,
			})
		}
		c.data.network.Store(&n)
	}
	c.data.open4.Store(v4)
	c.data.open6.Store(v6)
	c.out.signal()
	if d := c.quirks.Wire.Beacon; d > 0 {
		c.after(alarmBeacon, d, c.sendBeacon)
	}
}

// sendBeacon broadcasts a UDP datagram to port 7 of the tunnel's network, and
// the next one an interval later.
func (c *Conn) sendBeacon() {
	payload := "tunneltest beacon"
	pool := c.pool
	b := make([]byte, 28, 28+len(payload))
	b[0], b[8], b[9] = 0x45, 128, 17
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(payload)))
	copy(b[12:], pool.gateway.AsSlice())
	copy(b[16:], broadcast(pool.prefix).AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20]))
	binary.BigEndian.PutUint16(b[20:], 7)
	binary.BigEndian.PutUint16(b[22:], 7)
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload))) // checksum 0: none (RFC 768)
	if c.data.open4.Load() {
		c.emit("IPv4", sstp.AppendData(nil, ppp.AppendFrame(nil, ppp.ProtoIPv4, append(b, payload...))))
	}
	c.after(alarmBeacon, c.quirks.Wire.Beacon, c.sendBeacon)
}

// broadcast is the last address of a prefix.
func broadcast(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	host := uint32(1)<<(32-p.Bits()) - 1
	return netip.AddrFrom4([4]byte(uint32Data(binary.BigEndian.Uint32(a[:]) | host)))
}

// checksum is the Internet checksum of RFC 1071 over an even number of octets.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xFFFF {
		sum = sum>>16 + sum&0xFFFF
	}
	return ^uint16(sum)
}
