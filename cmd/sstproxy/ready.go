package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"sstproxy/netstack"
	"sstproxy/tunnel"
)

// probeName is asked for to see whether a name server answers: a name that does
// not exist, and that servers know so of without asking others (RFC 6761 §6.4).
const probeName = "ready.invalid"

// probePause is the time between two probes that fail at once.
const probePause = 500 * time.Millisecond

// probeError is a tunnel that is up and through which nothing answers.
type probeError struct {
	what string // that was asked
	hint string
	err  error
}

func (e *probeError) Error() string { return e.what + ": " + e.err.Error() }

func (e *probeError) Unwrap() error { return e.err }

// ready waits until a probe has been answered through the tunnel.
func (p *program) ready(ctx context.Context, info tunnel.Info, stack *netstack.Stack) error {
	switch {
	case p.probe == noProbe || p.probe == "" && len(info.IPv4.DNS)+len(p.client.names.servers) == 0:
		return nil
	case p.probe == "":
		failed := &probeError{what: "no name server in the tunnel answers", hint: "--ready-probe HOST:PORT waits for something else, --ready-probe none for nothing"}
		return p.until(ctx, failed, func(ctx context.Context) error { return askNames(ctx, stack.LookupNetIP) })
	}
	failed := &probeError{what: p.probe + " takes no connection through the tunnel", hint: "check HOST:PORT of --ready-probe; --connect-timeout TIME waits longer"}
	return p.until(ctx, failed, func(ctx context.Context) error {
		conn, err := p.client.dial(ctx, "tcp", p.probe)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// until repeats a probe until it succeeds, for p.patience; after that the error
// is failed with the cause of the last.
func (p *program) until(ctx context.Context, failed *probeError, probe func(context.Context) error) error {
	patience, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	for {
		err := probe(patience)
		if err == nil {
			return nil
		}
		if patience.Err() == nil || failed.err == nil {
			failed.err = err // the last says only that time was up
		}
		select {
		case <-time.After(probePause):
		case <-patience.Done():
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if patience.Err() != nil {
			return failed
		}
	}
}

// askNames succeeds when a name server has answered, whatever it says.
func askNames(ctx context.Context, lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)) error {
	_, err := lookup(ctx, "ip4", probeName)
	if dns, ok := errors.AsType[*net.DNSError](err); ok && !dns.IsTimeout && !errors.Is(err, netstack.ErrDown) && ctx.Err() == nil {
		return nil
	}
	return err
}

// checkDestination finds what is no HOST:PORT.
func checkDestination(flag, value string) error {
	host, port, err := net.SplitHostPort(value)
	if err != nil || host == "" {
		return fmt.Errorf("%s %s: want HOST:PORT", flag, value)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%s %s: the port must be 1 to 65535", flag, value)
	}
	return nil
}
