package main

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"sstproxy/tunnel"
)

// screen is the view for a person.
type screen struct {
	w io.Writer
	opened
	begun  time.Time
	brief  bool // somebody else says what the first connection yielded
	shared bool // by several profiles, which one Ctrl-C ends

	last tunnel.State
	addr netip.Addr // of the last session
}

func (s *screen) warn(of string) { fmt.Fprintf(s.w, "%s: warning: %s\n", name, of) }

func (s *screen) begin(cfg tunnel.Config, o opened) {
	s.begun, s.opened = time.Now(), o
	if cfg.TLS.Insecure {
		s.warn(insecureWarning)
	}
	fmt.Fprintf(s.w, "connecting to %s as %s\n", cfg.Server, oneLine(cfg.User))
}

func (s *screen) state(now tunnel.State) {
	last := s.last
	s.last = now
	switch now.Status {
	case tunnel.StatusConnecting:
		if now.Up == 0 {
			s.phases(now.Timings, len(last.Timings))
		}
	case tunnel.StatusUp:
		if last.Up != now.Up {
			s.up(now, last)
		}
	case tunnel.StatusWaiting:
		s.waiting(now, last)
	}
}

// phases prints the timings after the first n.
func (s *screen) phases(timings []tunnel.Progress, n int) {
	for i := n; i < len(timings); i++ {
		p := timings[i]
		fmt.Fprintf(s.w, "  %-8v %8s  %s\n", p.Phase, rounded(p.Duration), oneLine(p.Detail))
	}
}

func (s *screen) up(now, last tunnel.State) {
	was := s.addr
	s.addr = now.Info.IPv4.Addr
	if now.Up > 1 {
		line := fmt.Sprintf("connected again, down for %s", rounded(now.Changed.Sub(last.Changed)))
		if last.IsUp() {
			line = "connected anew without a gap"
		}
		if s.addr != was {
			line += fmt.Sprintf("; the address is now %v, so connections through the tunnel were reset", s.addr)
		}
		fmt.Fprintln(s.w, line)
		return
	}
	if s.brief {
		return
	}
	fmt.Fprintf(s.w, "connected in %s\n\n", rounded(time.Since(s.begun)))
	for _, f := range facts(now.Info) {
		fmt.Fprintf(s.w, "  %-8s %s\n", f[0], oneLine(f[1]))
	}
	fmt.Fprintln(s.w)
	for _, l := range s.listeners {
		for _, u := range l.urls() {
			fmt.Fprintf(s.w, "  %s\n", u)
		}
	}
	for _, f := range s.forwards {
		fmt.Fprintf(s.w, "  %s to %s\n", f.listens(), f.spec.To)
	}
	for _, f := range s.forwarders {
		fmt.Fprintf(s.w, "  dns://%s\n", f.address())
	}
	if !s.shared {
		fmt.Fprintf(s.w, "\nCtrl-C disconnects\n")
	}
}

func (s *screen) waiting(now, last tunnel.State) {
	what := "not connected"
	if last.IsUp() {
		what = "connection lost"
	}
	fmt.Fprintf(s.w, "%s: %s; %s\n", what, oneLine(explain(now.Cause).what), nextTry(now))
}

func (s *screen) stopping() {
	if s.shared {
		fmt.Fprintln(s.w, "disconnecting")
		return
	}
	fmt.Fprintln(s.w, "disconnecting; Ctrl-C again quits at once")
}

func (s *screen) down() { fmt.Fprintln(s.w, "disconnected") }
