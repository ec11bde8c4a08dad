// Package offload does with packets what a network card does for a TCP/IP stack,
// whose cost is per packet and not per octet: it merges the segments of a
// connection on their way in (generic receive offload, [Merger]), cuts large
// packets on their way out (generic segmentation offload, [Cut]), and computes
// checksums ([Sum]).
//
// It knows octets and nothing else: no stack, no device. It does no I/O, starts no
// goroutine and allocates nothing per packet.
//
// Specifications: RFC 1071 (the checksum), RFC 791, RFC 8200, RFC 9293 and RFC 768
// (the headers).
//
//	m := offload.Merger{Accept: func(p *offload.Packet) { write(p.Header, p.Payload) }}
//	for _, b := range batch {
//		if m.Add(b) == offload.Foreign {
//			write(b, nil)
//		}
//	}
//	m.Flush()
package offload
