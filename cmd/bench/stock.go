package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"

	"sstproxy/netstack"
	"sstproxy/proxy"
	"sstproxy/tunnel"
)

// runStock is sstproxy without its one departure from stock TCP: the same
// packages joined in the same way, but the stack is not told when the tunnel
// stands still, so its clock never stops. What remains is gVisor's CUBIC and
// RACK as they are.
func runStock(target string, ca []byte, account string) error {
	halfProcessors()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	stack, err := netstack.New(netstack.Config{Headroom: tunnel.Headroom, PutHeader: tunnel.PutHeader})
	if err != nil {
		return err
	}
	defer stack.Close()
	session, err := tunnel.Dial(ctx, tunnel.Config{
		Server: target, ServerName: "localhost", TLS: tunnel.TLSConfig{CA: ca},
		User: account, Password: benchPassword, MTU: tunnelMTU,
	})
	if err != nil {
		return err
	}
	defer session.Close()
	info := session.Info()
	link := netstack.Link{MTU: info.MTU, Addrs: []netip.Prefix{netip.PrefixFrom(info.IPv4.Addr, info.IPv4.Addr.BitLen())}}
	if err := stack.SetLink(link); err != nil {
		return err
	}
	return serveStock(ctx, session, stack)
}

// serveStock runs the session and the proxy until ctx ends.
func serveStock(ctx context.Context, session *tunnel.Session, stack *netstack.Stack) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := proxy.New(proxy.Config{Dial: stack.DialContext})
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(l, proxy.ModeSOCKS5) }) // ends with Shutdown
	err = json.NewEncoder(os.Stdout).Encode(l.Addr().String())
	if err == nil {
		err = session.Run(ctx, tunnel.Packets{Deliver: stack.Deliver, Ready: stack.Ready(), Fill: stack.Fill})
	}
	stack.LinkDown()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	server.Shutdown(over)
	wg.Wait()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
