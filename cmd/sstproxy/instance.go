package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sstproxy/proxy"
)

// instanceOptions say where another sstproxy runs. They have the names of the
// flags that it was started with, so that in one environment both find the same.
type instanceOptions struct {
	local   localOptions
	from    profileOptions
	timeout time.Duration
}

// define sets up the flags, with a default for --timeout.
func (o *instanceOptions) define(fs *pflag.FlagSet, timeout time.Duration) {
	fs.StringArrayVar(&o.local.listen, "listen", []string{defaultListen}, "the `WHERE` of --listen that the running sstproxy was given")
	fs.StringVar(&o.local.proxyUser, "proxy-user", "", "the `NAME` of its --proxy-user, if it has one")
	fs.StringVar(&o.local.proxyPasswordFile, "proxy-password-file", "", "read the password from `FILE`; - is standard input, /dev/fd/N\nan open descriptor. Else SSTPROXY_PROXY_PASSWORD, else a prompt")
	o.from.define(fs)
	fs.DurationVar(&o.timeout, "timeout", timeout, "give up after `TIME`")
}

// Limits of what is read of an answer, in octets: anybody may listen there.
const (
	maxAnswer = 16 << 10 // its header
	maxStatus = 64 << 10 // a state
)

// instance is another sstproxy that runs on this machine.
type instance struct {
	where    proxy.Endpoint
	user     string
	password string
}

// atMostProfile checks for no argument, or one PROFILE.
func atMostProfile(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage(cmd, fmt.Errorf("unexpected argument %q", args[1]))
	}
	return nil
}

// profile takes the listeners and the login from a profile, if one is named.
func (o *instanceOptions) profile(ctx context.Context, a *app, args []string) error {
	if len(args) == 0 {
		return nil
	}
	profiles, err := a.profiles(ctx, o.from.config, args, new(options))
	if err != nil {
		return err
	}
	if profiles[0].name == "" {
		return fmt.Errorf("%q is no PROFILE", args[0])
	}
	o.local = profiles[0].options.local
	return nil
}

// instance finds the first listener that speaks HTTP, of the profile that args
// may name or else of the flags, and reads the password.
func (a *app) instance(ctx context.Context, o *instanceOptions, args []string) (*instance, error) {
	if err := o.profile(ctx, a, args); err != nil {
		return nil, err
	}
	if o.timeout <= 0 {
		return nil, fmt.Errorf("--timeout %v: want more than 0", o.timeout)
	}
	where, err := o.local.reachable()
	if err != nil || o.local.proxyUser == "" {
		return &instance{where: where}, err
	}
	password, err := a.readProxyPassword(ctx, o.local.proxyUser, &o.local)
	return &instance{where: where, user: o.local.proxyUser, password: password}, err
}

// reachable is the first of the listeners that can be asked.
func (o *localOptions) reachable() (proxy.Endpoint, error) {
	for _, spec := range o.listen {
		e, err := proxy.ParseEndpoint(spec)
		if err != nil {
			return e, fmt.Errorf("--listen %s: %w", spec, err)
		}
		if e.Mode == proxy.ModeSOCKS5 {
			continue
		}
		if e.Network == "unix" {
			return e, nil
		}
		host, port, err := net.SplitHostPort(e.Address)
		if port == "0" || err != nil {
			return e, fmt.Errorf("--listen %s: want the port that the running sstproxy has", spec)
		}
		e.Address = net.JoinHostPort(reachableHost(host), port)
		return e, nil
	}
	return proxy.Endpoint{}, errors.New("--listen: want one that speaks HTTP, which socks5://HOST:PORT does not")
}

// reachableHost is where to reach a listener on all interfaces.
func reachableHost(host string) string {
	addr, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && addr.Unmap() == netip.IPv4Unspecified():
		return "127.0.0.1"
	case err == nil && addr.IsUnspecified():
		return "::1"
	}
	return host
}

// instanceError is an instance that does not do what is asked of it, in the
// words of a report.
type instanceError struct {
	what, hint string
	final      bool // asking again is of no use
	absent     bool // there is none
}

func (e *instanceError) Error() string { return e.what }

func (i *instance) dial(ctx context.Context) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, i.where.Network, i.where.Address)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		<-ctx.Done() // the dialer, which has no other deadline, was before its timer
	}
	if ctx.Err() != nil {
		if err == nil {
			c.Close()
		}
		return nil, i.silent()
	}
	if err != nil {
		return nil, &instanceError{what: fmt.Sprintf("no sstproxy answers at %v: %v", i.where, plainCause(err)),
			hint: "start it, or say with --listen where it is", absent: true}
	}
	return c, nil
}

