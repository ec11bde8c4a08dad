package ppp

import (
	"encoding/binary"
	"fmt"
)

// Method is a way to prove the user's identity to the peer. The zero value
// means none.
type Method uint8

// The methods this package speaks, strongest first.
const (
	MSCHAPv2 Method = 1 + iota // RFC 2759; mutual, yields keys for the crypto binding
	CHAPMD5                    // RFC 1994; no keys, the peer proves nothing
	PAP                        // RFC 1334; gives the peer the password itself
)

var methodNames = [...]string{0: "none", MSCHAPv2: "MS-CHAPv2", CHAPMD5: "CHAP-MD5", PAP: "PAP"}

// String is the method's usual name.
func (m Method) String() string {
	if int(m) < len(methodNames) {
		return methodNames[m]
	}
	return fmt.Sprintf("method %d", uint8(m))
}

// Algorithms in the Authentication-Protocol option of CHAP.
const (
	algorithmMD5      = 0x05 // RFC 1994 §3
	algorithmMSCHAPv1 = 0x80 // RFC 2433 §3
	algorithmMSCHAPv2 = 0x81 // RFC 2759 §3
)

// Option is the Authentication-Protocol option that stands for the method
// (RFC 1661 §6.2). It is meaningful for the three methods above only.
func (m Method) Option() Option {
	var data []byte
	switch m {
	case MSCHAPv2:
		data = []byte{0xC2, 0x23, algorithmMSCHAPv2}
	case CHAPMD5:
		data = []byte{0xC2, 0x23, algorithmMD5}
	case PAP:
		data = []byte{0xC0, 0x23}
	}
	return Option{Type: LCPAuthProtocol, Data: data}
}

// MethodOf tells which method an Authentication-Protocol option names; ok is
// false for those this package does not speak.
func MethodOf(o Option) (m Method, ok bool) {
	for _, m := range []Method{MSCHAPv2, CHAPMD5, PAP} {
		if o.Equal(m.Option()) {
			return m, true
		}
	}
	return 0, false
}

// protocol is the protocol whose packets carry the method.
func (m Method) protocol() Protocol {
	switch m {
	case MSCHAPv2, CHAPMD5:
		return ProtoCHAP
	case PAP:
		return ProtoPAP
	}
	return 0
}

// authName names what an Authentication-Protocol option offers, also when we
// do not speak it.
func authName(o Option) string {
	if m, ok := MethodOf(o); ok {
		return m.String()
	}
	if len(o.Data) < 2 {
		return fmt.Sprintf("malformed option %x", o.Data)
	}
	p, rest := Protocol(binary.BigEndian.Uint16(o.Data)), o.Data[2:]
	switch {
	case p == ProtoEAP:
		return "EAP"
	case p == ProtoCHAP && len(rest) == 1 && rest[0] == algorithmMSCHAPv1:
		return "MS-CHAPv1"
	case p == ProtoCHAP:
		return fmt.Sprintf("CHAP algorithm %x", rest[:min(len(rest), 8)])
	}
	return p.String()
}
