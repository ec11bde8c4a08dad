package sstp

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// To add a message: its number and name here, the attribute it carries in
// attribute.go, its row in the table of state.go and in that table's test.

// MessageType says what a control packet asks or tells (2.2.2).
type MessageType uint16

// The message types of 2.2.2. The first four set a call up, the next three
// end it, the echoes keep it alive.
const (
	CallConnectRequest MessageType = 0x0001 // client to server: Encapsulated Protocol ID
	CallConnectAck     MessageType = 0x0002 // server to client: Crypto Binding Request
	CallConnectNak     MessageType = 0x0003 // server to client: one or more Status Info
	CallConnected      MessageType = 0x0004 // client to server: Crypto Binding
	CallAbort          MessageType = 0x0005 // both: Status Info, or nothing
	CallDisconnect     MessageType = 0x0006 // both: Status Info, or nothing
	CallDisconnectAck  MessageType = 0x0007 // both: nothing
	EchoRequest        MessageType = 0x0008 // both: nothing
	EchoResponse       MessageType = 0x0009 // both: nothing
)

var messageNames = [...]string{
	CallConnectRequest: "CallConnectRequest",
	CallConnectAck:     "CallConnectAck",
	CallConnectNak:     "CallConnectNak",
	CallConnected:      "CallConnected",
	CallAbort:          "CallAbort",
	CallDisconnect:     "CallDisconnect",
	CallDisconnectAck:  "CallDisconnectAck",
	EchoRequest:        "EchoRequest",
	EchoResponse:       "EchoResponse",
}

// String is the name of the message, or its number in hex.
func (t MessageType) String() string {
	if int(t) < len(messageNames) && messageNames[t] != "" {
		return messageNames[t]
	}
	return fmt.Sprintf("MessageType(0x%04x)", uint16(t))
}

// Message is a control message: a type and attributes in the order of the
// wire (2.2.2). A message without attributes is complete with its type alone.
type Message struct {
	Type       MessageType
	Attributes []Attribute
}

// ParseMessage reads the payload of a control packet. Values are sub-slices of
// payload. Errors wrap [ErrMalformed]; the message returned beside one still
// has its type, if two octets were there, and the attributes before the fault,
// because a call must end even when the reason given for it is malformed.
//
// An unknown type or attribute is no error here. Octets after the last counted
// attribute break the length rule of 2.2.2; they are ignored.
func ParseMessage(payload []byte) (Message, error) {
	var m Message
	if len(payload) >= 2 {
		m.Type = MessageType(binary.BigEndian.Uint16(payload))
	}
	if len(payload) < controlHeaderLen-HeaderLen || len(payload) > MaxPayloadLen {
		return m, fmt.Errorf("sstp: message: length %d, want %d to %d: %w",
			len(payload), controlHeaderLen-HeaderLen, MaxPayloadLen, ErrMalformed)
	}
	count := int(binary.BigEndian.Uint16(payload[2:]))
	rest := payload[4:]
	for i := range count {
		a, n, err := parseAttribute(rest)
		if err != nil {
			return m, fmt.Errorf("sstp: %v: attribute %d of %d: %w", m.Type, i+1, count, err)
		}
		m.Attributes = append(m.Attributes, a)
		rest = rest[n:]
	}
	return m, nil
}

// Append appends the whole packet, header included. A message that does not
// fit in [MaxPacketLen] panics; none that this package builds or parses does
// not fit.
func (m Message) Append(b []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, controlHeaderLen)...)
	for _, a := range m.Attributes {
		b = a.append(b)
	}
	PutHeader(b[at:], true, len(b)-at)
	binary.BigEndian.PutUint16(b[at+4:], uint16(m.Type))
	binary.BigEndian.PutUint16(b[at+6:], uint16(len(m.Attributes)))
	return b
}

// String is the message on one line, for the debug log. It shows what was
// chosen and why something was refused, never a nonce, a hash or a MAC.
func (m Message) String() string {
	var s strings.Builder
	s.WriteString(m.Type.String())
	for _, a := range m.Attributes {
		s.WriteByte(' ')
		s.WriteString(a.String())
	}
	return s.String()
}

// Attribute is the value of the first attribute with that identifier, and
// whether there is one.
func (m Message) Attribute(id AttributeID) (value []byte, ok bool) {
	for _, a := range m.Attributes {
		if a.ID == id {
			return a.Value, true
		}
	}
	return nil, false
}

// count is the number of attributes with that identifier.
func (m Message) count(id AttributeID) int {
	n := 0
	for _, a := range m.Attributes {
		if a.ID == id {
			n++
		}
	}
	return n
}

// StatusInfo is the reason in a Call Abort or Call Disconnect, the first one
// in a Call Connect Nak. It is lenient, because the end of a call must not
// fail over the reason given for it: a value of four octets is the bare status
// and the attribute may have the identifier 0 (both sorz/sstp-server), and
// whatever else is no Status Info counts as none (ok = false), like the bare
// messages of SoftEther. The Value of the result is a sub-slice.
func (m Message) StatusInfo() (s StatusInfo, ok bool) {
	for _, id := range []AttributeID{AttrStatusInfo, AttrNoError} {
		if v, found := m.Attribute(id); found {
			if s, ok = lenientStatusInfo(v); ok {
				return s, true
			}
		}
	}
	return StatusInfo{}, false
}

// statusInfos are all reasons of a Call Connect Nak.
func (m Message) statusInfos() []StatusInfo {
	var infos []StatusInfo
	for _, a := range m.Attributes {
		if a.ID != AttrStatusInfo {
			continue
		}
		if s, ok := lenientStatusInfo(a.Value); ok {
			infos = append(infos, s)
		}
	}
	return infos
}

func lenientStatusInfo(v []byte) (StatusInfo, bool) {
	if len(v) == 4 {
		return StatusInfo{Status: Status(binary.BigEndian.Uint32(v))}, true
	}
	s, err := ParseStatusInfo(v)
	return s, err == nil
}

// callConnectRequestMessage asks for a call that carries PPP, the only
// encapsulated protocol there is (2.2.5, 2.2.9).
func callConnectRequestMessage() Message {
	return Message{CallConnectRequest, []Attribute{{AttrEncapsulatedProtocolID, []byte{0x00, 0x01}}}}
}
