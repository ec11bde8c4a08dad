package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
)

// signalsKey is the context key of a func() that ends what untilSignal does, so
// that signals no longer end this program.
type signalsKey struct{}

// signalError is the cause of a context that a signal has ended.
type signalError struct{ signal os.Signal }

func (e *signalError) Error() string { return "stopped by signal: " + e.signal.String() }

// stopCode is the exit code of a run that was stopped before its command began.
func stopCode(ctx context.Context) int {
	stopped := syscall.SIGINT
	if e, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
		if s, ok := e.signal.(syscall.Signal); ok {
			stopped = s
		}
	}
	return exitSignal + int(stopped)
}

// usageUnlessStopped is usage, unless the command was stopped while it found out
// what it is to do.
func usageUnlessStopped(cmd *cobra.Command, err error) error {
	if ctx := cmd.Context(); ctx.Err() != nil {
		return &exitStatus{stopCode(ctx)}
	}
	return usage(cmd, err)
}

// exitSignal plus its number is the exit code of shells for a command that a
// signal ended.
const exitSignal = 128

// codeOf is the exit code for how a process ended.
func codeOf(p *os.ProcessState) int {
	if status, ok := p.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return p.ExitCode()
}

// signalRelay passes signals on to a command. From its beginning to its end
// signals do not end this program, which ends with the command.
type signalRelay struct {
	signals  chan os.Signal
	terminal bool // there was one at the beginning
	wg       sync.WaitGroup
}

// newSignalRelay takes over the signals; it keeps those that come before start.
// What was ignored when this program began stays so, for the command as well.
func newSignalRelay(ctx context.Context) *signalRelay {
	r := &signalRelay{signals: make(chan os.Signal, 16), terminal: hasTerminal()}
	for _, s := range relayed {
		if !signal.Ignored(s) {
			signal.Notify(r.signals, s)
		}
	}
	if release, ok := ctx.Value(signalsKey{}).(func()); ok {
		release()
	}
	return r
}

// start passes on what came and comes.
func (r *signalRelay) start(p *os.Process) {
	r.wg.Go(func() { // ends with stop
		for s := range r.signals {
			if !fromTerminal(s, r.terminal) {
				p.Signal(s)
			}
		}
	})
}

// stop gives signals back the effect they have by default.
func (r *signalRelay) stop() {
	signal.Stop(r.signals)
	close(r.signals)
	r.wg.Wait()
}
