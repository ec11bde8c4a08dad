package main

import (
	"log/slog"
	"runtime"
	"time"

	"sstproxy/netstack"
	"sstproxy/proxy"
	"sstproxy/tunnel"
)

// logState writes what the program knows of itself: a line on the tunnel, and
// two with the counters.
func logState(log *slog.Logger, keeper *tunnel.Keeper, stack *netstack.Stack, server *proxy.Server) {
	state, _ := keeper.State()
	log.Info("state of the tunnel", stateAttrs(state)...)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := stack.Stats()
	log.Info("state", "connections", s.Connections, "packets_in", s.PacketsIn, "packets_out", s.PacketsOut,
		"bad_checksum", s.BadChecksum, "not_ours", s.NotOurs, "spoofed", s.Spoofed, "martian", s.Martian,
		"dropped", s.Dropped, "retransmits", s.Retransmits,
		"goroutines", runtime.NumGoroutine(), "heap", m.HeapAlloc, "mallocs", m.Mallocs)
	u := server.UDPStats()
	log.Info("state of UDP", "associations", u.Associations, "sent", u.Sent, "received", u.Received,
		"foreign", u.Foreign, "malformed", u.Malformed, "undelivered", u.Undelivered)
}

// stateAttrs are the attributes of a log line that tells a state.
func stateAttrs(s tunnel.State) []any {
	attrs := []any{"status", s.Status.String(), "since", s.Changed, "sessions", s.Up}
	switch s.Status {
	case tunnel.StatusUp:
		attrs = append(attrs, "addr", s.Info.IPv4.Addr, "peer", s.Info.RemoteAddr)
	case tunnel.StatusConnecting:
		attrs = append(attrs, "phase", s.Phase.String(), "attempt", s.Attempt)
	case tunnel.StatusWaiting:
		attrs = append(attrs, "attempt", s.Attempt, "next", s.NextTry)
	}
	if s.Cause == nil {
		return attrs
	}
	return append(attrs, causeAttrs(s.Cause)...)
}

// causeAttrs say who ended a session, at which layer, why, and what helps.
func causeAttrs(err error) []any {
	origin, r := tunnel.OriginOf(err), explain(err)
	return []any{slog.String("by", string(origin.By)), slog.String("layer", origin.Layer),
		slog.String("cause", oneLine(r.what)), slog.String("hint", oneLine(r.hint))}
}

// nextTry says when the next attempt is, seen from now.
func nextTry(s tunnel.State) string {
	if d := time.Until(s.NextTry); d > 0 {
		return "next try in " + d.Round(100*time.Millisecond).String()
	}
	return "trying again"
}
