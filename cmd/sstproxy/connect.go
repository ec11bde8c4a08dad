package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sstproxy/netstack"
	"sstproxy/proxy"
	"sstproxy/tunnel"
)

func (a *app) connectCommand() *cobra.Command {
	var o options
	var from profileOptions
	cmd := &cobra.Command{
		Use:   "connect SERVER|PROFILE...",
		Short: "Connect to SERVER (HOST or HOST:PORT) and serve its network through local proxies",
		Long: `Runs until SIGINT or SIGTERM, which ends the session in order; a second one
ends the program at once. Names that clients ask the proxies for are looked up
in the tunnel, never on this machine.

A PROFILE is a table of the configuration file: a server, and flags as keys.
Several profiles run side by side; one that fails for good leaves the others
alone, and the exit code tells of it in the end.

Exit codes: 0 stopped on request, 1 not connected or lost, 2 wrong usage,
3 the server refused the credentials.`,
		Example: `  sstproxy connect vpn.example.com -u alice
  curl -x socks5h://127.0.0.1:1080 http://intranet/
  curl -x http://127.0.0.1:1080 http://intranet/
  sstproxy connect work home --config vpn.toml`,
		ValidArgsFunction: a.completeProfile,
	}
	attach(cmd, append(o.connectGroups(), newGroup("Profiles", from.define)))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.applyEnvironment(cmd); err != nil {
			return err
		}
		profiles, err := a.profiles(cmd.Context(), from.config, args, &o)
		if cmd.Context().Err() != nil {
			return nil // stopped on request
		}
		if err != nil {
			return usage(cmd, err)
		}
		if wantStdio(profiles) {
			return a.stdio(cmd, profiles)
		}
		return a.connect(cmd, profiles, func(*client) {})
	}
	return cmd
}

// connect brings up the tunnels of the profiles. What can be found wrong
// without dialling is found first, then the listeners are opened, so that a
// port in use is known at once, then the passwords are read: a server does not
// wait while somebody types. Each client is shown to adapt before it runs.
func (a *app) connect(cmd *cobra.Command, profiles []*profile, adapt func(*client)) error {
	ctx := cmd.Context()
	plans, err := a.plans(profiles)
	if err != nil {
		return usage(cmd, err)
	}
	if file := plans[0].file; file != nil {
		warnWritable(plans[0].log, file.path)
	}
	clients := make([]*client, len(plans))
	for i, p := range plans {
		c, end, err := p.open(cmd)
		if err != nil {
			return err
		}
		defer end()
		clients[i] = c
	}
	for i, p := range plans {
		if err := a.secrets(ctx, p.profile, clients[i]); err != nil {
			if ctx.Err() != nil || errors.Is(err, errStopped) {
				return nil
			}
			return usage(cmd, p.located(err))
		}
		adapt(clients[i])
	}
	if len(plans) == 1 {
		return plans[0].named(clients[0].run(ctx))
	}
	useProcessors(a.env, len(plans))
	return runAll(ctx, plans, clients)
}

// plan is a profile whose options have been found good, as far as looking at
// them can tell.
type plan struct {
	*profile
	tunnel    tunnel.Config
	endpoints []proxy.Endpoint
	dns       []proxy.Endpoint // of --dns-listen
	memory    netstack.Memory
	names     naming
	log       *slog.Logger
	view      view
}

// plan finds what is wrong with a profile without touching the network or
// anything else of this machine.
func (a *app) plan(p *profile) (*plan, error) {
	o := p.options
	cfg, err := o.tunnelConfig(p.server)
	if err != nil {
		return nil, err
	}
	endpoints, err := o.local.endpoints()
	if err != nil {
		return nil, err
	}
	names, err := o.names.naming()
	if err != nil {
		return nil, err
	}
	dnsListen, err := o.names.endpoints(o.local.allowOpenProxy)
	if err != nil {
		return nil, err
	}
	memory, err := netstack.ParseMemory(o.link.memory)
	if err != nil {
		return nil, err
	}
	log, view, err := a.output(&o.logs, p.name)
	if err != nil {
		return nil, err
	}
	return &plan{p, cfg, endpoints, dnsListen, memory, names, log, view}, nil
}

