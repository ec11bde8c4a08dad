package tunneltest

import (
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// oddSizes are lengths of records that leave no header in one piece.
var oddSizes = [...]int{1, 3, 2, 5, 7, 11, 97, 1, 1021}

// records cuts octets into the TLS records that the quirks ask for.
func (q *WireQuirks) records(octets []byte, write func([]byte) error) error {
	for i := 0; len(octets) > 0; i++ {
		n := len(octets)
		switch {
		case q.SplitRecords:
			n = min(n, oddSizes[i%len(oddSizes)])
		case q.RecordPerPacket:
			n = packetLen(octets)
		}
		if err := write(octets[:n]); err != nil {
			return err
		}
		octets = octets[n:]
	}
	return nil
}

// packetLen is the length of the packet at the start of b, or all of b if
// there is none.
func packetLen(b []byte) int {
	if _, n, err := sstp.ParsePacket(b); err == nil && n > 0 {
		return n
	}
	return len(b)
}

// rewrite gives every packet the looks that the quirks ask for.
func (q *WireQuirks) rewrite(octets []byte) []byte {
	out := make([]byte, 0, len(octets))
	for len(octets) > 0 {
		n := packetLen(octets)
		at := len(out)
		if p, _, err := sstp.ParsePacket(octets[:n]); err == nil && n >= sstp.HeaderLen && !p.Control && q.Compressed {
			out = sstp.AppendData(out, compressFrame(p.Payload))
		} else {
			out = append(out, octets[:n]...)
		}
		if q.ReservedBits && octets[0] == 0x10 {
			out[at+1] |= 0xFE
			out[at+2] |= 0xF0
		}
		octets = octets[n:]
	}
	return out
}

// compressFrame leaves out address and control, and the first octet of a
// protocol number under 256. LCP always travels in full (RFC 1661 §6.5, 6.6).
func compressFrame(frame []byte) []byte {
	p, info, err := ppp.ParseFrame(frame)
	if err != nil || p == ppp.ProtoLCP {
		return frame
	}
	if p < 0x100 && p&1 == 1 {
		return append([]byte{byte(p)}, info...)
	}
	return append([]byte{byte(p >> 8), byte(p)}, info...)
}
