package tunneltest

import "fmt"

// Method is an authentication protocol as LCP names it.
type Method uint8

// The methods. EAP and MSCHAP can be offered but not carried out: a client
// that agrees to EAP is asked for its identity and then for EAP-TLS; one that
// agrees to MSCHAP is refused.
const (
	MSCHAPv2 Method = iota + 1
	MSCHAP
	CHAPMD5
	PAP
	EAP
)

// option is the value of LCP option 3 (RFC 1661 §6.2).
func (m Method) option() []byte {
	switch m {
	case MSCHAPv2:
		return []byte{0xC2, 0x23, 0x81}
	case MSCHAP:
		return []byte{0xC2, 0x23, 0x80}
	case CHAPMD5:
		return []byte{0xC2, 0x23, 0x05}
	case PAP:
		return []byte{0xC0, 0x23}
	}
	return []byte{0xC2, 0x27}
}

// String is the method's usual name.
func (m Method) String() string {
	names := [...]string{"none", "MS-CHAPv2", "MS-CHAP", "CHAP-MD5", "PAP", "EAP"}
	if int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("Method(%d)", uint8(m))
}
