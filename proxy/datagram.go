package proxy

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// datagram is what a client sends through a UDP association, without its header
// (RFC 1928, section 7). Name and payload point into what was parsed.
type datagram struct {
	addr    netip.Addr // of the destination, in canonical form, if it is no name
	name    []byte     // of the destination, as the client sent it
	port    uint16
	payload []byte
}

// What is wrong with a datagram of a client.
var (
	errShortDatagram = errors.New("proxy: datagram ends within its header")
	errFragment      = errors.New("proxy: datagram is a fragment")
	errAddressType   = errors.New("proxy: datagram has an unknown address type")
)

// maxDatagramHeader is the length of the longest header the proxy sends: RSV,
// FRAG, ATYP, an IPv6 address and a port.
const maxDatagramHeader = 2 + 1 + 1 + 16 + 2

// parseDatagram parses what came from a client. "An implementation that does not
// support fragmentation MUST drop any datagram whose FRAG field is other than
// X'00'." RFC 1928, section 7
func parseDatagram(b []byte) (datagram, error) {
	if len(b) < 4 {
		return datagram{}, errShortDatagram
	}
	if b[2] != 0 {
		return datagram{}, errFragment
	}
	atyp, b := b[3], b[4:]
	var d datagram
	var ok bool
	switch atyp {
	case atypIPv4:
		ok = d.take(&b, 4)
	case atypIPv6:
		ok = d.take(&b, 16)
	case atypName:
		ok = d.takeName(&b)
	default:
		return datagram{}, errAddressType
	}
	if !ok || len(b) < 2 {
		return datagram{}, errShortDatagram
	}
	d.port, d.payload = binary.BigEndian.Uint16(b), b[2:]
	return d, nil
}

// take takes an address of n octets.
func (d *datagram) take(b *[]byte, n int) bool {
	if len(*b) < n {
		return false
	}
	a, ok := netip.AddrFromSlice((*b)[:n])
	d.addr, *b = a.Unmap(), (*b)[n:]
	return ok
}

// takeName takes an octet of length and a name.
func (d *datagram) takeName(b *[]byte) bool {
	if len(*b) == 0 || len(*b) < 1+int((*b)[0]) {
		return false
	}
	n := 1 + int((*b)[0])
	d.name, *b = (*b)[1:n], (*b)[n:]
	return true
}

// appendDatagramHeader appends the header of a datagram to the client. The
// address has no zone and is not IPv4 inside IPv6.
func appendDatagramHeader(b []byte, from netip.AddrPort) []byte {
	return appendAddress(append(b, 0, 0, 0), from)
}
