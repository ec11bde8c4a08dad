package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"sstproxy/netstack"
	"sstproxy/proxy"
	"sstproxy/proxy/forward"
	"sstproxy/tunnel/tunneltest"
)

// The private network: the server's end with the name server, and the host.
var (
	network = netip.MustParsePrefix("10.98.0.0/24")
	gateway = netip.MustParseAddr("10.98.0.1")
	host    = netip.MustParseAddr("10.98.0.80")
)

// service is a port of the host and what stands behind it.
type service struct {
	transport string // tcp or udp
	port      uint16
	target    string // HOST:PORT of this machine
}

// parseServices parses PORT=HOST:PORT[/udp].
func parseServices(args []string) ([]service, error) {
	var all []service
	for _, arg := range args {
		s := service{transport: "tcp"}
		rest, udp := strings.CutSuffix(arg, "/udp")
		if udp {
			s.transport = "udp"
		}
		port, target, found := strings.Cut(rest, "=")
		n, err := strconv.ParseUint(port, 10, 16)
		if _, _, splitErr := net.SplitHostPort(target); !found || err != nil || n == 0 || splitErr != nil {
			return nil, fmt.Errorf("%q: want PORT=HOST:PORT, or that and /udp", arg)
		}
		s.port, s.target = uint16(n), target
		all = append(all, s)
	}
	return all, nil
}

// config makes every session a network of its own, with the same services.
func config(services []service, log *slog.Logger) tunneltest.Config {
	return tunneltest.Config{
		Users: map[string]string{user: password},
		Pool:  network, Gateway: gateway, DNS: []netip.Addr{gateway},
		Attach: func(c tunneltest.Client) tunneltest.Network {
			n, err := attach(c, services, log)
			if err != nil {
				log.Error("the private network does not start", "err", err)
			}
			return n
		},
	}
}

// site is the network behind one session.
type site struct {
	stack *netstack.Stack
	proxy *proxy.Server // joins the connections; no client of a proxy uses it
	log   *slog.Logger
	end   context.CancelFunc
	wg    sync.WaitGroup
}

func attach(c tunneltest.Client, services []service, log *slog.Logger) (tunneltest.Network, error) {
	var none tunneltest.Network
	stack, err := netstack.New(netstack.Config{Headroom: tunneltest.Headroom, PutHeader: tunneltest.PutHeader, AnswerPing: true})
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &site{stack: stack, proxy: proxy.New(proxy.Config{Logger: log, Dial: noDial}), log: log, end: cancel}
	if err := s.serve(ctx, c, services); err != nil {
		s.close()
		return none, err
	}
	return tunneltest.Network{Deliver: stack.Deliver, Ready: stack.Ready(), Fill: stack.Fill, Detach: s.close}, nil
}

// noDial is for a proxy that only joins.
func noDial(context.Context, string, string) (net.Conn, error) { return nil, errors.ErrUnsupported }

// serve starts the name server and the services; they end with close.
func (s *site) serve(ctx context.Context, c tunneltest.Client, services []service) error {
	err := s.stack.SetLink(netstack.Link{MTU: c.MTU, Addrs: []netip.Prefix{
		netip.PrefixFrom(c.Gateway, network.Bits()), netip.PrefixFrom(host, network.Bits()),
	}})
	if err != nil {
		return err
	}
	if err := s.serveNames(ctx, c.Gateway); err != nil {
		return err
	}
	for _, v := range services {
		if err := s.open(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// open leads a port of the host to this machine.
func (s *site) open(ctx context.Context, v service) error {
	at := netip.AddrPortFrom(host, v.port).String()
	dial := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, v.transport, v.target)
	}
	if v.transport == "tcp" {
		l, err := s.stack.Listen("tcp", at)
		if err != nil {
			return err
		}
		s.wg.Go(func() { s.proxy.Join(l, dial) }) // ends with the proxy
		return nil
	}
	pc, err := s.stack.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	relay := forward.UDP{Dial: dial, Logger: s.log}
	s.wg.Go(func() { relay.Serve(ctx, pc.(forward.Socket)) }) // ends with ctx
	return nil
}

func (s *site) close() {
	s.end()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	s.proxy.Shutdown(ended)
	s.stack.Close()
	s.wg.Wait()
}
