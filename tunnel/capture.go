package tunnel

import (
	"bytes"
	"encoding/binary"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// record hands the PPP frames of b, which holds whole SSTP packets, to
// Config.Capture.
func (s *Session) record(sent bool, b []byte) {
	var frames [][]byte
	for {
		p, n, err := sstp.ParsePacket(b)
		if n == 0 || err != nil {
			break
		}
		if b = b[n:]; !p.Control {
			frames = append(frames, withoutSecrets(p.Payload))
		}
	}
	if len(frames) > 0 {
		s.capture(sent, frames)
	}
}

// withoutSecrets returns frame, or a copy in which zeros stand for what tells
// the password or lets it be guessed.
func withoutSecrets(frame []byte) []byte {
	proto, _, err := ppp.ParseFrame(frame)
	if err != nil || proto != ppp.ProtoLCP && !authenticates(proto) {
		return frame
	}
	safe := bytes.Clone(frame)
	_, info, _ := ppp.ParseFrame(safe)
	blank(proto, info)
	return safe
}

func authenticates(p ppp.Protocol) bool {
	return p == ppp.ProtoPAP || p == ppp.ProtoCHAP || p == ppp.ProtoEAP
}

// blank clears the secrets in a control packet. Length fields stay, but those
// inside a PAP request.
func blank(proto ppp.Protocol, info []byte) {
	const header = 4 // code, identifier, length (RFC 1661 §5, RFC 1334 §2.2, RFC 1994 §4)
	if len(info) <= header {
		return
	}
	data := info[header:]
	switch code := ppp.Code(info[0]); {
	case proto == ppp.ProtoPAP && code == ppp.PAPRequest:
		clear(data) // name and password
	case proto == ppp.ProtoCHAP && code == ppp.CHAPResponse:
		clear(data[1:min(len(data), 1+int(data[0]))]) // the value; the name stays (RFC 1994 §4.1)
	case proto == ppp.ProtoLCP && code == ppp.ProtocolReject && len(data) > 2:
		// "a copy of the packet which is being rejected" (RFC 1661 §5.7)
		if authenticates(ppp.Protocol(binary.BigEndian.Uint16(data))) {
			clear(data[2:])
		}
	}
}
