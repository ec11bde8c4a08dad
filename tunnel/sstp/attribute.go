package sstp

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// To add an attribute: its identifier and name here, a typed view with Parse…
// and Attribute(), and its line in Attribute.String.

// AttributeID says what an attribute is about (2.2.4).
type AttributeID uint8

// The attribute identifiers of 2.2.4. AttrNoError is no attribute; it stands
// in a Status Info that blames none.
const (
	AttrNoError                AttributeID = 0x00
	AttrEncapsulatedProtocolID AttributeID = 0x01
	AttrStatusInfo             AttributeID = 0x02
	AttrCryptoBinding          AttributeID = 0x03
	AttrCryptoBindingRequest   AttributeID = 0x04
)

var attributeNames = [...]string{"NoError", "EncapsulatedProtocolID", "StatusInfo", "CryptoBinding", "CryptoBindingRequest"}

// String is the name of the attribute, or its number in hex.
func (id AttributeID) String() string {
	if int(id) < len(attributeNames) {
		return attributeNames[id]
	}
	return fmt.Sprintf("AttributeID(0x%02x)", uint8(id))
}

const (
	attributeHeaderLen = 4
	nonceLen           = 32
	statusInfoLen      = 8   // without AttribValue
	maxAttribValueLen  = 64  // 2.2.8
	bindingRequestLen  = 36  // 2.2.6
	bindingLen         = 100 // 2.2.7
)

// Attribute is one attribute of a control message: its identifier and the
// octets after its four octets of header (2.2.4).
type Attribute struct {
	ID    AttributeID
	Value []byte
}

func parseAttribute(b []byte) (a Attribute, n int, err error) {
	if len(b) < attributeHeaderLen {
		return Attribute{}, 0, fmt.Errorf("%d octets left, want %d: %w", len(b), attributeHeaderLen, ErrMalformed)
	}
	// The first octet and the upper four bits of the length are reserved and
	// "MUST be ignored on receipt" (2.2.4).
	id := AttributeID(b[1])
	length := int(binary.BigEndian.Uint16(b[2:]) & lengthField)
	if length < attributeHeaderLen || length > len(b) {
		return Attribute{}, 0, fmt.Errorf("%v: length %d, want %d to %d: %w",
			id, length, attributeHeaderLen, len(b), ErrMalformed)
	}
	return Attribute{id, b[attributeHeaderLen:length:length]}, length, nil
}

func (a Attribute) append(b []byte) []byte {
	b = append(b, 0, byte(a.ID))
	b = binary.BigEndian.AppendUint16(b, uint16(attributeHeaderLen+len(a.Value)))
	return append(b, a.Value...)
}

// String is the attribute for the debug log, without nonce, hash and MAC.
func (a Attribute) String() string {
	switch a.ID {
	case AttrStatusInfo:
		if s, ok := lenientStatusInfo(a.Value); ok {
			return fmt.Sprintf("%v{%v}", a.ID, s)
		}
	case AttrCryptoBindingRequest:
		if r, err := ParseCryptoBindingRequest(a.Value); err == nil {
			return fmt.Sprintf("%v{%v}", a.ID, r.Hashes)
		}
	case AttrCryptoBinding:
		if c, err := ParseCryptoBinding(a.Value); err == nil {
			return fmt.Sprintf("%v{%v}", a.ID, c.Hash)
		}
	}
	return fmt.Sprintf("%v{%d octets}", a.ID, len(a.Value))
}

// StatusInfo is why a message was refused or a call ends (2.2.8). The zero
// value is the normal end.
type StatusInfo struct {
	// AttribID is the attribute at fault, or AttrNoError.
	AttribID AttributeID

	// Status says what is wrong.
	Status Status

	// Value is, in a Call Connect Nak, the refused value or its first 64
	// octets; a sub-slice when it was parsed.
	Value []byte
}

