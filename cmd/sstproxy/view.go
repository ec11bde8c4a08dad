package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
)

// view shows how a connection comes up and goes down: to a person on a
// terminal, or to a log.
type view interface {
	warn(string)
	connecting(tunnel.Config)
	phase(tunnel.Progress)
	up(tunnel.Info, []listener)
	stopping()
	down()
}

// output returns the logger and the view for standard error. On a terminal and
// without --log-format the view is for a person, and the log only shows what
// goes wrong unless --log-level asks for more.
func (a *app) output(o *logOptions) (*slog.Logger, view, error) {
	level, err := o.threshold()
	if err != nil {
		return nil, nil, err
	}
	f, ok := a.stderr.(*os.File)
	human := o.format == "" && ok && term.IsTerminal(int(f.Fd()))
	if human && o.level == "" {
		level = slog.LevelWarn
	}
	opts := &slog.HandlerOptions{Level: level}
	var log *slog.Logger
	switch o.format {
	case "", "text":
		log = slog.New(slog.NewTextHandler(a.stderr, opts))
	case "json":
		log = slog.New(slog.NewJSONHandler(a.stderr, opts))
	default:
		return nil, nil, fmt.Errorf("--log-format %s: want text or json", o.format)
	}
	if human {
		return log, &screen{w: a.stderr}, nil
	}
	return log, &journal{log: log}, nil
}

// threshold is the least level to log.
func (o *logOptions) threshold() (slog.Level, error) {
	switch o.level {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("--log-level %s: want debug, info, warn or error", o.level)
}

// insecureWarning is what --insecure gives up, in one sentence.
const insecureWarning = "--insecure: the server's certificate is not checked; whoever can redirect this connection can read and change all of it"

// screen is the view for a person.
type screen struct {
	w     io.Writer
	begun time.Time
}

func (s *screen) warn(of string) { fmt.Fprintf(s.w, "%s: warning: %s\n", name, of) }

func (s *screen) connecting(cfg tunnel.Config) {
	s.begun = time.Now()
	if cfg.TLS.Insecure {
		s.warn(insecureWarning)
	}
	fmt.Fprintf(s.w, "connecting to %s as %s\n", cfg.Server, oneLine(cfg.User))
}

func (s *screen) phase(p tunnel.Progress) {
	fmt.Fprintf(s.w, "  %-8v %8s  %s\n", p.Phase, rounded(p.Duration), oneLine(p.Detail))
}

func (s *screen) up(info tunnel.Info, listeners []listener) {
	fmt.Fprintf(s.w, "connected in %s\n\n", rounded(time.Since(s.begun)))
	for _, f := range facts(info) {
		fmt.Fprintf(s.w, "  %-8s %s\n", f[0], oneLine(f[1]))
	}
	fmt.Fprintln(s.w)
	for _, l := range listeners {
		for _, u := range l.urls() {
			fmt.Fprintf(s.w, "  %s\n", u)
		}
	}
	fmt.Fprintf(s.w, "\nCtrl-C disconnects\n")
}

func (s *screen) stopping() { fmt.Fprintln(s.w, "disconnecting; Ctrl-C again quits at once") }

func (s *screen) down() { fmt.Fprintln(s.w, "disconnected") }

// facts are what a person wants to know of a tunnel, as name and value.
func facts(info tunnel.Info) [][2]string {
	family := string(info.Family)
	if family == "" {
		family = "unknown software"
	}
	list := [][2]string{
		{"address", addressOf(info)},
		{"dns", dnsOf(info)},
		{"mtu", fmt.Sprint(info.MTU)},
		{"server", fmt.Sprintf("%s, %v", family, info.RemoteAddr)},
		{"auth", info.Method.String()},
		{"binding", info.Hash.String()},
	}
	if info.Method != ppp.MSCHAPv2 {
		list[4][1] += ", which does not prove the server"
		list[5][1] += ", without a key"
	}
	return list
}

func addressOf(info tunnel.Info) string {
	var words []string
	if info.IPv4.Addr.IsValid() {
		words = append(words, info.IPv4.Addr.String())
	}
	if info.IPv6.InterfaceID != [8]byte{} {
		words = append(words, fmt.Sprintf("IPv6 interface %x", info.IPv6.InterfaceID))
	}
	return strings.Join(words, ", ")
}

func dnsOf(info tunnel.Info) string {
	if len(info.IPv4.DNS) == 0 {
		return "none, so only addresses can be reached"
	}
	words := make([]string, len(info.IPv4.DNS))
	for i, addr := range info.IPv4.DNS {
		words[i] = addr.String()
	}
	return strings.Join(words, ", ")
}

// rounded is a duration with as many digits as a reader cares for.
func rounded(d time.Duration) string {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// journal is the view as a log. The tunnel itself logs when it is up and down.
type journal struct{ log *slog.Logger }

func (j *journal) warn(of string) { j.log.Warn(of) }

func (j *journal) connecting(cfg tunnel.Config) {
	if cfg.TLS.Insecure {
		j.warn(insecureWarning)
	}
	j.log.Info("connecting", "peer", cfg.Server, "user", cfg.User)
}

func (j *journal) phase(p tunnel.Progress) {
	j.log.LogAttrs(context.Background(), slog.LevelInfo, "phase done",
		slog.String("phase", p.Phase.String()), slog.Duration("dur", p.Duration), slog.String("detail", p.Detail))
}

func (j *journal) up(_ tunnel.Info, listeners []listener) {
	for _, l := range listeners {
		for _, u := range l.urls() {
			j.log.Info("proxy listening", "url", u)
		}
	}
}

func (j *journal) stopping() { j.log.Info("disconnecting") }

func (j *journal) down() { j.log.Info("disconnected") }
