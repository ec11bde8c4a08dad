package ppp

// universalBit in the first octet of an interface identifier says that it is
// globally unique; a random one has it cleared (RFC 5072 §4.1).
const universalBit = 0x02

// minIPv6MTU is the least MTU a link for IPv6 may have (RFC 8200 §5).
const minIPv6MTU = 1280

// ipv6cpOptions negotiates the Interface-Identifier (RFC 5072 §4.1).
type ipv6cpOptions struct {
	rand     func([]byte)
	ours     [8]byte // zero: not drawn yet
	peer     [8]byte // in force
	rejected bool    // the peer refuses the option
}

// newID draws a random identifier that is neither zero nor one of not.
func (o *ipv6cpOptions) newID(not ...[8]byte) (id [8]byte) {
	o.rand(id[:])
	id[0] &^= universalBit
	for clash := true; clash; {
		clash = id == [8]byte{}
		for _, n := range not {
			clash = clash || id == n
		}
		if clash {
			id[7]++
		}
	}
	return id
}

func (o *ipv6cpOptions) request() []Option {
	if o.rejected {
		return nil
	}
	if o.ours == ([8]byte{}) {
		o.ours = o.newID(o.peer)
	}
	return []Option{{IPV6CPInterfaceID, append([]byte(nil), o.ours[:]...)}}
}

// judge follows RFC 5072 §4.1: any identifier but zero and ours is fine, for
// those two the Nak suggests another. Ours is never zero, so the case "both
// zero" does not arise. IPv6 compression and all else is rejected.
func (o *ipv6cpOptions) judge(opts []Option, mayNak bool) (verdict, error) {
	var rejects, naks []Option
	for _, opt := range opts {
		if opt.Type != IPV6CPInterfaceID || len(opt.Data) != 8 {
			rejects = append(rejects, opt)
			continue
		}
		id := [8]byte(opt.Data)
		switch good := id != [8]byte{} && id != o.ours; {
		case good:
		case mayNak:
			other := o.newID(o.ours)
			naks = append(naks, Option{IPV6CPInterfaceID, other[:]})
		default:
			rejects = append(rejects, opt)
		}
	}
	return decide(opts, rejects, naks), nil
}

func (o *ipv6cpOptions) acked(opts []Option) {
	o.peer = [8]byte{}
	for _, opt := range opts {
		if opt.Type == IPV6CPInterfaceID {
			o.peer = [8]byte(opt.Data)
		}
	}
}

// nak takes the identifier the peer suggests, unless it is zero or the peer's
// own, and then draws a new one.
func (o *ipv6cpOptions) nak(opts []Option) error {
	for _, opt := range opts {
		if opt.Type != IPV6CPInterfaceID || len(opt.Data) != 8 {
			continue
		}
		id := [8]byte(opt.Data)
		if id == ([8]byte{}) || id == o.peer {
			id = o.newID(o.peer, o.ours)
		}
		o.ours = id
	}
	return nil
}

func (o *ipv6cpOptions) reject([]Option) error {
	o.rejected = true
	return nil
}
