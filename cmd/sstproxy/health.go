package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) healthCommand() *cobra.Command {
	var o instanceOptions
	cmd := &cobra.Command{
		Use:   "health [PROFILE]",
		Short: "Tell whether a running sstproxy has its tunnel up",
		Long: `Asks an sstproxy that runs on this machine for its state, which it tells at
http://LISTEN` + statusPath + ` as JSON to whoever may use its proxy. Exit codes: 0 the
tunnel is up, 1 it is not, or nothing answers, 2 wrong usage.`,
		Example:           "  sstproxy health\n  sstproxy health --listen unix:/run/user/1000/vpn",
		ValidArgsFunction: a.completeProfile,
		Args:              atMostProfile,
	}
	attach(cmd, []group{newGroup("Running sstproxy", func(fs *pflag.FlagSet) { o.define(fs, 5*time.Second) })})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.applyEnvironment(cmd); err != nil {
			return err
		}
		i, err := a.instance(cmd.Context(), &o, args)
		if err != nil {
			return usageUnlessStopped(cmd, err)
		}
		return a.health(cmd.Context(), i, o.timeout)
	}
	return cmd
}

// health says in one line how the tunnel is.
func (a *app) health(ctx context.Context, i *instance, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := i.up(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "the tunnel to %s is up since %s as %v\n", s.Server, s.Changed.Local().Format(time.DateTime), s.Address)
	return nil
}
