package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sstproxy/netstack"
	"sstproxy/tunnel"
)

// graceTime is how long a command may go on that was told to end because the
// tunnel is lost for good.
const graceTime = 10 * time.Second

// runOptions are the flags of run: its own, and those of connect but for the
// local proxy's.
type runOptions struct {
	options
	probe   string
	isolate bool
}

func (o *runOptions) groups() []group {
	groups := slices.DeleteFunc(o.connectGroups(), func(g group) bool { return g.flags.Lookup("listen") != nil })
	return append([]group{newGroup("Command", o.define)}, groups...)
}

func (o *runOptions) define(fs *pflag.FlagSet) {
	fs.StringVar(&o.probe, "ready-probe", "", "start the command when `HOST:PORT` takes a connection through the\ntunnel; none when the tunnel is up (default: when a name server\nin the tunnel answers, if there is one)")
	fs.BoolVar(&o.isolate, "isolate", false, "give the command a network of its own that is the VPN and nothing\nelse, for programs that know no proxy (Linux, without root)")
}

// noProbe is the value of --ready-probe that asks for nothing beyond the tunnel.
const noProbe = "none"

func (o *runOptions) check() error {
	if o.account.passwordFile == "-" {
		return errors.New("--password-file -: standard input is the command's; give a FILE, /dev/fd/N or SSTPROXY_PASSWORD")
	}
	if o.forwards.stdio != "" {
		return errors.New("-W: standard input and output are the command's")
	}
	if err := o.checkIsolated(); o.isolate && err != nil {
		return err
	}
	if o.probe == "" || o.probe == noProbe {
		return nil
	}
	return checkDestination("--ready-probe", o.probe)
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	var from profileOptions
	cmd := &cobra.Command{
		Use:   "run SERVER|PROFILE -- COMMAND...",
		Short: "Run one command inside the VPN: connect, run it, disconnect",
		Long: `Connects to SERVER, waits until traffic flows, and runs COMMAND with its
arguments. The command finds a proxy of its own in http_proxy, https_proxy,
all_proxy (socks5h) and no_proxy, in both cases, with a password that is made
for it, so that nothing else on the machine can use it. Programs that look at
none of these stay outside the VPN, unless --isolate leaves them no other way
out. It has standard input, output and error, gets the signals that this program
gets, and does not see SSTPROXY_PASSWORD.

Of itself the program says nothing but warnings, unless --log-level asks for
more. Exit codes: the command's own, 128+N if signal N ended it, 127 if there is
no such command, 126 if it can't be run; else those of connect: 1 not connected,
or lost for good, of which the command is told by SIGTERM, 2 wrong usage, 3 the
server refused the credentials.`,
		Example: `  sstproxy run vpn.example.com -u alice -- curl http://intranet/
  sstproxy run vpn.example.com -u alice --ready-probe db:5432 -- make deploy
  sstproxy run vpn.example.com -u alice --isolate -- ping intranet`,
		Args:              commandArguments,
		ValidArgsFunction: a.completeProfile,
	}
	attach(cmd, append(o.groups(), newGroup("Profiles", from.define)))
	cmd.Flags().Lookup("stdio-forward").Hidden = true // there to be refused in words
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.applyEnvironment(cmd); err != nil {
			return err
		}
		profiles, err := a.profiles(cmd.Context(), from.config, args[:1], &o.options)
		if err != nil {
			return usageUnlessStopped(cmd, err)
		}
		o.options = *profiles[0].options
		if err := o.check(); err != nil {
			return usage(cmd, profiles[0].located(err))
		}
		return a.run(cmd, profiles[0], args[1:], &o)
	}
	return cmd
}

// commandArguments checks for one argument before the dashes and one or more
// behind them.
func commandArguments(cmd *cobra.Command, args []string) error {
	before := cmd.ArgsLenAtDash()
	switch {
	case len(args) == 0 || before == 0:
		return usage(cmd, errors.New("SERVER is missing"))
	case before < 0 || before == len(args):
		return usage(cmd, errors.New("COMMAND is missing: it goes behind --, with its arguments"))
	case before > 1:
		return usage(cmd, fmt.Errorf("unexpected argument %q", args[1]))
	}
	return nil
}

// run runs a command inside the VPN. Its error is an *exitStatus if the command
// ended by itself.
func (a *app) run(cmd *cobra.Command, from *profile, command []string, o *runOptions) error {
	path, err := findCommand(command[0])
	if err != nil {
		return err
	}
	o.quiet()
	o.local = localOptions{listen: []string{"127.0.0.1:0"}}
	from.options = &o.options
	p := &program{path: path, args: command, stdin: a.stdin, stdout: a.stdout, stderr: a.stderr}
	p.probe, p.patience = o.probe, o.link.connectTimeout
	if o.isolate {
		o.local.listen = nil // its network is the tunnel itself
		if err := p.isolate(cmd, o); err != nil {
			return err
		}
		defer p.isolated.end()
	}
	err = a.connect(cmd, []*profile{from}, func(c *client) {
		a.stdin = strings.NewReader("") // it is the command's: there is nobody to ask for another password
		p.client, c.up, c.deaf = c, p.run, true
		if p.isolated != nil {
			p.isolated.adapt(c)
			return
		}
		c.private, c.proxy.User, c.proxy.Password = true, "run", rand.Text()
		p.variables = proxyVariables(c.listeners[0].Addr().String(), url.UserPassword(c.proxy.User, c.proxy.Password))
	})
	if err == nil {
		return &exitStatus{stopCode(cmd.Context())}
	}
	return err
}