// plainCause is what the system said, without the names of calls.
func plainCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// ask sends one request and returns the answer with its body in whole.
func (i *instance) ask(ctx context.Context, req *http.Request) (resp *http.Response, body []byte, err error) {
	c, err := i.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	err = i.exchange(ctx, c, func() error {
		if resp, _, err = answerOn(c, req); err == nil {
			body, err = io.ReadAll(io.LimitReader(resp.Body, maxStatus))
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return resp, body, i.refusal(resp)
}

// silent is about an answer that did not come in time.
func (i *instance) silent() *instanceError {
	return &instanceError{what: fmt.Sprintf("the sstproxy at %v has not answered", i.where), hint: "see its log"}
}

// answerOn sends a request and reads the header of the answer. What follows is
// to be read from the reader.
func answerOn(c net.Conn, req *http.Request) (*http.Response, *bufio.Reader, error) {
	if err := req.Write(c); err != nil {
		return nil, nil, err
	}
	header := &io.LimitedReader{R: c, N: maxAnswer}
	r := bufio.NewReader(header)
	resp, err := http.ReadResponse(r, req)
	header.N = math.MaxInt64
	return resp, r, err
}

// exchange does something on a connection to the instance, until ctx ends.
func (i *instance) exchange(ctx context.Context, c net.Conn, do func() error) error {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	err := do()
	switch {
	case !stop():
		return i.silent()
	case err != nil:
		return i.stranger("gives no answer: " + plainCause(err).Error())
	}
	return nil
}

// stranger is about what answers and is not sstproxy, by what is known.
func (i *instance) stranger(does string) *instanceError {
	return &instanceError{what: fmt.Sprintf("what listens at %v %s", i.where, does), hint: "it may be another program: say with --listen where sstproxy is"}
}

// refusal tells whether the instance wants another login.
func (i *instance) refusal(resp *http.Response) error {
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusProxyAuthRequired {
		return nil
	}
	return &instanceError{what: fmt.Sprintf("the sstproxy at %v wants the login of its proxy", i.where),
		hint: "give the --proxy-user and the password that it was started with", final: true}
}

// status asks for the state of the tunnel.
func (i *instance) status(ctx context.Context) (*status, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1"+statusPath, nil)
	if err != nil {
		return nil, err
	}
	if i.user != "" {
		req.SetBasicAuth(i.user, i.password)
	}
	resp, body, err := i.ask(ctx, req)
	if err != nil {
		return nil, err
	}
	var s status
	if resp.StatusCode != http.StatusOK {
		return nil, i.stranger("does not tell the state of a tunnel: status " + resp.Status)
	}
	if err := json.Unmarshal(body, &s); err != nil || s.Status == "" {
		return nil, i.stranger("does not tell the state of a tunnel")
	}
	return &s, nil
}

// up is nil if the tunnel is up.
func (i *instance) up(ctx context.Context) (*status, error) {
	s, err := i.status(ctx)
	if err != nil || s.isUp() {
		return s, err
	}
	e := &instanceError{what: fmt.Sprintf("the tunnel to %s is not up: %s", s.Server, s.Status), hint: s.hint()}
	if s.Cause != nil {
		e.what += "; " + s.Cause.What
	}
	return s, e
}

// reach opens a connection to a destination through the instance, and closes it.
func (i *instance) reach(ctx context.Context, destination string) error {
	c, err := i.open(ctx, destination)
	if err == nil {
		c.Close()
	}
	return err
}

// open opens a connection to a destination through the instance. ctx bounds the
// opening only.
func (i *instance) open(ctx context.Context, destination string) (*instanceConn, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodConnect, "http://"+destination, nil)
	if err != nil {
		return nil, err
	}
	if i.user != "" {
		req.SetBasicAuth(i.user, i.password)
		req.Header["Proxy-Authorization"] = req.Header["Authorization"]
		req.Header.Del("Authorization")
	}
	conn, err := i.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &instanceConn{Conn: conn}
	var resp *http.Response
	err = i.exchange(ctx, conn, func() (err error) {
		resp, c.r, err = answerOn(conn, req)
		return err
	})
	if err == nil {
		err = i.refused(ctx, resp, destination)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// refused tells why the instance did not open a connection, nil if it did.
func (i *instance) refused(ctx context.Context, resp *http.Response, destination string) error {
	if err := i.refusal(resp); err != nil || resp.StatusCode == http.StatusOK {
		return err
	}
	what := resp.Header.Get("X-Sstproxy-Error")
	if what == "" {
		what = fmt.Sprintf("%s: status %s", destination, resp.Status)
	}
	return &instanceError{what: what, hint: i.advice(ctx, resp)}
}

// advice is the hint for a connection that was refused: where the tunnel is
// down, it is not the destination that has to be looked at.
func (i *instance) advice(ctx context.Context, resp *http.Response) string {
	if resp.StatusCode == http.StatusServiceUnavailable {
		if s, err := i.status(ctx); err == nil && !s.isUp() {
			return s.hint()
		}
	}
	return "check HOST:PORT; --timeout TIME waits longer"
}

// instanceConn is a connection through an instance, with what was read ahead.
type instanceConn struct {
	net.Conn
	r *bufio.Reader
}

// Read implements net.Conn.
func (c *instanceConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// CloseWrite closes the sending direction.
func (c *instanceConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger is that of *net.TCPConn, where that exists.
func (c *instanceConn) SetLinger(sec int) error {
	if l, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok {
		return l.SetLinger(sec)
	}
	return errors.ErrUnsupported
}
