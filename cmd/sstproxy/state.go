package main

import (
	"log/slog"
	"runtime"

	"sstproxy/netstack"
)

// logState writes what the program knows of itself on one line.
func logState(log *slog.Logger, stack *netstack.Stack) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := stack.Stats()
	log.Info("state", "connections", s.Connections, "packets_in", s.PacketsIn, "packets_out", s.PacketsOut,
		"bad_checksum", s.BadChecksum, "dropped", s.Dropped, "retransmits", s.Retransmits,
		"goroutines", runtime.NumGoroutine(), "heap", m.HeapAlloc, "mallocs", m.Mallocs)
}
