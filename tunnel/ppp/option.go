package ppp

import (
	"bytes"
	"fmt"
	"slices"
)

// Option is one configuration option as it is on the wire (RFC 1661 §6):
// a type and the octets after the length. Lists of options keep their order,
// because Configure-Ack and Configure-Reject repeat them verbatim (§5.2, §5.4).
type Option struct {
	Type uint8
	Data []byte
}

// Option types of LCP (RFC 1661 §6, RFC 1570, RFC 1990).
//
// To add one that we ask for: the constant, a field in lcpOptions, its place
// in request, nak and reject. To accept one from the peer: a case in judge.
const (
	LCPMRU             uint8 = 1
	LCPACCM            uint8 = 2
	LCPAuthProtocol    uint8 = 3
	LCPQualityProtocol uint8 = 4
	LCPMagic           uint8 = 5
	LCPPFC             uint8 = 7
	LCPACFC            uint8 = 8
	LCPCallback        uint8 = 13
	LCPMRRU            uint8 = 17
	LCPEndpoint        uint8 = 19
)

// Option types of IPCP (RFC 1332 §3, RFC 1877 §1).
const (
	IPCPAddresses     uint8 = 1
	IPCPCompression   uint8 = 2
	IPCPAddress       uint8 = 3
	IPCPPrimaryDNS    uint8 = 129
	IPCPPrimaryNBNS   uint8 = 130
	IPCPSecondaryDNS  uint8 = 131
	IPCPSecondaryNBNS uint8 = 132
)

// Option types of IPV6CP (RFC 5072 §4, RFC 5172).
const (
	IPV6CPInterfaceID uint8 = 1
	IPV6CPCompression uint8 = 2
)

const optionHeaderLen = 2

// ParseOptions parses the data of a Configure packet. The options' data are
// sub-slices of b. An option whose length is under 2 or runs past the end
// spoils the whole list: the error wraps ErrMalformed.
func ParseOptions(b []byte) ([]Option, error) {
	var opts []Option
	for len(b) > 0 {
		if len(b) < optionHeaderLen {
			return nil, fmt.Errorf("ppp: option: %d octet left: %w", len(b), ErrMalformed)
		}
		n := int(b[1])
		if n < optionHeaderLen || n > len(b) {
			return nil, fmt.Errorf("ppp: option %d: length %d of %d octets: %w", b[0], n, len(b), ErrMalformed)
		}
		opts = append(opts, Option{Type: b[0], Data: b[optionHeaderLen:n:n]})
		b = b[n:]
	}
	return opts, nil
}

// AppendOptions appends the options in their order and returns the extended
// slice. An option's data must not be longer than 253 octets.
func AppendOptions(b []byte, opts []Option) []byte {
	for _, o := range opts {
		b = append(b, o.Type, byte(optionHeaderLen+len(o.Data)))
		b = append(b, o.Data...)
	}
	return b
}

// Equal reports whether both options have the same octets.
func (o Option) Equal(p Option) bool {
	return o.Type == p.Type && bytes.Equal(o.Data, p.Data)
}

// EqualOptions reports whether both lists have the same options in the same
// order.
func EqualOptions(a, b []Option) bool {
	return slices.EqualFunc(a, b, Option.Equal)
}

// cloneOptions copies a list so that it outlives the frame it came in.
func cloneOptions(opts []Option) []Option {
	c := make([]Option, len(opts))
	for i, o := range opts {
		c[i] = Option{Type: o.Type, Data: bytes.Clone(o.Data)}
	}
	return c
}
