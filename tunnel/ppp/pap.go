package ppp

import "fmt"

// Codes of PAP (RFC 1334 §2.2).
const (
	PAPRequest Code = 1 // Authenticate-Request
	PAPAck     Code = 2 // Authenticate-Ack
	PAPNak     Code = 3 // Authenticate-Nak
)

// ParsePAPRequest parses the data of an Authenticate-Request (RFC 1334
// §2.2.1). Both results are sub-slices of data. The error wraps ErrMalformed.
func ParsePAPRequest(data []byte) (peerID, password []byte, err error) {
	peerID, rest, ok := cutCounted(data)
	if ok {
		password, _, ok = cutCounted(rest)
	}
	if !ok {
		return nil, nil, fmt.Errorf("ppp: pap request: %d octets end inside a field: %w", len(data), ErrMalformed)
	}
	return peerID, password, nil
}

// AppendPAPRequest appends the data of an Authenticate-Request and returns the
// extended slice. Neither string may be longer than 255 octets; the error says
// which one is, and b is returned unchanged.
func AppendPAPRequest(b []byte, peerID, password string) ([]byte, error) {
	if len(peerID) > 255 {
		return b, fmt.Errorf("ppp: pap request: user name of %d octets, at most 255 fit", len(peerID))
	}
	if len(password) > 255 {
		return b, fmt.Errorf("ppp: pap request: password of %d octets, at most 255 fit", len(password))
	}
	b = append(append(b, byte(len(peerID))), peerID...)
	return append(append(b, byte(len(password))), password...), nil
}

// ParsePAPMessage returns the text of an Authenticate-Ack or -Nak (RFC 1334
// §2.2.2), a sub-slice of data. It never fails, because the text decides
// nothing: some servers leave out even the length octet, and a length that
// promises too much yields what is there.
func ParsePAPMessage(data []byte) []byte {
	if len(data) == 0 {
		return nil
	}
	return data[1:min(len(data), 1+int(data[0]))]
}

// AppendPAPMessage appends the data of an Authenticate-Ack or -Nak and returns
// the extended slice. Only the first 255 octets of text are used.
func AppendPAPMessage(b []byte, text string) []byte {
	text = text[:min(len(text), 255)]
	return append(append(b, byte(len(text))), text...)
}

// cutCounted takes a field that starts with an octet holding its length.
func cutCounted(b []byte) (field, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n:n], b[n:], true
}
