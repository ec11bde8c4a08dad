package netstack

// Stats counts what has passed since the stack was made.
type Stats struct {
	PacketsIn, PacketsOut uint64 // IP packets
	BadChecksum           uint64 // received packets dropped for it
	Dropped               uint64 // packets the send queue had no room for: TCP data only while the link is down
	Retransmits           uint64 // TCP segments sent again
	Connections           uint64 // TCP connections open now
}

// Stats may be called at any time.
func (s *Stack) Stats() Stats {
	st := s.net.Stats()
	return Stats{
		PacketsIn:   s.link.received.Load(),
		PacketsOut:  s.link.out.sent.Load(),
		BadChecksum: s.merge.bad.Load() + st.TCP.ChecksumErrors.Value() + st.UDP.ChecksumErrors.Value(),
		Dropped:     s.link.out.dropped.Load(),
		Retransmits: st.TCP.Retransmits.Value(),
		Connections: st.TCP.CurrentEstablished.Value(),
	}
}
