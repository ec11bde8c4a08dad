package netns

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"sstproxy/netstack/offload"
)

// routerPacket is an advertisement with a prefix option of the given flags and
// valid lifetime.
func routerPacket(prefix netip.Addr, bits, flags byte, lifetime uint32) []byte {
	option := make([]byte, 32)
	option[0], option[1], option[2], option[3] = 3, 4, bits, flags
	binary.BigEndian.PutUint32(option[4:], lifetime)
	p := prefix.As16()
	copy(option[16:], p[:])
	mtu := []byte{5, 1, 0, 0, 0, 0, 0x05, 0xDC}
	upper := append([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, mtu...)
	const protoICMPv6 = 58
	b := ipPacket(true, protoICMPv6, append(upper, option...))
	b[7] = 255
	binary.BigEndian.PutUint16(b[42:], ^offload.Sum(b[40:], offload.PseudoHeader(b, protoICMPv6, len(b)-40)))
	return b
}

func TestAdvertised(t *testing.T) {
	prefix := netip.MustParseAddr("fd73::")
	good := routerPacket(prefix, 64, 0xC0, 3600)
	if got := advertised(good); !slices.Equal(got, []netip.Addr{prefix}) {
		t.Errorf("got %v, want %v", got, prefix)
	}
	for n := range good {
		if got := advertised(good[:n]); got != nil {
			t.Errorf("%d of %d octets: got %v", n, len(good), got)
		}
	}
	routed, broken, empty := slices.Clone(good), slices.Clone(good), slices.Clone(good)
	routed[7] = 254 // it passed a router
	broken[70] ^= 1
	empty[40+16+1] = 0 // an option without a length
	for name, b := range map[string][]byte{
		"not autonomous": routerPacket(prefix, 64, 0x80, 3600), "no lifetime": routerPacket(prefix, 64, 0xC0, 0),
		"48 bits": routerPacket(prefix, 48, 0xC0, 3600), "link-local": routerPacket(netip.MustParseAddr("fe80::"), 64, 0xC0, 3600),
		"routed": routed, "wrong checksum": broken, "option of length 0": empty,
	} {
		if got := advertised(b); got != nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// Whatever a router sends does no harm, and what is taken is a prefix.
func FuzzAdvertised(f *testing.F) {
	f.Add(routerPacket(netip.MustParseAddr("fd73::"), 64, 0xC0, 3600))
	f.Add(routerPacket(netip.MustParseAddr("fe80::"), 64, 0xC0, 3600)[:90])
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func() {
			for _, a := range advertised(b) {
				if !a.Is6() || a.IsLinkLocalUnicast() || a.IsMulticast() {
					t.Errorf("%v is no prefix for an address", a)
				}
			}
		}
		check()
		if _, _, whole := offload.UpperLayer(b); whole >= 44 && b[0]>>4 == 6 { // again, with the right checksum
			b = slices.Clone(b[:whole])
			b[6], b[7], b[40], b[42], b[43] = 58, 255, 134, 0, 0
			binary.BigEndian.PutUint16(b[42:], ^offload.Sum(b[40:], offload.PseudoHeader(b, 58, whole-40)))
			check()
		}
	})
}
