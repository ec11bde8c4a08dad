package ppp

import (
	"fmt"
	"strings"
)

// Describe renders a frame as one line for a debug log: protocol, code,
// identifier, and the options or the text. What PAP and CHAP packets carry is
// left out, except the message of a Failure or Nak, and so is the content of IP
// packets. It never fails; octets it cannot read show as such.
func Describe(frame []byte) string {
	p, info, err := ParseFrame(frame)
	if err != nil {
		return fmt.Sprintf("%d octets without a protocol", len(frame))
	}
	if p == ProtoIPv4 || p == ProtoIPv6 {
		return fmt.Sprintf("%v len=%d", p, len(info))
	}
	pkt, err := ParsePacket(info)
	if err != nil {
		return fmt.Sprintf("%v malformed len=%d", p, len(info))
	}
	head := fmt.Sprintf("%v %s id=%d", p, codeName(p, pkt.Code), pkt.Identifier)
	if detail := describeData(p, pkt); detail != "" {
		return head + " " + detail
	}
	return head
}

var authCodeNames = map[Protocol][]string{
	ProtoPAP:  {"Authenticate-Request", "Authenticate-Ack", "Authenticate-Nak"},
	ProtoCHAP: {"Challenge", "Response", "Success", "Failure"},
}

func codeName(p Protocol, c Code) string {
	names, ok := authCodeNames[p]
	switch {
	case !ok:
		return c.String()
	case c >= 1 && int(c) <= len(names):
		return names[c-1]
	}
	return fmt.Sprintf("code %#02x", uint8(c))
}

func describeData(p Protocol, pkt Packet) string {
	switch p {
	case ProtoPAP:
		if pkt.Code == PAPNak {
			return fmt.Sprintf("%q", printable(ParsePAPMessage(pkt.Data)))
		}
	case ProtoCHAP:
		if pkt.Code == CHAPFailure {
			f := ParseFailure(pkt.Data)
			return fmt.Sprintf("E=%d R=%t M=%q", f.Code, f.Retry, printable([]byte(f.Message)))
		}
	case ProtoLCP, ProtoIPCP, ProtoIPV6CP, ProtoCCP:
		return describeControl(pkt)
	}
	return ""
}

func describeControl(pkt Packet) string {
	switch pkt.Code {
	case ConfigureRequest, ConfigureAck, ConfigureNak, ConfigureReject:
		return describeOptions(pkt.Data)
	case TerminateRequest, TerminateAck:
		return fmt.Sprintf("%q", printable(pkt.Data))
	case Identification:
		if len(pkt.Data) >= magicLen {
			return fmt.Sprintf("%q", printable(pkt.Data[magicLen:]))
		}
	case ProtocolReject, CodeReject, TimeRemaining:
		return fmt.Sprintf("%x", pkt.Data[:min(len(pkt.Data), 32)])
	}
	return fmt.Sprintf("len=%d", packetHeaderLen+len(pkt.Data))
}

func describeOptions(data []byte) string {
	opts, err := ParseOptions(data)
	if err != nil {
		return fmt.Sprintf("malformed options %x", data[:min(len(data), 32)])
	}
	var parts []string
	for _, o := range opts {
		parts = append(parts, fmt.Sprintf("<%d %x>", o.Type, o.Data))
	}
	return strings.Join(parts, " ")
}
