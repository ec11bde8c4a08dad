package main

import (
	"encoding"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
)

// opened is what has been opened on this machine, for a view to name.
type opened struct {
	listeners  []listener
	forwards   []*forwarding
	forwarders []*forwarder
}

// view shows how a connection comes up, goes down and comes up again: to a
// person on a terminal, or to a log. state is told each state of the tunnel, by
// one goroutine at a time.
type view interface {
	warn(string)
	begin(tunnel.Config, opened)
	state(tunnel.State)
	stopping()
	down()
}

// output returns the logger and the view for standard error. On a terminal and
// without --log-format the view is for a person, and the log only shows what
// goes wrong unless --log-level asks for more. A profile is named in each line
// of the log.
func (a *app) output(o *logOptions, profile string) (*slog.Logger, view, error) {
	level, err := o.threshold()
	if err != nil {
		return nil, nil, err
	}
	f, ok := a.stderr.(*os.File)
	human := o.format == "" && ok && term.IsTerminal(int(f.Fd()))
	if human && o.level == "" {
		level = slog.LevelWarn
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: inWords}
	var log *slog.Logger
	switch o.format {
	case "", "text":
		log = slog.New(slog.NewTextHandler(a.stderr, opts))
	case "json":
		log = slog.New(slog.NewJSONHandler(a.stderr, opts))
	default:
		return nil, nil, fmt.Errorf("--log-format %s: want text or json", o.format)
	}
	if profile != "" {
		log = log.With("profile", profile)
	}
	if human {
		return log, &screen{w: a.stderr}, nil
	}
	return log, &journal{log: log}, nil
}

// inWords has a value that can be put into words logged as these: of an address
// or a protocol JSON would show the fields, or a number.
func inWords(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindAny {
		return a
	}
	switch v := a.Value.Any().(type) {
	case encoding.TextMarshaler, error: // which every format knows
	case fmt.Stringer:
		a.Value = slog.StringValue(v.String())
	}
	return a
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
