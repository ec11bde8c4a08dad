package netns

import (
	"encoding/binary"
	"net/netip"

	"sstproxy/netstack/offload"
)

// advertised returns the prefixes for addresses that a router advertises in an IP
// packet (RFC 4861 §4.2, §4.6.2); nil if it does not. The checks are those of
// §6.1.2.
func advertised(b []byte) (prefixes []netip.Addr) {
	const header, fixed = 40, 16 // of IPv6; of the advertisement
	const protoICMPv6, routerAdvertisement = 58, 134
	if len(b) < header+fixed || b[0]>>4 != 6 || b[6] != protoICMPv6 || b[7] != 255 || b[header] != routerAdvertisement {
		return nil
	}
	whole := header + int(binary.BigEndian.Uint16(b[4:]))
	if whole < header+fixed || whole > len(b) {
		return nil
	}
	if offload.Sum(b[header:whole], offload.PseudoHeader(b, protoICMPv6, whole-header)) != 0xFFFF {
		return nil
	}
	for options := b[header+fixed : whole]; len(options) >= 2; {
		n := int(options[1]) * 8
		if n == 0 || n > len(options) {
			return nil
		}
		if p, ok := prefixOf(options[:n]); ok {
			prefixes = append(prefixes, p)
		}
		options = options[n:]
	}
	return prefixes
}

// prefixOf reads a Prefix Information option with the autonomous flag, and a
// lifetime, of 64 bits: what an interface identifier fits behind (RFC 4862 §5.5.3).
func prefixOf(option []byte) (netip.Addr, bool) {
	const prefixInformation, autonomous = 3, 0x40
	if option[0] != prefixInformation || len(option) != 32 || option[2] != 64 ||
		option[3]&autonomous == 0 || binary.BigEndian.Uint32(option[4:]) == 0 {
		return netip.Addr{}, false
	}
	a := netip.AddrFrom16([16]byte(option[16:32]))
	return a, !a.IsLinkLocalUnicast() && !a.IsMulticast()
}
