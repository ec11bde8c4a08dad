package main

import (
	"context"
	"errors"
	"log/slog"
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
	keeper     tunnel.KeeperConfig // Up, Down and Changed are the client's
	proxy      proxy.Config        // Dial and the functions beside it are the client's
	listeners  []listener
	forwards   []*forwarding
	forwarders []*forwarder  // of DNS
	wait       time.Duration // of a dial for a tunnel that is down
	memory     netstack.Memory
	ping       bool // answered
	names      naming
	view       view
	log        *slog.Logger

	// dial is how the program itself reaches what is behind the tunnel, by the
	// names it was told and whatever the rules say; run sets it.
	dial proxy.DialFunc

	// up, if set, is called once when the tunnel is up for the first time. When
	// it returns, or if it is nil, the client goes on until it is stopped or
	// has to give up; an error ends it.
	up func(context.Context, tunnel.Info, *netstack.Stack) error

	// isolated, if set, is where the packets go once its command begins.
	isolated *isolation

	// private says that nobody but the command of run is to use the proxy.
	private bool

	// deaf leaves SIGHUP and SIGUSR1 alone: they are for somebody else.
	deaf bool

	lost func() // called when the tunnel is down
}

// run connects, serves, and connects again when the session is lost, until ctx
// ends, which is no error, or the tunnel can't be kept up, which is.
func (c *client) run(ctx context.Context) error {
	stack, err := netstack.New(netstack.Config{
		Headroom: tunnel.Headroom, PutHeader: tunnel.PutHeader, Memory: c.memory, AnswerPing: c.ping, Logger: c.log,
	})
	if err != nil {
		return err
	}
	defer stack.Close()
	if err := openRemote(c.forwards, stack); err != nil {
		return err
	}
	joint := &joint{stack: stack, space: c.isolated, log: c.log, dns: c.names.servers}
	defer joint.stop()
	c.keeper.Up = joint.up
	c.keeper.Down = func() {
		joint.down()
		c.lost()
	}
	c.keeper.Precious = func() bool { return c.isolated != nil || stack.Stats().Connections > 0 }
	c.keeper.Changed = c.view.state
	c.view.begin(c.keeper.Tunnel, opened{c.listeners, c.forwards, c.forwarders})
	return c.serve(ctx, tunnel.NewKeeper(c.keeper), stack)
}

// serve runs the tunnel and the proxies until ctx ends or one of them does.
func (c *client) serve(ctx context.Context, keeper *tunnel.Keeper, stack *netstack.Stack) error {
	memory := newTrimmer(giveBack)
	defer memory.stop()
	gate := &gate{keeper: keeper, dial: stack.DialContext, stack: stack, wait: c.wait}
	router := newRouter(c.names, gate)
	c.proxy.Dial, c.proxy.Listen, c.proxy.ListenPacket = router.dialContext, gate.listen, router.listenPacket
	c.proxy.Lookup, c.proxy.LookupAddr = router.lookup, router.lookupAddr
	c.dial = newRouter(c.names.inTunnel(), gate).dialContext
	c.proxy.ConnsChanged, c.proxy.Logger = memory.count, c.log
	c.proxy.DialTimeout = dialTimeout + c.wait
	c.proxy.Files = map[string]proxy.File{
		statusPath: {Serve: serveStatus(c.keeper.Tunnel.Server, keeper.State)},
		pacPath:    c.names.pac(c.listeners),
	}
	if pac := c.proxy.Files[pacPath]; c.private {
		pac.Public = false
		c.proxy.Files[pacPath] = pac
	}
	server := proxy.New(c.proxy)
	c.lost = server.CloseIdle // what is dialled anew passes the gate

	over, fail := context.WithCancelCause(ctx) // on request, or with whatever ends first
	defer fail(nil)
	kept, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	var wg sync.WaitGroup
	wg.Go(func() { fail(keeper.Run(kept)) }) // ends with the tunnel, at the latest when released
	for _, l := range c.listeners {
		wg.Go(func() { // ends with the server's shutdown
			if err := server.Serve(l, l.endpoint.Mode); over.Err() == nil {
				fail(&listenError{where: l.endpoint.String(), err: err})
			}
		})
	}
	c.startForwards(over, &wg, server, c.dial, fail)
	c.startForwarders(over, &wg, router, gate, fail)
	wg.Go(func() { c.whenUp(over, keeper, stack, fail) }) // ends with over
	if !c.deaf {
		defer onSignals(keeper.Reconnect, func() { logState(c.log, keeper, stack, server) }, func() { fail(errStopped) })()
	}

	<-over.Done()
	state, _ := keeper.State()
	c.stop(ctx, server, stack, state.IsUp())
	release()
	wg.Wait()
	c.view.down()
	if ctx.Err() != nil || errors.Is(context.Cause(over), errStopped) {
		return nil
	}
	return context.Cause(over)
}

// dialTimeout bounds a dial through a tunnel that is up.
const dialTimeout = time.Minute

// whenUp calls c.up when the tunnel is up for the first time.
func (c *client) whenUp(ctx context.Context, keeper *tunnel.Keeper, stack *netstack.Stack, fail context.CancelCauseFunc) {
	for c.up != nil {
		state, changed := keeper.State()
		if state.IsUp() {
			if err := c.up(ctx, state.Info, stack); err != nil {
				fail(err)
			}
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// stop ends the proxies: in order if that was asked for or the tunnel is up, so
// that what their clients have written gets there; at once if it is gone anyway.
func (c *client) stop(requested context.Context, server *proxy.Server, stack *netstack.Stack, up bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(requested), drainTime)
	defer cancel()
	if requested.Err() == nil && !up {
		cancel()
	}
	c.view.stopping()
	if err := server.Shutdown(ctx); err != nil {
		c.log.Debug("transfers cut", "err", err)
	}
	if !up {
		return
	}
	if err := stack.Drain(ctx); err != nil {
		c.log.Debug("not all acknowledged", "err", err)
	}
}
