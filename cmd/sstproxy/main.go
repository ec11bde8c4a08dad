package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sstproxy/cmd/sstproxy/netns"
)

// name is what the program calls itself in messages.
const name = "sstproxy"

func main() {
	netns.Init()
	useProcessors(os.LookupEnv, 1)
	// Where net/http writes what servers send out of turn. What matters of it
	// comes back as an error.
	log.SetOutput(io.Discard)
	os.Exit(run(untilSignal(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}

// untilSignal returns a context that the first SIGINT or SIGTERM cancels, with a
// *signalError as cause, which ends a command orderly; the second ends the
// process at once. That is not left to the signal's default effect, which is none
// for SIGINT in a job that a script put into the background. The context's value
// for signalsKey ends all of that.
func untilSignal() context.Context {
	signals := make(chan os.Signal, 2)
	ignored := signal.Ignored(os.Interrupt)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { // ends with the process
		cancel(&signalError{<-signals})
		untilSecond(signals)
		os.Exit(exitFailed)
	}()
	return context.WithValue(ctx, signalsKey{}, func() {
		signal.Stop(signals)
		if ignored {
			signal.Ignore(os.Interrupt)
		}
	})
}

// sameRequest is the time in which more signals say the same as the first:
// timeout(1) sends one to the process, and one to its group.
const sameRequest = 100 * time.Millisecond

// untilSecond waits for a signal that somebody means, after a first one.
func untilSecond(signals <-chan os.Signal) {
	for first := time.Now(); ; {
		<-signals
		if time.Since(first) >= sameRequest {
			return
		}
	}
}

// app holds what a command may touch of the world outside.
type app struct {
	args           []string // the command line
	asking         turn     // at the terminal
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)
}

// run executes one command line and returns its exit code. It is main without
// the process: tests call it with a context, streams and an environment of
// their own.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	a := &app{args: args, asking: newTurn(), stdin: stdin, stdout: stdout, stderr: stderr, env: env}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if status, ok := errors.AsType[*exitStatus](err); ok {
		return status.code
	}
	r := explain(err)
	r.print(stderr)
	return r.code
}

// root returns the command tree, which is flat: every command is its child, but
// for what there is to do with the configuration.
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
	root.SetHelpFunc(printHelp)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	root.PersistentFlags().SortFlags = false
	nc := a.ncCommand()
	a.addStdioForward(root, nc)
	root.AddCommand(a.connectCommand(), a.runCommand(), nc, a.waitCommand(), a.healthCommand(), a.demoCommand(), a.configCommand(), a.versionCommand(), a.completionCommand())
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
