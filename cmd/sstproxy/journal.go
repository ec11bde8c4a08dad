package main

import (
	"log/slog"

	"sstproxy/tunnel"
)

// journal is the view as a log. The tunnel itself logs what a session
// negotiated.
type journal struct {
	log *slog.Logger
	opened
	last tunnel.State
}

func (j *journal) warn(of string) { j.log.Warn(of) }

func (j *journal) begin(cfg tunnel.Config, o opened) {
	j.opened = o
	if cfg.TLS.Insecure {
		j.warn(insecureWarning)
	}
	j.log.Info("connecting", "peer", cfg.Server, "user", cfg.User)
}

func (j *journal) state(now tunnel.State) {
	last := j.last
	j.last = now
	switch {
	case now.Status == tunnel.StatusConnecting:
		for _, p := range now.Timings[min(len(last.Timings), len(now.Timings)):] {
			j.log.Debug("phase done", "phase", p.Phase.String(), "dur", p.Duration, "detail", p.Detail)
		}
	case now.Status == tunnel.StatusUp && now.Up == 1 && last.Up == 0:
		for _, l := range j.listeners {
			for _, u := range l.urls() {
				j.log.Info("proxy listening", "url", u)
			}
		}
		for _, f := range j.forwards {
			j.log.Info("forward listening", "listen", f.listens(), "to", f.spec.To)
		}
		for _, f := range j.forwarders {
			j.log.Info("dns listening", "addr", f.address())
		}
	case now.Status == tunnel.StatusWaiting && last.IsUp():
		j.log.Info("connection lost", stateAttrs(now)...)
	case now.Status == tunnel.StatusWaiting:
		j.log.Info("not connected", stateAttrs(now)...)
	case now.Status == tunnel.StatusEnded && now.Cause != nil:
		j.log.Info("given up", stateAttrs(now)...)
	}
}

func (j *journal) stopping() { j.log.Info("disconnecting") }

func (j *journal) down() { j.log.Info("disconnected") }
