package ndp

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"go/build"
	"net/netip"
	"os"
	"slices"
	"testing"
)

// vectors are a router's advertisement and a solicitation of it, as bytes of
// packets: RFC 4861 §4.1, §4.2, RFC 4862 §5.5.3.
func vectors(t testing.TB) (advertisement, solicitation []byte) {
	t.Helper()
	b, err := os.ReadFile("testdata/ipv6-rs-ra.json")
	if err != nil {
		t.Fatal(err)
	}
	var j struct {
		Out struct {
			RA string `json:"ra_ip_packet"`
			RS string `json:"rs_ip_packet"`
		}
	}
	if err := json.Unmarshal(b, &j); err != nil {
		t.Fatal(err)
	}
	if advertisement, err = hex.DecodeString(j.Out.RA); err != nil {
		t.Fatal(err)
	}
	if solicitation, err = hex.DecodeString(j.Out.RS); err != nil {
		t.Fatal(err)
	}
	return advertisement, solicitation
}

func TestRouterAdvertisement(t *testing.T) {
	vector, solicitation := vectors(t)
	ra, ok := ParseRouterAdvertisement(vector)
	want := []netip.Prefix{netip.MustParsePrefix("fd79::/64")}
	if !ok || !ra.Router || ra.MTU != 1400 || !slices.Equal(ra.Prefixes, want) {
		t.Errorf("got %+v, %v", ra, ok)
	}
	for n := range vector {
		if _, ok := ParseRouterAdvertisement(vector[:n]); ok {
			t.Errorf("prefix of %d octets accepted", n)
		}
	}
	if got := RouterSolicitation([8]byte(solicitation[16:24])); !bytes.Equal(got, solicitation) {
		t.Errorf("solicitation:\ngot  %x\nwant %x", got, solicitation)
	}
	const prefix = 40 + 16 + 0 // the vector's first option
	for name, change := range map[string]func(b []byte){
		"hop limit 254":       func(b []byte) { b[7] = 254 },
		"global source":       func(b []byte) { b[8] = 0xfd },
		"code":                func(b []byte) { b[41] = 1 },
		"option length zero":  func(b []byte) { b[prefix+1] = 0 },
		"option beyond end":   func(b []byte) { b[prefix+1] = 200 },
		"no A flag":           func(b []byte) { b[prefix+3] = 0x80 },
		"prefix length 56":    func(b []byte) { b[prefix+2] = 56 },
		"preferred too long":  func(b []byte) { b[prefix+8] = 0xff },
		"valid zero":          func(b []byte) { clear(b[prefix+4 : prefix+12]) },
		"link-local prefix":   func(b []byte) { b[prefix+16], b[prefix+17] = 0xfe, 0x80 },
		"multicast prefix":    func(b []byte) { b[prefix+16] = 0xff },
		"unspecified prefix":  func(b []byte) { clear(b[prefix+16 : prefix+32]) },
		"other message type":  func(b []byte) { b[40] = 133 },
		"other next header":   func(b []byte) { b[6] = 17 },
		"payload length long": func(b []byte) { b[5]++ },
	} {
		b := bytes.Clone(vector)
		change(b)
		Seal(b)
		if ra, ok := ParseRouterAdvertisement(b); ok && len(ra.Prefixes) != 0 {
			t.Errorf("%s: got %+v", name, ra)
		}
	}
	b := bytes.Clone(vector)
	b[len(b)-1] ^= 1
	if _, ok := ParseRouterAdvertisement(b); ok {
		t.Error("wrong checksum accepted")
	}
}

