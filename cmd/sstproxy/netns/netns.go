package netns

import (
	"errors"
	"fmt"
	"net/netip"

	"sstproxy/netstack/ndp"
	"sstproxy/netstack/offload"
)

// Config says what the packets of a [Space] look like to the caller.
type Config struct {
	// Headroom is how many octets Fill leaves before each IP packet, and
	// PutHeader, if set, writes them: it is called with each frame.
	Headroom  int
	PutHeader func(frame []byte)

	// Hosts are addresses of names that go before those in /etc/hosts.
	Hosts map[string][]netip.Addr

	noTUN bool // for tests: a veth pair where a TUN device would do
}

// Link is what a tunnel negotiated.
type Link struct {
	// Addrs are our IPv4 and IPv6 addresses; all of IPv4 is behind the link, and
	// so is all of IPv6 if it has an address here that is not link-local.
	Addrs []netip.Addr
	// InterfaceID is what IPV6CP agreed on (RFC 5072 §4.1). From it come the
	// address fe80::id and, when a router advertises prefixes, prefix::id.
	// Zero: no IPv6 but that of Addrs.
	InterfaceID [8]byte
	// MTU is the largest IP packet in octets; 0 means 1500. Below 1280 there is
	// no IPv6 (RFC 8200 §5).
	MTU int
	// DNS are the name servers for /etc/resolv.conf, the preferred one first, and
	// Search the domains that names without a dot are completed by.
	DNS    []netip.Addr
	Search []string
}

// ForbiddenError means that this user may have no namespaces here.
type ForbiddenError struct {
	Setting string // what forbids it, with its value: "user.max_user_namespaces is 0"
	Remedy  string // what would allow it
	Err     error  // what the kernel said
}

func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("netns: namespaces are forbidden, %s: %v", e.Setting, e.Err)
}

func (e *ForbiddenError) Unwrap() error { return e.Err }

// ErrCommand means that the command itself could not be started; what it wraps
// is the reason.
var ErrCommand = errors.New("netns: command not started")

const (
	defaultMTU = 1500 // PPP's (RFC 1661 §6.1)
	minMTU     = 68   // RFC 791 §3.2
	minMTU6    = 1280 // RFC 8200 §5
)

// normalized checks l and fills in defaults.
func (l Link) normalized() (Link, error) {
	if l.MTU == 0 {
		l.MTU = defaultMTU
	}
	if l.MTU < minMTU || l.MTU > offload.MaxPacket {
		return l, fmt.Errorf("netns: mtu %d is not in %d..%d", l.MTU, minMTU, offload.MaxPacket)
	}
	for _, a := range l.Addrs {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
			return l, fmt.Errorf("netns: %v is not an address for an interface", a)
		}
	}
	if len(l.Addrs) == 0 && l.InterfaceID == [8]byte{} {
		return l, errors.New("netns: link has no address")
	}
	return l, nil
}

// wanted are the addresses that the device should have.
func (l Link) wanted(learned []netip.Addr) []netip.Addr {
	var want []netip.Addr
	for _, a := range l.Addrs {
		if a = a.Unmap().WithZone(""); a.Is4() || l.MTU >= minMTU6 {
			want = append(want, a)
		}
	}
	if l.MTU >= minMTU6 && l.InterfaceID != [8]byte{} {
		want = append(want, ndp.WithID(ndp.LinkLocal, l.InterfaceID))
		want = append(want, learned...)
	}
	return want
}