// open opens what the profile needs on this machine. The caller must call end.
func (p *plan) open(cmd *cobra.Command) (c *client, end func(), err error) {
	o := p.options
	listeners, err := listen(p.endpoints)
	if err != nil {
		return nil, nil, p.named(err)
	}
	forwards, err := o.forwards.open()
	if err != nil {
		closeAll(listeners)
		return nil, nil, p.named(err)
	}
	forwarders, err := openForwarders(p.dns)
	shut := func() {
		closeForwarders(forwarders)
		closeForwards(forwards)
		closeAll(listeners)
	}
	if err != nil {
		shut()
		return nil, nil, p.named(err)
	}
	cfg, log := p.tunnel, p.log
	recording, err := o.record.open(&cfg, log, p.view.warn)
	if err != nil {
		shut()
		return nil, nil, usage(cmd, p.located(err))
	}
	c = &client{
		keeper: tunnel.KeeperConfig{
			Tunnel: cfg, ConnectTimeout: o.link.connectTimeout,
			GiveUpAfter: o.survival.giveUpAfter, KeepTrying: o.survival.keepTrying,
		},
		listeners: listeners, forwards: forwards, forwarders: forwarders, wait: o.survival.waitForTunnel, memory: p.memory, ping: o.link.answerPing, names: p.names, view: p.view, log: log,
	}
	c.keeper.Tunnel.Logger = log
	return c, func() {
		recording.close()
		shut()
	}, nil
}

// tunnelConfig is everything about the tunnel but the password.
func (o *options) tunnelConfig(server string) (tunnel.Config, error) {
	var none tunnel.Config
	if err := o.check(); err != nil {
		return none, firstOf(err)
	}
	if err := checkServer(server); err != nil {
		return none, err
	}
	identity, err := o.identity.tls()
	if err != nil {
		return none, err
	}
	methods, err := o.account.methods()
	if err != nil {
		return none, err
	}
	address, err := o.link.address()
	if err != nil {
		return none, err
	}
	return tunnel.Config{
		Server: server, ServerName: o.identity.serverName, TLS: identity,
		User: o.account.user, AllowPAP: o.account.allowPAP, Methods: methods,
		RequestAddress: address, IPv6: ipv6Words[o.link.ipv6], MTU: o.link.mtu,
		Keepalive: o.survival.keepalive,
	}, nil
}

// firstOf is the first of joined errors: one line is what a wrong usage gets.
func firstOf(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()[0]
	}
	return err
}

// checkServer finds what is no HOST or HOST:PORT, such as a pasted URL.
func checkServer(server string) error {
	if strings.Contains(server, "@") {
		// Not repeated: there may be a password in it.
		return errors.New("SERVER: want HOST or HOST:PORT; the account goes to --user NAME")
	}
	host := strings.TrimSuffix(strings.TrimPrefix(server, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return nil // an address without a port
	}
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = server, strconv.Itoa(tunnel.DefaultPort)
	}
	if host == "" || strings.ContainsAny(server, "/ ") || strings.ContainsAny(host, ":[]") && !strings.HasPrefix(server, "[") {
		return fmt.Errorf("SERVER %q: want HOST or HOST:PORT", server)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("SERVER %q: the port must be 1 to 65535", server)
	}
	return nil
}

// tls reads the flags that say how the server proves who it is.
func (o *identityOptions) tls() (tunnel.TLSConfig, error) {
	c := tunnel.TLSConfig{Insecure: o.insecure}
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		if err != nil {
			return c, fmt.Errorf("--ca %s: %w", o.ca, errors.Unwrap(err))
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return c, fmt.Errorf("--ca %s: holds no certificate in PEM", o.ca)
		}
		c.CA = pem
	}
	if strings.ContainsAny(o.serverName, ":/@ []") && net.ParseIP(o.serverName) == nil {
		return c, fmt.Errorf("--server-name %q: want a name or an address", o.serverName)
	}
	for _, s := range o.pins {
		pin, err := tunnel.ParsePin(s)
		if err != nil {
			return c, fmt.Errorf("--pin: %w", err)
		}
		c.Pins = append(c.Pins, pin)
	}
	for _, s := range o.fingerprints {
		fp, err := tunnel.ParseFingerprint(s)
		if err != nil {
			return c, fmt.Errorf("--fingerprint: %w", err)
		}
		c.Fingerprints = append(c.Fingerprints, fp)
	}
	return c, nil
}

