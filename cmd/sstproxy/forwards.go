package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sstproxy/netstack"
	"sstproxy/proxy"
	"sstproxy/proxy/forward"
	"sstproxy/tunnel"
)

// forwardOptions are single ports brought here from the tunnel, or there from
// here.
type forwardOptions struct {
	local, remote []string
	stdio         string
}

func (o *forwardOptions) define(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&o.local, "local-forward", "L", nil, "`[BIND:]PORT:HOST:PORT` or unix:PATH:HOST:PORT: listen here, on\nloopback unless BIND says otherwise, and reach HOST in the\ntunnel; PORT:HOST:PORT/udp for UDP (repeatable)")
	fs.StringArrayVarP(&o.remote, "remote-forward", "R", nil, "`PORT:HOST:PORT`: listen on the address in the tunnel, and reach\nHOST from this machine; with /udp for UDP (repeatable)")
	fs.StringVarP(&o.stdio, "stdio-forward", "W", "", "connect standard input and output to `HOST:PORT` in the tunnel\nand end with that connection; opens no listener at all")
}

func (o *forwardOptions) check() error {
	_, err := o.parse()
	return err
}

// open reads -L and -R and opens what listens on this machine.
func (o *forwardOptions) open() ([]*forwarding, error) {
	forwards, err := o.parse()
	if err == nil {
		err = openLocal(forwards)
	}
	return forwards, err
}

