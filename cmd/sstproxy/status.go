package main

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"time"

	"sstproxy/tunnel"
)

// statusPath is where a listener that speaks HTTP tells the state of the tunnel.
const statusPath = "/sstproxy/state"

// status is a tunnel.State in JSON. It holds no secrets.
type status struct {
	Server   string       `json:"server"`
	Status   string       `json:"status"`            // connecting, up, waiting or ended
	Since    time.Time    `json:"since"`             // when that began
	Changed  time.Time    `json:"changed"`           // since when the tunnel is up, or down
	Sessions int          `json:"sessions"`          // that came up, in all
	Phase    string       `json:"phase,omitzero"`    // while connecting
	Attempt  int          `json:"attempt,omitzero"`  // since the tunnel was last up
	NextTry  time.Time    `json:"next_try,omitzero"` // while waiting
	Address  netip.Addr   `json:"address,omitzero"`  // while up, as what follows
	DNS      []netip.Addr `json:"dns,omitempty"`
	MTU      int          `json:"mtu,omitzero"`
	Cause    *statusCause `json:"cause,omitempty"` // why it is down, or why the last session ended
}

// statusCause is why a session ended.
type statusCause struct {
	By    string `json:"by"` // who ended it
	Layer string `json:"layer"`
	What  string `json:"what"`
	Hint  string `json:"hint"`
}

// statusOf is what there is to tell of a state.
func statusOf(server string, s tunnel.State) status {
	out := status{
		Server: server, Status: s.Status.String(), Since: s.Since, Changed: s.Changed, Sessions: s.Up,
		Attempt: s.Attempt, NextTry: s.NextTry,
	}
	switch s.Status {
	case tunnel.StatusConnecting:
		out.Phase = s.Phase.String()
	case tunnel.StatusUp:
		out.Address, out.DNS, out.MTU = s.Info.IPv4.Addr, s.Info.IPv4.DNS, s.Info.MTU
	}
	if s.Cause != nil {
		origin, r := tunnel.OriginOf(s.Cause), explain(s.Cause)
		out.Cause = &statusCause{By: string(origin.By), Layer: origin.Layer, What: oneLine(r.what), Hint: oneLine(r.hint)}
	}
	return out
}

// isUp tells whether packets move.
func (s *status) isUp() bool { return s.Status == tunnel.StatusUp.String() }

// hint is what to do about a tunnel that is down.
func (s *status) hint() string {
	if s.Cause == nil {
		return "wait, or see the log of the running sstproxy"
	}
	return s.Cause.Hint
}

// serveStatus answers with the present state.
func serveStatus(server string, state func() (tunnel.State, <-chan struct{})) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		now, _ := state()
		body, err := json.MarshalIndent(statusOf(server, now), "", "  ")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(append(body, '\n'))
	}
}