// quiet leaves standard error to somebody else, but for warnings.
func (o *options) quiet() {
	if o.logs.level == "" {
		o.logs.level = "warn"
	}
	if o.logs.format == "" {
		o.logs.format = "text"
	}
}

// exitStatus ends this program with the exit code of a command.
type exitStatus struct{ code int }

func (e *exitStatus) Error() string { return fmt.Sprintf("the command ended with code %d", e.code) }

// The exit codes of shells for a command that can't be run, and for one that is
// not there.
const (
	exitNotRun   = 126
	exitNotFound = 127
)

// commandError is a command that did not start.
type commandError struct {
	name string
	err  error
}

func (e *commandError) Error() string { return e.name + ": " + e.err.Error() }

func (e *commandError) Unwrap() error { return e.err }

// explainCommand is the report on a command that did not start.
func explainCommand(e *commandError) report {
	err := e.err
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	} else if search, ok := errors.AsType[*exec.Error](err); ok {
		err = search.Err
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return report{what: fmt.Sprintf("%s: no such command", e.name), code: exitNotFound,
			hint: "check COMMAND for a typing error; for what only a shell knows say sh -c 'COMMAND'"}
	}
	return report{what: fmt.Sprintf("%s: can't be run: %v", e.name, err), code: exitNotRun,
		hint: "it must be executable, and a script must begin with a line like #!/bin/sh"}
}

// findCommand finds out before anything else whether there is such a command.
func findCommand(name string) (path string, err error) {
	path, err = exec.LookPath(name)
	if err != nil {
		return "", &commandError{name, err}
	}
	return path, nil
}

// proxyVariables are what programs find their proxy by.
func proxyVariables(address string, login *url.Userinfo) []string {
	web := url.URL{Scheme: "http", User: login, Host: address}
	socks := url.URL{Scheme: "socks5h", User: login, Host: address}
	var list []string
	for _, v := range [][2]string{
		{"http_proxy", web.String()}, {"https_proxy", web.String()}, {"all_proxy", socks.String()}, {"no_proxy", "localhost,127.0.0.1,::1"},
	} {
		list = append(list, v[0]+"="+v[1], strings.ToUpper(v[0])+"="+v[1])
	}
	return list
}

// hidden are the variables that the command does not get from this program's
// environment: passwords, and proxies that lead elsewhere.
var hidden = []string{envPrefix + "PASSWORD", envPrefix + "PROXY_PASSWORD", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY"}

// environment is that of the command.
func environment(own, variables []string) []string {
	list := slices.DeleteFunc(slices.Clone(own), func(v string) bool {
		key, _, _ := strings.Cut(v, "=")
		return slices.ContainsFunc(hidden, func(h string) bool { return strings.EqualFold(h, key) })
	})
	return append(list, variables...)
}

// program is the command that runs inside the VPN.
type program struct {
	path           string
	args           []string // the command's name first
	variables      []string // that lead it into the VPN
	probe          string   // what --ready-probe says
	patience       time.Duration
	client         *client
	stdin          io.Reader
	stdout, stderr io.Writer
	isolated       *isolation // nil: by the variables
}

// command is what is to be started. When ctx ends it is told by SIGTERM, and
// killed after graceTime.
func (p *program) command(ctx context.Context, variables []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.path, p.args[1:]...)
	cmd.Args[0] = p.args[0]
	cmd.Env = environment(os.Environ(), variables)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.stdin, p.stdout, p.stderr
	cmd.Cancel, cmd.WaitDelay = func() error { return terminate(cmd.Process) }, graceTime
	return cmd
}

// run runs the command once traffic flows, until it ends or ctx does, and returns
// how it ended.
func (p *program) run(ctx context.Context, info tunnel.Info, stack *netstack.Stack) error {
	if err := p.ready(ctx, info, stack); err != nil {
		return err
	}
	relay := newSignalRelay(ctx)
	defer relay.stop()
	cmd, err := p.start(ctx)
	if err != nil {
		return &commandError{p.args[0], err}
	}
	relay.start(cmd.Process)
	if err := cmd.Wait(); cmd.ProcessState == nil {
		return &commandError{p.args[0], err}
	}
	return &exitStatus{codeOf(cmd.ProcessState)}
}

// start begins the command.
func (p *program) start(ctx context.Context) (*exec.Cmd, error) {
	if p.isolated != nil {
		return p.isolated.start(ctx)
	}
	cmd := p.command(ctx, p.variables)
	return cmd, cmd.Start()
}