// ParseStatusInfo reads the value of a Status Info attribute, at least eight
// octets. Value is a sub-slice of v. Errors wrap [ErrMalformed]. For what real
// servers send use [Message.StatusInfo].
func ParseStatusInfo(v []byte) (StatusInfo, error) {
	if len(v) < statusInfoLen {
		return StatusInfo{}, fmt.Errorf("sstp: status info: length %d, want at least %d: %w",
			len(v), statusInfoLen, ErrMalformed)
	}
	s := StatusInfo{AttribID: AttributeID(v[3]), Status: Status(binary.BigEndian.Uint32(v[4:]))}
	if len(v) > statusInfoLen {
		s.Value = v[statusInfoLen:]
	}
	return s, nil
}

// Attribute is the Status Info for the wire. Of Value it takes the 64 octets
// there is room for (2.2.8).
func (s StatusInfo) Attribute() Attribute {
	v := make([]byte, statusInfoLen, statusInfoLen+maxAttribValueLen)
	v[3] = byte(s.AttribID)
	binary.BigEndian.PutUint32(v[4:], uint32(s.Status))
	return Attribute{AttrStatusInfo, append(v, s.Value[:min(len(s.Value), maxAttribValueLen)]...)}
}

// String is the status, and the attribute at fault if one is named.
func (s StatusInfo) String() string {
	if s.AttribID == AttrNoError {
		return s.Status.String()
	}
	return fmt.Sprintf("%v in %v", s.Status, s.AttribID)
}

// clone is a copy that owns its Value.
func (s StatusInfo) clone() StatusInfo {
	s.Value = slices.Clone(s.Value)
	return s
}

// CryptoBindingRequest is what the server demands in its Call Connect Ack
// (2.2.6).
type CryptoBindingRequest struct {
	// Hashes is the bitmask of hash protocols the server accepts; see
	// [ChooseHash].
	Hashes HashProtocol

	// Nonce goes back to the server in the Crypto Binding.
	Nonce [nonceLen]byte
}

// ParseCryptoBindingRequest reads the value of a Crypto Binding Request. Errors
// wrap [ErrMalformed].
func ParseCryptoBindingRequest(v []byte) (CryptoBindingRequest, error) {
	if len(v) != bindingRequestLen {
		return CryptoBindingRequest{}, fmt.Errorf("sstp: crypto binding request: length %d, want %d: %w",
			len(v), bindingRequestLen, ErrMalformed)
	}
	return CryptoBindingRequest{HashProtocol(v[3]), [nonceLen]byte(v[4:])}, nil
}

// Attribute is the Crypto Binding Request for the wire.
func (r CryptoBindingRequest) Attribute() Attribute {
	v := append(make([]byte, 0, bindingRequestLen), 0, 0, 0, byte(r.Hashes))
	return Attribute{AttrCryptoBindingRequest, append(v, r.Nonce[:]...)}
}

// CryptoBinding proves, in the Call Connected, that the TLS connection and the
// PPP authentication have the same two ends (2.2.7). With SHA-1 the last 12
// octets of CertHash and CompoundMAC are zero.
type CryptoBinding struct {
	// Hash is the one hash protocol used, no bitmask.
	Hash HashProtocol

	// Nonce is that of the Crypto Binding Request.
	Nonce [nonceLen]byte

	// CertHash is [CertificateHash] of the server's certificate.
	CertHash [32]byte

	// CompoundMAC is set by [CryptoBinding.Sign].
	CompoundMAC [32]byte
}

// ParseCryptoBinding reads the value of a Crypto Binding. Errors wrap
// [ErrMalformed].
func ParseCryptoBinding(v []byte) (CryptoBinding, error) {
	if len(v) != bindingLen {
		return CryptoBinding{}, fmt.Errorf("sstp: crypto binding: length %d, want %d: %w",
			len(v), bindingLen, ErrMalformed)
	}
	return CryptoBinding{HashProtocol(v[3]), [nonceLen]byte(v[4:]), [32]byte(v[36:]), [32]byte(v[68:])}, nil
}

// Attribute is the Crypto Binding for the wire.
func (b CryptoBinding) Attribute() Attribute {
	v := append(make([]byte, 0, bindingLen), 0, 0, 0, byte(b.Hash))
	v = append(v, b.Nonce[:]...)
	v = append(v, b.CertHash[:]...)
	return Attribute{AttrCryptoBinding, append(v, b.CompoundMAC[:]...)}
}
