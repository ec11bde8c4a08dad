package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// waitPause is the time between two looks at a running sstproxy.
const waitPause = 200 * time.Millisecond

// waitOptions are the flags of wait.
type waitOptions struct {
	instanceOptions
	goal string
}

// goalReady is the value of --for that asks for the tunnel alone.
const goalReady = "ready"

func (o *waitOptions) groups() []group {
	return []group{
		newGroup("Wait", func(fs *pflag.FlagSet) {
			fs.StringVar(&o.goal, "for", goalReady, "until `WHAT`: ready is a tunnel that is up, HOST:PORT what takes a\nconnection through it")
		}),
		newGroup("Running sstproxy", func(fs *pflag.FlagSet) { o.define(fs, time.Minute) }),
	}
}

func (a *app) waitCommand() *cobra.Command {
	var o waitOptions
	cmd := &cobra.Command{
		Use:   "wait [PROFILE]",
		Short: "Wait until a running sstproxy has its tunnel up, or reaches a host",
		Long: `Waits for an sstproxy on this machine, which need not run yet. Exit codes: 0 it
is so far, 1 it was not in time, 2 wrong usage.`,
		Example:           "  sstproxy connect vpn.example.com -u alice --password-file secret &\n  sstproxy wait --for db.corp:5432 --timeout 30s",
		ValidArgsFunction: a.completeProfile,
		Args:              atMostProfile,
	}
	attach(cmd, o.groups())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.applyEnvironment(cmd); err != nil {
			return err
		}
		if o.goal != goalReady {
			if err := checkDestination("--for", o.goal); err != nil {
				return usage(cmd, err)
			}
		}
		i, err := a.instance(cmd.Context(), &o.instanceOptions, args)
		if err != nil {
			return usageUnlessStopped(cmd, err)
		}
		return o.wait(cmd.Context(), i)
	}
	return cmd
}

// wait looks again and again until it is so far, which is no error, or the time
// is up. Its error is about the last look that had one of its own.
func (o *waitOptions) wait(ctx context.Context, i *instance) error {
	bounded, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	tick := time.NewTicker(waitPause)
	defer tick.Stop()
	var last error
	for {
		err := o.look(bounded, i)
		if err == nil {
			return nil
		}
		if bounded.Err() == nil || last == nil {
			last = err
		}
		if e, ok := errors.AsType[*instanceError](err); ok && e.final {
			return err
		}
		select {
		case <-tick.C:
		case <-bounded.Done():
		}
		if ctx.Err() != nil {
			return &exitStatus{stopCode(ctx)}
		}
		if bounded.Err() != nil {
			return timeUp(o.timeout, last)
		}
	}
}

// look is one try.
func (o *waitOptions) look(ctx context.Context, i *instance) error {
	if o.goal == goalReady {
		_, err := i.up(ctx)
		return err
	}
	return i.reach(ctx, o.goal)
}

// timeUp says what was the matter all the time.
func timeUp(timeout time.Duration, last error) error {
	e, ok := errors.AsType[*instanceError](last)
	if !ok {
		return last
	}
	return &instanceError{what: fmt.Sprintf("not in %v: %s", timeout, e.what), hint: e.hint}
}
