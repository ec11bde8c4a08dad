package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"sstproxy/netstack"
	"sstproxy/proxy"
	"sstproxy/tunnel"
)

// drainTime is how long running transfers may go on after the request to stop.
// Together with the bound of the session's own end it limits how long the
// first signal can take.
const drainTime = 3 * time.Second

// client is one tunnel with the stack at its end and the proxies before it.
type client struct {
	tunnel    tunnel.Config
	proxy     proxy.Config // Dial is the stack's
	listeners []listener
	timeout   time.Duration // for the tunnel to come up
	memory    netstack.Memory
	view      view
	log       *slog.Logger

	// up, if set, is called once when the proxies serve. When it returns, or
	// if it is nil, the client goes on until it is stopped or lost; an error
	// ends it.
	up func(context.Context, tunnel.Info) error
}

// run connects and serves until ctx ends, which is no error, or the tunnel is
// lost, which is.
func (c *client) run(ctx context.Context) error {
	stack, err := netstack.New(netstack.Config{
		Headroom: tunnel.Headroom, PutHeader: tunnel.PutHeader, Memory: c.memory, Logger: c.log,
	})
	if err != nil {
		return err
	}
	defer stack.Close()
	session, err := c.dial(ctx)
	if ctx.Err() != nil {
		if err == nil {
			session.Close()
		}
		return nil
	}
	if err != nil {
		return err
	}
	if err := stack.SetLink(linkOf(session.Info())); err != nil {
		session.Close()
		return err
	}
	return c.serve(ctx, session, stack)
}

// dial brings the tunnel up, or gives up after the time allowed.
func (c *client) dial(ctx context.Context) (*tunnel.Session, error) {
	c.view.connecting(c.tunnel)
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errConnectTimeout)
	defer cancel()
	c.tunnel.Logger, c.tunnel.Progress = c.log, c.view.phase
	return tunnel.Dial(ctx, c.tunnel)
}

// linkOf is what the stack needs to know of a session.
func linkOf(info tunnel.Info) netstack.Link {
	link := netstack.Link{MTU: info.MTU, DNS: info.IPv4.DNS, InterfaceID: info.IPv6.InterfaceID}
	if addr := info.IPv4.Addr; addr.IsValid() {
		link.Addrs = []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
	}
	return link
}

// setLink passes on what came up after the start.
func (c *client) setLink(stack *netstack.Stack, info tunnel.Info) {
	if err := stack.SetLink(linkOf(info)); err != nil {
		c.log.Warn("no IPv6", "err", err)
	}
}

// errSessionEnded stands for a session that ended without telling why.
var errSessionEnded = errors.New("the session has ended")

// serve runs the session and the proxies until ctx ends or one of them does.
func (c *client) serve(ctx context.Context, session *tunnel.Session, stack *netstack.Stack) error {
	memory := newTrimmer(debug.FreeOSMemory)
	defer memory.stop()
	c.proxy.Dial, c.proxy.ConnsChanged, c.proxy.Logger = stack.DialContext, memory.count, c.log
	server := proxy.New(c.proxy)

	over, fail := context.WithCancelCause(ctx) // on request, or with whatever ends first
	defer fail(nil)
	linked, unlink := context.WithCancel(context.WithoutCancel(ctx))
	defer unlink()
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the session, at the latest when unlinked
		err := session.Run(linked, tunnel.Packets{
			Deliver: stack.Deliver, Ready: stack.Ready(), Fill: stack.Fill, Stalled: stack.Stalled,
			Changed: func(info tunnel.Info) { c.setLink(stack, info) },
		})
		stack.LinkDown()
		if err == nil {
			err = errSessionEnded
		}
		fail(err)
	})
	for _, l := range c.listeners {
		wg.Go(func() { // ends with the server's shutdown
			if err := server.Serve(l, l.endpoint.Mode); over.Err() == nil {
				fail(&listenError{where: l.endpoint.String(), err: err})
			}
		})
	}
	defer watchState(func() { logState(c.log, stack) })()
	c.view.up(session.Info(), c.listeners)
	if c.up != nil {
		if err := c.up(over, session.Info()); err != nil {
			fail(err)
		}
	}

	<-over.Done()
	c.stop(ctx, server)
	unlink()
	wg.Wait()
	c.view.down()
	if ctx.Err() != nil || errors.Is(context.Cause(over), errStopped) {
		return nil
	}
	return context.Cause(over)
}

// stop ends the proxies: in order if that was asked for, at once if the tunnel
// is gone anyway.
func (c *client) stop(requested context.Context, server *proxy.Server) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(requested), drainTime)
	defer cancel()
	if requested.Err() == nil {
		cancel()
	}
	c.view.stopping()
	if err := server.Shutdown(ctx); err != nil {
		c.log.Debug("transfers cut", "err", err)
	}
}
