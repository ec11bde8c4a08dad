package netstack

// Stats counts what has passed since the stack was made.
type Stats struct {
	PacketsIn, PacketsOut uint64 // IP packets
	BadChecksum           uint64 // received packets dropped for it
	NotOurs               uint64 // received packets dropped because they are for others
	Spoofed               uint64 // that claim to come from us
	Martian               uint64 // from an address that sends nothing, by a route of their own, or with a path MTU that no path has
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
		BadChecksum: s.away.damaged.Load() + st.TCP.ChecksumErrors.Value() + st.UDP.ChecksumErrors.Value(),
		NotOurs:     s.away.notOurs.Load(),
		Spoofed:     s.away.spoofed.Load(),
		Martian:     s.away.martian.Load(),
		Dropped:     s.link.out.dropped.Load(),
		Retransmits: st.TCP.Retransmits.Value(),
		Connections: st.TCP.CurrentEstablished.Value(),
	}
}
