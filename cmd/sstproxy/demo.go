package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sstproxy/netstack"
	"sstproxy/tunnel"
	"sstproxy/tunnel/tunneltest"
)

// The account of the demo's server.
const (
	demoUser     = "alice"
	demoPassword = "wonderland"
)

// demoTimeout bounds each step of the demo; everything is on this machine.
const demoTimeout = 20 * time.Second

// demoOptions are the flags of demo.
type demoOptions struct {
	listen []string
	once   bool
	logs   logOptions
}

func (o *demoOptions) groups() []group {
	return []group{
		newGroup("Demo", func(fs *pflag.FlagSet) {
			fs.StringArrayVar(&o.listen, "listen", nil, "serve on `WHERE`, as for connect (default "+defaultListen+",\nor a free port if that is in use)")
			fs.BoolVar(&o.once, "once", false, "exit when everything has been shown")
		}),
		newGroup("Log", o.logs.define),
	}
}

func (a *app) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show it all on this machine alone: a server, a tunnel to it, a page through both proxies",
		Long: `Starts an SSTP server on a free port of 127.0.0.1 with a private network behind
it (a name server and the page http://` + demoHost + `/), connects to it as
connect would, fetches the page by name through SOCKS5 and through HTTP, says
what that proved, and stays up for you to try it.`,
		Example: "  sstproxy demo\n  curl -x socks5h://127.0.0.1:1080 http://" + demoHost + "/",
		Args:    arguments(),
	}
	attach(cmd, o.groups())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := a.applyEnvironment(cmd); err != nil {
			return err
		}
		return a.demo(cmd, &o)
	}
	return cmd
}

// demo starts server and client and lets the client run.
func (a *app) demo(cmd *cobra.Command, o *demoOptions) error {
	log, view, err := a.output(&o.logs, "")
	if err != nil {
		return usage(cmd, err)
	}
	if s, ok := view.(*screen); ok {
		s.brief = true
	}
	listeners, note, err := o.open(cmd)
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	server, err := startIntranet(log)
	if err != nil {
		return err
	}
	defer server.Close()
	d := &demonstration{w: a.stdout, server: server, listeners: listeners, once: o.once}
	d.say("server   %s, an SSTP server with the private network %s behind it", server.Addr(), demoNetwork)
	if note != "" {
		d.say("note     %s", note)
	}
	c := &client{
		keeper: tunnel.KeeperConfig{
			Tunnel: tunnel.Config{
				Server: server.Addr().String(), User: demoUser, Password: demoPassword,
				TLS: tunnel.TLSConfig{CA: server.CA()}, Logger: log,
			},
			ConnectTimeout: demoTimeout, GiveUpAfter: never,
		},
		listeners: listeners, wait: demoTimeout, view: view, log: log, up: d.run,
	}
	return c.run(cmd.Context())
}

// open opens what --listen says, or the default with another port if that one
// is in use; note then says so.
func (o *demoOptions) open(cmd *cobra.Command) (listeners []listener, note string, err error) {
	local := localOptions{listen: o.listen}
	if len(o.listen) == 0 {
		local.listen = []string{defaultListen}
	}
	endpoints, err := local.endpoints()
	if err != nil {
		return nil, "", usage(cmd, err)
	}
	listeners, err = listen(endpoints)
	if len(o.listen) == 0 && errors.Is(err, syscall.EADDRINUSE) {
		endpoints[0].Address = "127.0.0.1:0"
		listeners, err = listen(endpoints)
		note = defaultListen + " is in use by another program, so the proxy took a free port"
	}
	return listeners, note, err
}

// demonstration is what the demo does once the proxies serve.
type demonstration struct {
	w         io.Writer
	server    *tunneltest.Server
	listeners []listener
	once      bool

	fingerprint [32]byte // of the server's certificate
}

func (d *demonstration) say(format string, args ...any) { fmt.Fprintf(d.w, format+"\n", args...) }

// run proves what there is to prove, prints it and says what to type next.
func (d *demonstration) run(ctx context.Context, info tunnel.Info, _ *netstack.Stack) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	if _, err := d.server.Wait(ctx, tunneltest.EventBindingVerified); err != nil {
		return err
	}
	d.fingerprint = tunnel.Fingerprint(info.Certificate)
	d.say("tunnel   %s, %v, address %v, name server %s", tls.VersionName(info.TLSVersion), info.Method, info.IPv4.Addr, dnsOf(info))
	d.say("\nproved")
	d.say("  the server's certificate, against the authority made for this run")
	d.say("  the password to the server, and the server's knowledge of it to the client (%v)", info.Method)
	d.say("  that both are the ends of one TLS connection: crypto binding with %v, verified by the server", info.Hash)
	for _, l := range d.listeners {
		for _, u := range l.urls() {
			if err := d.fetch(ctx, l, u); err != nil {
				return fmt.Errorf("demo: http://%s/ by way of %s: %w", demoHost, u, err)
			}
		}
	}
	if d.once {
		return errStopped
	}
	d.suggest()
	return nil
}

// fetch gets the page by name through one proxy URL, with the HTTP client of
// the standard library.
func (d *demonstration) fetch(ctx context.Context, l listener, proxyURL string) error {
	via, err := url.Parse(proxyURL)
	if err != nil {
		return err
	}
	if l.endpoint.Network == "unix" {
		d.say("  %s: left to you, Go's HTTP client has no proxies on sockets", proxyURL)
		return nil
	}
	transport := &http.Transport{Proxy: http.ProxyURL(via), DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+demoHost+"/", nil)
	if err != nil {
		return err
	}
	begun := time.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), demoGreeting) {
		return fmt.Errorf("status %s, which is not the page", resp.Status)
	}
	d.say("  http://%s/ through %s: found by the name server in the tunnel, %d octets in %s",
		demoHost, proxyURL, len(body), rounded(time.Since(begun)))
	return nil
}

// suggest prints lines that work as pasted, with the ports really bound.
func (d *demonstration) suggest() {
	d.say("\ntry it in another terminal")
	for _, l := range d.listeners {
		for _, u := range l.urls() {
			d.say("  curl -x %s http://%s/", u, demoHost)
		}
	}
	d.say("or connect to the same server once more")
	fp := tunnel.FormatFingerprint(d.fingerprint)
	d.say("  SSTPROXY_PASSWORD=%s %s connect %s -u %s --listen 127.0.0.1:0 --fingerprint %s",
		demoPassword, os.Args[0], d.server.Addr(), demoUser, fp)
	d.say("\nCtrl-C ends the demo")
}
