package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// name is what the program calls itself in messages.
const name = "sstproxy"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}

// app holds what a command may touch of the world outside.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)
}

// run executes one command line and returns its exit code. It is main without
// the process: tests call it with streams and an environment of their own.
//
// SIGINT and SIGTERM cancel the command's context, which ends it orderly; from
// then on the signals have their default effect, so a second one ends the
// process at once.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, env: env}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	r := explain(err)
	r.print(stderr)
	return r.code
}

// root returns the command tree, which is flat: every command is its child.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   name,
		Short: "Reach the network behind an SSTP server through SOCKS5 and HTTP, without root",
		Example: `  sstproxy connect vpn.example.com -u alice
  curl -x socks5h://127.0.0.1:1080 http://intranet/`,
		Version:           version().short(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.ArbitraryArgs,
		RunE:              noCommand,

		SuggestionsMinimumDistance: 2,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetVersionTemplate(name + " {{.Version}}\n")
	root.SetHelpFunc(printHelp)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	root.PersistentFlags().SortFlags = false
	root.AddCommand(a.connectCommand(), a.demoCommand(), a.versionCommand(), a.completionCommand())
	return root
}

// noCommand is what a command line that names no command of ours gets.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage(cmd, errors.New("no command given"))
	}
	err := fmt.Errorf("unknown command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w, did you mean %q?", err, near[0])
	}
	return usage(cmd, err)
}

// arguments returns a check that a command got exactly the named arguments.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usage(cmd, fmt.Errorf("%s is missing", names[len(args)]))
		}
		if len(args) > len(names) {
			return usage(cmd, fmt.Errorf("unexpected argument %q", args[len(names)]))
		}
		return nil
	}
}
