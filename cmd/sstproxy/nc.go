package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sstproxy/proxy"
)

// ncOptions are the flags of nc: where an sstproxy runs, and those of connect
// for a session of its own.
type ncOptions struct {
	options
	running instanceOptions
	server  string
}

func (o *ncOptions) groups() []group {
	own := slices.DeleteFunc(o.connectGroups(), func(g group) bool {
		return g.flags.Lookup("listen") != nil || g.flags.Lookup("local-forward") != nil
	})
	return slices.Concat([]group{
		newGroup("Running sstproxy", func(fs *pflag.FlagSet) { o.running.define(fs, 2*time.Minute) }),
		newGroup("Session of its own", func(fs *pflag.FlagSet) {
			fs.StringVar(&o.server, "server", "", "connect to this `SERVER` or profile if no sstproxy runs, for a profile\nwhere that listens; the rest is as for connect")
		}),
	}, own)
}

func (a *app) ncCommand() *cobra.Command {
	var o ncOptions
	cmd := &cobra.Command{
		Use:   "nc HOST PORT",
		Short: "Join standard input and output with a port in the tunnel, for ssh's ProxyCommand",
		Long: `Goes through the sstproxy that runs on this machine where --listen says; if
none runs and --server is given, through a session of its own, which ends with
the connection. HOST is looked up in the tunnel. The end of input is passed on,
and so is the other end's; nc ends when both have ended, at a terminal with the
other end. sstproxy -W HOST:PORT is the same, and takes the same flags.

Exit codes: 0 ended in order, 1 not connected or cut, 2 wrong usage, 3 the
server refused the credentials.`,
		Example: `  ssh -o ProxyCommand='sstproxy nc %h %p' alice@intranet
  sstproxy nc --listen unix:/run/user/1000/vpn db.corp 5432`,
		Args: arguments("HOST", "PORT"),
	}
	attach(cmd, o.groups())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.applyEnvironment(cmd); err != nil {
			return err
		}
		return a.nc(cmd, net.JoinHostPort(args[0], args[1]), &o)
	}
	return cmd
}

// addStdioForward gives the root command ssh's way to say nc, with nc's flags,
// which the help shows under nc only.
func (a *app) addStdioForward(root, nc *cobra.Command) {
	to := root.Flags().StringP("stdio-forward", "W", "", "the same as nc, with its flags, for who knows it from ssh: join\nstandard input and output with `HOST:PORT` in the tunnel")
	nc.Flags().VisitAll(func(f *pflag.Flag) {
		hidden := *f
		hidden.Hidden, hidden.Annotations = true, nil
		root.Flags().AddFlag(&hidden)
	})
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *to == "" || len(args) > 0 {
			return noCommand(cmd, args)
		}
		host, port, err := net.SplitHostPort(*to)
		if err != nil {
			return usage(cmd, errors.New("-W "+*to+": want HOST:PORT, an IPv6 address in brackets"))
		}
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if own := nc.Flags().Lookup(f.Name); own != nil {
				own.Changed = true // the value is one and the same
			}
		})
		nc.SetContext(cmd.Context())
		return nc.RunE(nc, []string{host, port})
	}
}

// nc joins standard input and output with a destination in the tunnel.
func (a *app) nc(cmd *cobra.Command, to string, o *ncOptions) error {
	to, err := proxy.Destination(to)
	if err != nil {
		return usage(cmd, err)
	}
	own, err := a.ownProfile(cmd.Context(), o)
	if cmd.Context().Err() != nil {
		return nil // stopped on request
	}
	if err != nil {
		return usage(cmd, err)
	}
	if o.running.local.proxyPasswordFile == "-" {
		return usage(cmd, errors.New("--proxy-password-file -: standard input belongs to the connection; give a FILE or SSTPROXY_PROXY_PASSWORD"))
	}
	ctx := cmd.Context()
	i, err := a.instance(ctx, &o.running, nil)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return usage(cmd, err)
	}
	err = a.throughInstance(ctx, i, to, o.running.timeout)
	if e, ok := errors.AsType[*instanceError](err); ok && e.absent {
		if own != nil {
			return a.ownSession(cmd, to, own)
		}
		e.hint += "; or give --server SERVER for a session of its own"
	}
	return err
}

// ownProfile is what --server names, nil if it names nothing. Of a profile the
// listeners are where to look for an sstproxy that runs, if it can be asked at
// one of them.
func (a *app) ownProfile(ctx context.Context, o *ncOptions) (*profile, error) {
	if o.server == "" {
		return nil, nil
	}
	profiles, err := a.profiles(ctx, o.running.from.config, []string{o.server}, &o.options)
	if err != nil {
		return nil, err
	}
	own := profiles[0]
	if _, err := own.options.local.reachable(); own.name != "" && err == nil {
		o.running.local = own.options.local
	}
	return own, nil
}

// ownSession is nc with a session of its own.
func (a *app) ownSession(cmd *cobra.Command, to string, own *profile) error {
	own.options.forwards.stdio = to
	return a.stdio(cmd, []*profile{own})
}

// throughInstance is nc by way of an sstproxy that runs.
func (a *app) throughInstance(ctx context.Context, i *instance, to string, timeout time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	conn, err := i.open(limited, to)
	cancel()
	if err == nil {
		err = a.relay(ctx, conn, to)
	}
	if ctx.Err() != nil {
		return nil // stopped on request
	}
	return err
}
