package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// localError refuses a destination that means this machine or this proxy.
// Nothing of that is behind the tunnel, so asking there could only mislead. It
// is an ErrBlocked. The text says what the destination is.
type localError string

func (e localError) Error() string { return string(e) }
func (e localError) Unwrap() error { return ErrBlocked }

// canonicalHost returns the one form of a destination's host in which it is
// checked and dialled, whichever protocol it came by: an address without a zone
// as netip writes it, IPv4 inside IPv6 as IPv4; a name in ASCII (IDNA2008 as
// profiled by UTS #46), otherwise as it was written. What is neither is an
// error, so that it reaches neither a resolver nor a log. An address with a zone
// is a localError: interfaces are this machine's.
func canonicalHost(host string) (string, error) {
	host, err := asciiHost(host)
	if err != nil {
		return "", err
	}
	if addr, err := netip.ParseAddr(literal(host)); err == nil {
		if addr.Zone() != "" {
			return "", localError("the address names an interface of this machine")
		}
		return addr.Unmap().String(), nil
	}
	return host, checkName(host)
}

// literal removes the dot that may end a name: 127.0.0.1. is an address too.
func literal(host string) string {
	if strings.Contains(host, ":") {
		return host
	}
	return strings.TrimSuffix(host, ".")
}

// asciiHost converts names of other scripts. It leaves ASCII alone, because
// IDNA would refuse the underscores that hosts do have in their names.
func asciiHost(host string) (string, error) {
	if host == "" {
		return "", errors.New("the destination has no host")
	}
	if strings.IndexFunc(host, func(r rune) bool { return r > '~' }) < 0 {
		return host, nil
	}
	if len(host) > utf8.UTFMax*(maxName+1) { // the conversion's time grows with the square
		return "", fmt.Errorf("the destination's name has %d octets", len(host))
	}
	if !utf8.ValidString(host) {
		return "", errors.New("the destination's host is not in UTF-8")
	}
	name, err := idna.Lookup.ToASCII(host)
	if err != nil {
		return "", fmt.Errorf("the destination's host is no valid name: %w", err)
	}
	return name, nil
}

// Limits of a name without its last dot, and of a label (RFC 1035, section
// 2.3.4).
const maxName, maxLabel = 253, 63

// notInName is what can't be part of a host: the forbidden code points of the
// URL standard (url.spec.whatwg.org/#host-miscellaneous), and the quote.
const notInName = "\"#%/:<>?@[\\]^`{|}\x7f"

func checkName(name string) error {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' || strings.IndexByte(notInName, name[i]) >= 0 {
			return fmt.Errorf("the destination's host has %q in it", name[i])
		}
	}
	name = strings.TrimSuffix(name, ".")
	if len(name) > maxName {
		return fmt.Errorf("the destination's name has %d octets, more than %d", len(name), maxName)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > maxLabel {
			return fmt.Errorf("the destination's name has a part of %d octets, want 1 to %d", len(label), maxLabel)
		}
	}
	if isNumber(labels[len(labels)-1]) {
		return errors.New("the destination ends in a number and is no IPv4 address")
	}
	return nil
}

// isNumber reports whether other programs would take a name that ends in this
// label for an address, such as 127.1 or 0x7f000001
// (url.spec.whatwg.org/#ends-in-a-number-checker).
func isNumber(label string) bool {
	if strings.Trim(label, "0123456789") == "" {
		return true
	}
	hex, ok := strings.CutPrefix(strings.ToLower(label), "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

// Destination checks a destination that a user typed, HOST:PORT with an IPv6
// address in brackets, and returns it in the form in which it is dialled. The
// error says what was wrong; it is an [ErrBlocked] if the destination can only
// mean this machine.
func Destination(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", errors.New("want HOST:PORT, an IPv6 address in brackets")
	}
	address, err = joinTarget(host, port)
	if err != nil {
		return "", err
	}
	if host, _, err = net.SplitHostPort(address); err != nil {
		return "", err
	}
	return address, checkHost(host)
}

// checkHost refuses a host, in canonical form, that can't be behind the tunnel.
// The error is a localError.
func checkHost(host string) error {
	addr, err := netip.ParseAddr(host)
	switch {
	case err != nil && isLocalhost(host):
		return localError(host + " is this machine")
	case err != nil:
		return nil // a name
	}
	if err := checkAddr(addr); err != nil {
		return err
	}
	return nil
}

// checkRemote refuses a destination, in canonical form, that can't be meant for
// the tunnel. The error is a localError.
func (s *Server) checkRemote(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		err = checkHost(host)
	}
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return nil // a name
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil && s.listensOn(netip.AddrPortFrom(addr, uint16(n))) {
		return localError(address + " is this proxy")
	}
	return nil
}

// checkAddr refuses addresses of this machine and those of nobody. The address
// is in canonical form. The error is a localError.
func checkAddr(addr netip.Addr) error {
	switch {
	case addr.IsLoopback():
		return localError(addr.String() + " is a loopback address")
	case addr.IsUnspecified() || addr.Is4() && addr.As4()[0] == 0: // RFC 1122, section 3.2.1.3
		return localError(addr.String() + " is no destination")
	}
	return nil
}

// isLocalhost reports whether a name is reserved for the machine that looks it
// up (RFC 6761, section 6.3).
func isLocalhost(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// listensOn reports whether a connection to the address from this machine would
// end at one of the server's listeners.
func (s *Server) listensOn(ap netip.AddrPort) bool {
	for _, l := range s.listenAddrs() {
		if l.Port() != ap.Port() {
			continue
		}
		if l.Addr() == ap.Addr() || l.Addr().IsUnspecified() && ownAddr(ap.Addr()) {
			return true
		}
	}
	return false
}

// listenAddrs returns the addresses of the listeners on TCP.
func (s *Server) listenAddrs() (addrs []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			ap := a.AddrPort()
			addrs = append(addrs, netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()))
		}
	}
	return addrs
}

// ownAddr reports whether an interface of this machine has the address.
func ownAddr(addr netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == addr {
				return true
			}
		}
	}
	return false
}