// TestNeighborSolicitation: what is asked for and by whom, and the answer to it.
func TestNeighborSolicitation(t *testing.T) {
	ours, host := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::1234")
	group, nobody := netip.MustParseAddr("ff02::1:ff00:1"), netip.IPv6Unspecified()
	ask := func(from, to, target netip.Addr, options ...byte) []byte {
		body := append(make([]byte, 8), target.AsSlice()...)
		body[0] = TypeNeighborSolicitation
		return Packet(from, to, append(body, options...))
	}
	for name, packet := range map[string][]byte{
		"to the group": ask(host, group, ours), "to us": ask(host, ours, ours), "from nobody": ask(nobody, group, ours),
		"with an option": ask(host, ours, ours, 14, 1, 0, 0, 0, 0, 0, 0),
	} {
		target, from, ok := ParseNeighborSolicitation(packet)
		if !ok || target != ours || from != host && (from != nobody || name != "from nobody") {
			t.Errorf("%s: got %v, %v, %v", name, target, from, ok)
		}
		for n := range packet {
			if _, _, ok := ParseNeighborSolicitation(packet[:n]); ok {
				t.Errorf("%s: prefix of %d octets accepted", name, n)
			}
		}
	}
	for name, packet := range map[string][]byte{
		"for a group": ask(host, ours, AllNodes), "from a group": ask(group, ours, ours), "from nobody to us": ask(nobody, ours, ours),
		"option of length 0": ask(host, ours, ours, 1, 0, 0, 0, 0, 0, 0, 0), "advertisement": NeighborAdvertisement(ours, host),
	} {
		if _, _, ok := ParseNeighborSolicitation(packet); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	for asker, want := range map[netip.Addr]struct {
		to    netip.Addr
		flags byte
	}{host: {host, 0x60}, nobody: {AllNodes, 0x20}} {
		src, dst, body, ok := Parse(NeighborAdvertisement(ours, asker), TypeNeighborAdvertisement)
		if !ok || src != ours || dst != want.to || body[4] != want.flags || !bytes.Equal(body[8:], ours.AsSlice()) {
			t.Errorf("answer to %v: %v, to %v, % x", asker, ok, dst, body)
		}
	}
}

// TestShortMessage: an ICMPv6 message has eight octets at least.
func TestShortMessage(t *testing.T) {
	_, solicitation := vectors(t)
	for n := range 8 {
		b := bytes.Clone(solicitation[:headerLen+n])
		b[5] = byte(n)
		if n >= 4 {
			Seal(b)
		}
		if _, _, _, ok := Parse(b, TypeRouterSolicitation); ok {
			t.Errorf("%d octets accepted", n)
		}
	}
	if _, _, _, ok := Parse(solicitation, TypeRouterSolicitation); !ok {
		t.Error("a whole one was not")
	}
}

// FuzzParse: whatever a router sends does no harm, and what is taken of it is as
// promised.
func FuzzParse(f *testing.F) {
	advertisement, solicitation := vectors(f)
	f.Add(advertisement)
	f.Add(solicitation)
	f.Add(NeighborAdvertisement(netip.MustParseAddr("fe80::1"), AllNodes))
	f.Fuzz(func(t *testing.T, b []byte) {
		check(t, b)
		if len(b) >= 44 { // again, with the right checksum
			b = bytes.Clone(b)
			b[0], b[4], b[5], b[6], b[7] = 0x60, byte((len(b)-40)>>8), byte(len(b)-40), icmp, 255
			Seal(b)
			check(t, b)
		}
	})
}

func check(t *testing.T, b []byte) {
	t.Helper()
	ra, ok := ParseRouterAdvertisement(b)
	if ok && (ra.MTU < 0 || ra.MTU > maxMTU) {
		t.Errorf("MTU %d", ra.MTU)
	}
	for _, p := range ra.Prefixes {
		if a := p.Addr(); p.Bits() != 64 || p != p.Masked() || !a.Is6() || a.IsLinkLocalUnicast() || a.IsMulticast() {
			t.Errorf("%v is no prefix for an address", p)
		}
	}
	target, from, ok := ParseNeighborSolicitation(b)
	if ok && (!target.Is6() || target.IsMulticast() || from.IsMulticast()) {
		t.Errorf("%v asked for by %v", target, from)
	}
}

// The package is pure: it knows octets.
func TestImports(t *testing.T) {
	p, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"encoding/binary", "net/netip", "sstproxy/netstack/offload"}; !slices.Equal(p.Imports, want) {
		t.Errorf("imports: got %v, want %v", p.Imports, want)
	}
}