// endpoints reads --listen, and refuses to open the private network to the
// neighbours by accident.
func (o *localOptions) endpoints() ([]proxy.Endpoint, error) {
	if o.proxyUser == "" && o.proxyPasswordFile != "" {
		return nil, errors.New("--proxy-password-file: needs --proxy-user NAME")
	}
	var endpoints []proxy.Endpoint
	for _, spec := range o.listen {
		if strings.Contains(spec, "@") && !strings.HasPrefix(spec, "unix:") {
			// Not repeated: there may be a password in it.
			return nil, errors.New("--listen: want no name and no password in WHERE, but --proxy-user NAME")
		}
		e, err := proxy.ParseEndpoint(spec)
		if err != nil {
			return nil, fmt.Errorf("--listen %s: %w", spec, err)
		}
		if e.Exposed() && o.proxyUser == "" && !o.allowOpenProxy {
			return nil, fmt.Errorf("--listen %s: reachable from other machines, so it needs --proxy-user NAME (or --allow-open-proxy)", spec)
		}
		e.AnyUser = o.allowOpenProxy
		endpoints = append(endpoints, e)
	}
	return endpoints, nil
}

// secrets reads the account's password and, if the proxy has a user, its own.
func (a *app) secrets(ctx context.Context, p *profile, c *client) (err error) {
	o := p.options
	if o.account.passwordFile == "-" && o.local.proxyPasswordFile == "-" {
		return errors.New("--proxy-password-file -: standard input already holds the password of the account")
	}
	if o.account.passwordFile == "-" && o.forwards.stdio != "" {
		return errors.New("--password-file -: standard input belongs to the connection; give a FILE or SSTPROXY_PASSWORD")
	}
	warnReadable(c.log, o.account.passwordFile, o.local.proxyPasswordFile)
	account := secret{who: p.who(o.account.user), file: o.account.passwordFile, flag: "--password-file", env: envPrefix + "PASSWORD"}
	if o.account.once {
		once := &onceSecret{source: account, app: a}
		c.keeper.Secret, err = once.next, once.read(ctx)
	} else {
		c.keeper.Tunnel.Password, err = a.readSecret(ctx, account)
	}
	if err != nil || o.local.proxyUser == "" {
		return err
	}
	c.proxy.User = o.local.proxyUser
	c.proxy.Password, err = a.readProxyPassword(ctx, p.who(o.local.proxyUser), &o.local)
	return err
}

// readProxyPassword reads the password of the proxy's user, who is called who.
func (a *app) readProxyPassword(ctx context.Context, who string, o *localOptions) (string, error) {
	return a.readSecret(ctx, secret{
		who: "proxy user " + who, file: o.proxyPasswordFile, flag: "--proxy-password-file", env: envPrefix + "PROXY_PASSWORD",
	})
}

// listener is an open local listener and what it serves.
type listener struct {
	endpoint proxy.Endpoint
	net.Listener
}

// listen opens all endpoints, or none.
func listen(endpoints []proxy.Endpoint) ([]listener, error) {
	var open []listener
	for _, e := range endpoints {
		l, err := e.Listen()
		if err != nil {
			closeAll(open)
			return nil, &listenError{where: e.String(), err: err}
		}
		open = append(open, listener{e, l})
	}
	return open, nil
}

func closeAll(listeners []listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// urls are what a client of the listener is given, with the port really bound.
func (l listener) urls() []string {
	address := l.Addr().String()
	if l.endpoint.Network == "unix" {
		if path, err := filepath.Abs(address); err == nil {
			address = path
		}
		return []string{"socks5h://localhost" + address}
	}
	switch l.endpoint.Mode {
	case proxy.ModeSOCKS5:
		return []string{"socks5h://" + address}
	case proxy.ModeHTTP:
		return []string{"http://" + address}
	}
	return []string{"socks5h://" + address, "http://" + address}
}