// parse reads -L and -R.
func (o *forwardOptions) parse() ([]*forwarding, error) {
	var all []*forwarding
	taken := map[string]bool{}
	add := func(text string, f *forwarding, err error) error {
		if err == nil && taken[f.place()] {
			err = fmt.Errorf("%s is forwarded twice", f.place())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		taken[f.place()] = f.spec.Network == "unix" || !strings.HasSuffix(f.spec.Listen, ":0")
		all = append(all, f)
		return nil
	}
	for _, text := range o.local {
		f, err := localForward(text)
		if err := add("-L "+text, f, err); err != nil {
			return nil, err
		}
	}
	for _, text := range o.remote {
		spec, err := forward.ParseRemote(text)
		if err := add("-R "+text, &forwarding{spec: spec, remote: true}, err); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func localForward(text string) (*forwarding, error) {
	spec, err := forward.ParseLocal(text)
	if err != nil {
		return nil, err
	}
	if spec.To, err = proxy.Destination(spec.To); err != nil {
		return nil, err
	}
	f := &forwarding{spec: spec, endpoint: proxy.Endpoint{Network: spec.Network, Address: spec.Listen}}
	if spec.Network == "unix" {
		f.endpoint, err = proxy.ParseEndpoint("unix:" + spec.Listen)
	}
	return f, err
}

// forwarding is one forward. When it is open it has either a listener or, for
// UDP, a socket.
type forwarding struct {
	spec     forward.Spec
	remote   bool           // listens in the tunnel
	endpoint proxy.Endpoint // where it listens on TCP or a socket file, if not remote

	listener net.Listener
	socket   forward.Socket
	addr     net.Addr // where it really listens
}

// openLocal opens the forwards that listen on this machine, all or none.
func openLocal(forwards []*forwarding) error {
	for _, f := range forwards {
		if f.remote {
			continue
		}
		if err := f.openHere(); err != nil {
			closeForwards(forwards)
			return &listenError{where: f.place(), flag: f.flag(), err: err}
		}
	}
	return nil
}

func (f *forwarding) openHere() error {
	if f.spec.Network != "udp" {
		l, err := f.endpoint.Listen()
		if err == nil {
			f.listener, f.addr = l, l.Addr()
		}
		return err
	}
	addr, err := net.ResolveUDPAddr("udp", f.spec.Listen)
	if err != nil {
		return err
	}
	socket, err := net.ListenUDP("udp", addr)
	if err == nil {
		f.socket, f.addr = socket, socket.LocalAddr()
	}
	return err
}

// openRemote opens the forwards that listen in the tunnel, on whatever address
// it has, so that they outlive every session.
func openRemote(forwards []*forwarding, stack *netstack.Stack) error {
	for _, f := range forwards {
		if !f.remote {
			continue
		}
		if err := f.openInside(stack); err != nil {
			return &listenError{where: f.place(), flag: f.flag(), err: err}
		}
	}
	return nil
}

func (f *forwarding) openInside(stack *netstack.Stack) error {
	if f.spec.Network != "udp" {
		l, err := stack.Listen("tcp", f.spec.Listen)
		if err == nil {
			f.listener, f.addr = l, l.Addr()
		}
		return err
	}
	pc, err := stack.ListenPacket("udp", f.spec.Listen)
	if err != nil {
		return err
	}
	f.addr = pc.LocalAddr()
	f.socket = pc.(forward.Socket) // as its documentation says
	return nil
}

func closeForwards(forwards []*forwarding) {
	for _, f := range forwards {
		if f.listener != nil {
			f.listener.Close()
		}
		if f.socket != nil {
			f.socket.Close()
		}
	}
}

// dial opens the far side: through the tunnel, or from this machine.
func (f *forwarding) dial(inside proxy.DialFunc) func(context.Context) (net.Conn, error) {
	through, network := inside, "tcp"
	if f.remote {
		through = new(net.Dialer).DialContext
	}
	if f.spec.Network == "udp" {
		network = "udp"
	}
	return func(ctx context.Context) (net.Conn, error) { return through(ctx, network, f.spec.To) }
}

// serve serves the forward until ctx ends or, for TCP, the server is shut down.
// An error says that it failed before.
func (f *forwarding) serve(ctx context.Context, server *proxy.Server, inside proxy.DialFunc, log *slog.Logger) error {
	var err error
	if f.socket != nil {
		relay := &forward.UDP{Dial: f.dial(inside), Logger: log}
		err = relay.Serve(ctx, f.socket)
	} else {
		err = server.Join(f.listener, f.dial(inside))
	}
	if ctx.Err() != nil || err == nil {
		return nil
	}
	return &listenError{where: f.place(), flag: f.flag(), err: err}
}

// startForwards serves them all; a failure of one is passed to fail.
func (c *client) startForwards(ctx context.Context, wg *sync.WaitGroup, server *proxy.Server, inside proxy.DialFunc, fail context.CancelCauseFunc) {
	for _, f := range c.forwards {
		wg.Go(func() { // ends with ctx and the server's shutdown
			if err := f.serve(ctx, server, inside, c.log); err != nil {
				fail(err)
			}
		})
	}
}

func (f *forwarding) flag() string {
	if f.remote {
		return "-R"
	}
	return "-L"
}

// place is where the user wants the forward to listen.
func (f *forwarding) place() string {
	switch {
	case f.remote:
		return f.spec.Network + " port " + strings.TrimPrefix(f.spec.Listen, ":") + " in the tunnel"
	case f.spec.Network == "udp":
		return f.spec.Listen + "/udp"
	}
	return f.endpoint.String()
}

// listens says where the forward really listens.
func (f *forwarding) listens() string {
	switch a := f.addr.(type) {
	case *net.TCPAddr:
		if f.remote {
			return fmt.Sprintf("port %d in the tunnel", a.Port)
		}
	case *net.UDPAddr:
		if f.remote {
			return fmt.Sprintf("UDP port %d in the tunnel", a.Port)
		}
		return a.String() + "/udp"
	case *net.UnixAddr:
		return "unix:" + a.Name
	}
	return f.addr.String()
}

// stdio is connect with -W. It leaves out all that has no use then: listeners,
// whoever asked for them, because several may run side by side, and what a
// person would like to read, because standard error is that of ssh.
func (a *app) stdio(cmd *cobra.Command, profiles []*profile) error {
	if len(profiles) > 1 {
		return usage(cmd, errors.New("-W: want one PROFILE"))
	}
	p, o := profiles[0], profiles[0].options
	if _, err := proxy.Destination(o.forwards.stdio); err != nil {
		return usage(cmd, p.located(named("-W "+o.forwards.stdio, err)))
	}
	o.local, o.forwards.local, o.forwards.remote = localOptions{}, nil, nil
	o.quiet()
	return a.connect(cmd, profiles, func(c *client) { c.up = a.pipe(c, o.forwards.stdio) })
}

// wantStdio tells whether one of the profiles has -W.
func wantStdio(profiles []*profile) bool {
	return slices.ContainsFunc(profiles, func(p *profile) bool { return p.options.forwards.stdio != "" })
}

// pipe is what -W does once the tunnel is up.
func (a *app) pipe(c *client, to string) func(context.Context, tunnel.Info, *netstack.Stack) error {
	return func(ctx context.Context, _ tunnel.Info, _ *netstack.Stack) error {
		limited, cancel := context.WithTimeout(ctx, dialTimeout)
		conn, err := c.dial(limited, "tcp", to)
		cancel()
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return &reachError{to: to, reason: proxy.Reason(err), down: errors.Is(err, syscall.ENETDOWN)}
		}
		if err := a.relay(ctx, conn, to); err != nil {
			return err
		}
		return errStopped
	}
}

// relay moves octets between a connection and standard input and output.
func (a *app) relay(ctx context.Context, conn net.Conn, to string) error {
	_, terminal := terminalOf(a.stdin)
	if err := forward.Stdio(ctx, conn, a.stdin, a.stdout, terminal); err != nil {
		return &reachError{to: to, reason: "the connection was cut", err: err}
	}
	return nil
}

// reachError is a destination in the tunnel that can't be reached, or no more.
type reachError struct {
	to     string
	reason string // in words
	down   bool   // because the tunnel is
	err    error  // of a connection that had been open, else nil
}

func (e *reachError) Error() string {
	if e.err != nil {
		return fmt.Sprintf("%s: %s: %v", e.to, e.reason, e.err)
	}
	return fmt.Sprintf("can't reach %s: %s", e.to, e.reason)
}

func (e *reachError) Unwrap() error { return e.err }

func (e *reachError) hint() string {
	switch {
	case e.err != nil:
		return "the other end, or something between, has reset it: try again"
	case e.down:
		return hintNet
	}
	return "check HOST and PORT; a name is looked up in the tunnel, never on this machine"
}
