package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"sstproxy/cmd/sstproxy/netns"
	"sstproxy/netstack"
	"sstproxy/tunnel"
)

// isolation is a command in a network of its own, which takes the place of the
// stack at the end of the tunnel when the command begins. Until then the stack
// has the packets: by it we see whether traffic flows.
type isolation struct {
	space  *netns.Space
	cmd    *exec.Cmd
	cancel context.CancelFunc // tells the command to end
	begun  atomic.Bool
	log    *slog.Logger
	search []string
	addrs  []netip.Addr // of the link; joint's lock guards them

	join sync.Once
	done chan struct{}
	wg   sync.WaitGroup
}

// checkIsolated finds what a command in a network of its own can't have: all of
// that network goes through the tunnel, and the program's own has no part in it.
func (o *options) checkIsolated() error {
	for _, f := range []struct {
		flag string
		used bool
	}{
		{"--local-forward", len(o.forwards.local) > 0}, {"--remote-forward", len(o.forwards.remote) > 0},
		{"--route", len(o.names.route) > 0},
		{"--else " + o.names.otherwise, o.names.otherwise != "tunnel"},
	} {
		if f.used {
			return fmt.Errorf("--isolate: not with %s: all that the command does goes through the tunnel, and nothing else does", f.flag)
		}
	}
	return nil
}

// isolate makes the network of the command, which is started but for its
// program: whether that can be done should be known before anything is dialled.
func (p *program) isolate(parsed *cobra.Command, o *runOptions) error {
	names, err := o.names.naming()
	if err != nil {
		return usage(parsed, err)
	}
	keepFromCommand(o.account.passwordFile) // the process that becomes it is started now
	ctx, cancel := context.WithCancel(context.Background())
	cmd := p.command(ctx, nil)
	space, err := netns.New(cmd, netns.Config{Headroom: tunnel.Headroom, PutHeader: tunnel.PutHeader, Hosts: names.hosts})
	if errors.Is(err, errors.ErrUnsupported) {
		err = usage(parsed, errors.New("--isolate: only Linux has networks for single commands"))
	}
	if err != nil {
		cancel()
		return err
	}
	p.isolated = &isolation{space: space, cmd: cmd, cancel: cancel, done: make(chan struct{})}
	return nil
}

// adapt makes a client carry the packets, and says what the command will lack.
func (i *isolation) adapt(c *client) {
	c.isolated, i.log, i.search = i, c.log, c.names.search
	for _, what := range i.space.Missing() {
		c.log.Warn("the command's network lacks something", "what", what)
	}
}

// start begins the command; it is told to end when ctx ends.
func (i *isolation) start(ctx context.Context) (*exec.Cmd, error) {
	context.AfterFunc(ctx, i.cancel)
	i.begun.Store(true)
	err := i.space.Release()
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = errno
	}
	return i.cmd, err
}

// end takes the network away, and waits for a command that has not begun.
func (i *isolation) end() {
	i.space.Close()
	close(i.done)
	i.wg.Wait()
	if i.cmd.ProcessState == nil {
		i.cmd.Wait()
	}
	i.cancel()
}

// divert leads the packets of a session to the command once that has begun.
func (i *isolation) divert(p *tunnel.Packets) {
	stack := *p
	p.Deliver = func(batch [][]byte) {
		if i.begun.Load() {
			i.space.Deliver(batch)
			return
		}
		stack.Deliver(batch)
		for n, b := range batch {
			if isICMPv6(b) { // the answer to the kernel's question for a router
				i.space.Deliver(batch[n : n+1])
			}
		}
	}
	p.Fill = func(b []byte) int {
		n := stack.Fill(b) // what is left of a probe, when the command has begun
		return n + i.space.Fill(b[n:])
	}
	p.Ready = i.space.Ready()
	p.Awaits = func() bool { return !i.begun.Load() && stack.Awaits() } // the command's own TCP is a kernel's
	i.join.Do(func() {
		i.wg.Go(func() { // ends with the isolation
			for {
				select {
				case <-stack.Ready:
					i.space.Wake()
				case <-i.done:
					return
				}
			}
		})
	})
}

func isICMPv6(b []byte) bool { return len(b) >= 40 && b[0]>>4 == 6 && b[6] == 58 }

// set gives the command's network a link.
func (i *isolation) set(l netstack.Link) error {
	link := netns.Link{InterfaceID: l.InterfaceID, MTU: l.MTU, DNS: l.DNS, Search: i.search}
	for _, p := range l.Addrs {
		link.Addrs = append(link.Addrs, p.Addr())
	}
	if i.addrs != nil && !slices.Equal(i.addrs, link.Addrs) {
		i.log.Warn("the server gave another address: the command's connections are cut", "addr", link.Addrs, "was", i.addrs)
	}
	i.addrs = link.Addrs
	return i.space.SetLink(link)
}
