package ppp

import (
	"net/netip"
	"slices"
)

// ipcpOptions negotiates the options of IPCP (RFC 1332, RFC 1877).
type ipcpOptions struct {
	want netip.Addr // Config.Addr, if it is IPv4
	// ours are the options we ask for, in the order of the Request; an
	// option the peer rejects leaves the list.
	ours []ipcpValue
	peer netip.Addr // the peer's address, informational
}

// ipcpValue is an option that holds one IPv4 address. Zeros ask the peer for a
// value (RFC 1332 §3.3, RFC 1877 §1.1).
type ipcpValue struct {
	typ  uint8
	addr netip.Addr
}

// newIPCPOptions asks for an address and two DNS servers. NBNS servers are
// never asked for: nothing here would use them.
func newIPCPOptions(want netip.Addr) *ipcpOptions {
	o := &ipcpOptions{want: want.Unmap()}
	if !o.want.Is4() {
		o.want = netip.IPv4Unspecified()
	}
	o.set(IPCPAddress, o.want)
	o.set(IPCPPrimaryDNS, netip.IPv4Unspecified())
	o.set(IPCPSecondaryDNS, netip.IPv4Unspecified())
	return o
}

// set gives an option a value; one that is not in the list is added.
func (o *ipcpOptions) set(typ uint8, addr netip.Addr) {
	for i := range o.ours {
		if o.ours[i].typ == typ {
			o.ours[i].addr = addr
			return
		}
	}
	o.ours = append(o.ours, ipcpValue{typ, addr})
}

func (o *ipcpOptions) get(typ uint8) (netip.Addr, bool) {
	for _, v := range o.ours {
		if v.typ == typ {
			return v.addr, true
		}
	}
	return netip.Addr{}, false
}

func (o *ipcpOptions) request() []Option {
	var opts []Option
	for _, v := range o.ours {
		opts = append(opts, Option{v.typ, v.addr.AsSlice()})
	}
	return opts
}

// judge takes any address of the peer, for it means nothing to us: every route
// leads into the tunnel. All else is rejected: header compression, the old
// address option, and requests for name servers, which we do not have.
func (o *ipcpOptions) judge(opts []Option, _ bool) (verdict, error) {
	var rejects []Option
	for _, opt := range opts {
		if opt.Type != IPCPAddress || len(opt.Data) != 4 {
			rejects = append(rejects, opt)
		}
	}
	return decide(opts, rejects, nil), nil
}

func (o *ipcpOptions) acked(opts []Option) {
	o.peer = netip.Addr{}
	for _, opt := range opts {
		if opt.Type == IPCPAddress {
			o.peer, _ = netip.AddrFromSlice(opt.Data)
		}
	}
}

// nak takes the peer's values. A Nak may bring up options we did not ask for
// (RFC 1661 §5.3): those we know how to use are added. A peer that has only an
// address of no use is not asked on; one that says 0.0.0.0 refuses no more than
// what was asked for.
func (o *ipcpOptions) nak(opts []Option) error {
	for _, opt := range opts {
		switch opt.Type {
		case IPCPAddress, IPCPPrimaryDNS, IPCPSecondaryDNS:
			if addr, ok := netip.AddrFromSlice(opt.Data); ok && addr.Is4() {
				o.set(opt.Type, addr)
			}
		}
	}
	if addr, _ := o.get(IPCPAddress); addr.IsUnspecified() {
		return nil
	}
	return o.unusable()
}

// reject leaves out what the peer rejects. Without the address option there is
// the wanted one, or none.
func (o *ipcpOptions) reject(opts []Option) error {
	for _, opt := range opts {
		o.ours = slices.DeleteFunc(o.ours, func(v ipcpValue) bool { return v.typ == opt.Type })
	}
	if _, asked := o.get(IPCPAddress); asked {
		return nil
	}
	return o.unusable()
}

// unusable says what is wrong with the address as it stands, nil if nothing is.
func (o *ipcpOptions) unusable() error {
	addr, asked := o.get(IPCPAddress)
	switch {
	case o.result().Addr.IsValid():
		return nil
	case !asked:
		return &AddressError{}
	case addr.IsUnspecified():
		return ErrNoAddress
	}
	return &AddressError{Addr: addr}
}

// forInterface tells whether an IPv4 address can be that of an interface which
// packets come to from elsewhere (RFC 6890 2.2.2).
func forInterface(addr netip.Addr) bool {
	first := addr.As4()[0]
	return first != 0 && first != 127 && first < 224
}

// result is what IPCP agreed on. Addr is invalid if there is none: a peer that
// rejects the address option leaves us with the wanted one, if any.
func (o *ipcpOptions) result() IPv4 {
	addr, asked := o.get(IPCPAddress)
	if !asked {
		addr = o.want
	}
	if !forInterface(addr) {
		addr = netip.Addr{}
	}
	v := IPv4{Addr: addr, Peer: o.peer}
	for _, typ := range []uint8{IPCPPrimaryDNS, IPCPSecondaryDNS} {
		if a, ok := o.get(typ); ok && !a.IsUnspecified() && !slices.Contains(v.DNS, a) {
			v.DNS = append(v.DNS, a)
		}
	}
	return v
}
