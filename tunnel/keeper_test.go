package tunnel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// kept is a Keeper at work in a bubble, with all it told.
type kept struct {
	*pair
	cfg    tunnel.KeeperConfig
	keeper *tunnel.Keeper
	host   chan tunnel.HostEvent
	stop   context.CancelFunc
	ended  chan error

	mu      sync.Mutex
	dials   []time.Time
	refuse  error // what dialling TCP yields, if anything
	wrap    func(net.Conn) net.Conn
	ups     []tunnel.Info
	downs   int
	states  []tunnel.State
	current *near
}

// newKept prepares a Keeper that has a server; change may set more.
func newKept(t *testing.T, cfg tunneltest.Config) *kept {
	k := &kept{pair: newPair(t, cfg), host: make(chan tunnel.HostEvent, 1), ended: make(chan error, 1)}
	dial := k.pair.cfg.DialContext
	k.pair.cfg.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		time.Sleep(time.Millisecond) // a way to the server; meanwhile it notices what was lost
		k.mu.Lock()
		defer k.mu.Unlock()
		k.dials = append(k.dials, time.Now())
		if k.refuse != nil {
			return nil, k.refuse
		}
		conn, err := dial(ctx, network, address)
		if err == nil && k.wrap != nil {
			conn = k.wrap(conn)
		}
		return conn, err
	}
	k.pair.cfg.Progress = nil
	k.cfg = tunnel.KeeperConfig{Tunnel: k.pair.cfg, GiveUpAfter: -1, Up: k.up, Down: k.down, Changed: k.change}
	return k
}

func (k *kept) up(info tunnel.Info) (tunnel.Packets, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ups = append(k.ups, info)
	k.current = newNear()
	return k.current.packets(), nil
}

func (k *kept) down() { k.mu.Lock(); k.downs++; k.mu.Unlock() }

func (k *kept) change(s tunnel.State) { k.mu.Lock(); k.states = append(k.states, s); k.mu.Unlock() }

// start sets the Keeper to work.
func (k *kept) start() {
	k.keeper = tunnel.NewKeeper(k.cfg)
	k.keeper.WatchHost(k.host)
	ctx, stop := context.WithCancel(k.t.Context())
	k.stop = stop
	go func() { k.ended <- k.keeper.Run(ctx) }() // ends with stop
}

// until waits for a state.
func (k *kept) until(what string, is func(tunnel.State) bool) tunnel.State {
	k.t.Helper()
	for {
		s, changed := k.keeper.State()
		if is(s) {
			return s
		}
		select {
		case <-changed:
		case err := <-k.ended:
			k.t.Fatalf("Run = %v, while waiting for %s", err, what)
		}
	}
}

// session waits until the nth session is up.
func (k *kept) session(n int) tunnel.State {
	k.t.Helper()
	return k.until(fmt.Sprintf("session %d", n), func(s tunnel.State) bool { return s.IsUp() && s.Up == n })
}

// end stops the Keeper and wants no error.
func (k *kept) end() {
	k.t.Helper()
	k.stop()
	if err := <-k.ended; err != nil {
		k.t.Errorf("Run = %v, want nil", err)
	}
	if s, _ := k.keeper.State(); s.Status != tunnel.StatusEnded {
		k.t.Errorf("state %v after Run", s.Status)
	}
	k.server.Close()
}

// dialed is when TCP was dialled, so far.
func (k *kept) dialed() []time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.dials)
}

// downed is how often packets stopped.
func (k *kept) downed() int { k.mu.Lock(); defer k.mu.Unlock(); return k.downs }

func (k *kept) refuseWith(err error) { k.mu.Lock(); k.refuse = err; k.mu.Unlock() }

// Whatever ends a session, the next is up soon and asks for the same address.
func TestKeeperReconnects(t *testing.T) {
	for _, tt := range []struct {
		name   string
		end    func(*tunneltest.Conn)
		within time.Duration
		by     tunnel.Origin
	}{
		{"killed", (*tunneltest.Conn).Kill, 10 * time.Millisecond, tunnel.Origin{By: tunnel.PartyServer, Layer: "TLS"}},
		{"disconnected", func(c *tunneltest.Conn) { c.Disconnect(sstp.StatusNoError) }, 2 * time.Second, tunnel.Origin{By: tunnel.PartyServer, Layer: "SSTP"}},
		{"aborted", func(c *tunneltest.Conn) { c.Abort(sstp.StatusInfo{Status: sstp.StatusRetryCountExceeded}) }, 4 * time.Second, tunnel.Origin{By: tunnel.PartyServer, Layer: "SSTP"}},
		{"terminated", func(c *tunneltest.Conn) { c.Terminate("maintenance") }, 4 * time.Second, tunnel.Origin{By: tunnel.PartyServer, Layer: "LCP"}},
		{"garbage", func(c *tunneltest.Conn) { c.Send([]byte("HTTP/1.1 400\r\n")) }, 4 * time.Second, tunnel.Origin{By: tunnel.PartyClient, Layer: "SSTP"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, tunneltest.Config{})
				k.start()
				first := k.session(1)
				synctest.Wait() // until nothing is on its way
				start := time.Now()
				tt.end(k.server.Sessions()[0])
				second := k.session(2)
				if d := time.Since(start); d > tt.within {
					t.Errorf("up again after %v, want within %v", d, tt.within)
				}
				if second.Info.IPv4.Addr != first.Info.IPv4.Addr {
					t.Errorf("address %v, want %v again", second.Info.IPv4.Addr, first.Info.IPv4.Addr)
				}
				if got := tunnel.OriginOf(second.Cause); got != tt.by {
					t.Errorf("origin of %v: %+v, want %+v", second.Cause, got, tt.by)
				}
				k.end()
				if len(k.ups) != 2 || k.downed() != 2 || len(k.dialed()) != 2 {
					t.Errorf("%d up, %d down, %d dials, want 2 of each", len(k.ups), k.downed(), len(k.dialed()))
				}
			})
		})
	}
}

// The pauses grow from none over a second to a minute, and chance takes at most
// a quarter of them.
func TestKeeperBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		k.start()
		k.session(1)
		k.refuseWith(syscall.ECONNREFUSED)
		k.server.Sessions()[0].Kill()
		k.until("ten attempts", func(s tunnel.State) bool { return s.Attempt == 10 && s.Status == tunnel.StatusWaiting })
		want := []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60, 60}
		dials := k.dialed()
		for i, next := range dials[1:] {
			full := want[i] * time.Second
			if i == 0 {
				continue // the first comes when the loss is noticed
			}
			if got := next.Sub(dials[i]); got > full || got < full*3/4 {
				t.Errorf("pause %d: %v, want %v less up to a quarter", i, got, full)
			}
		}
		s, _ := k.keeper.State()
		if !errors.Is(s.Cause, syscall.ECONNREFUSED) || s.NextTry.IsZero() || s.IsUp() {
			t.Errorf("state %+v", s)
		}
		k.refuseWith(nil)
		k.keeper.Reconnect() // ends the pause
		start := time.Now()
		if k.session(2); time.Since(start) > time.Second {
			t.Errorf("up %v after Reconnect", time.Since(start))
		}
		k.end()
	})
}

// A server that takes the login and hangs up is not asked faster and faster.
func TestKeeperShortSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{Quirks: tunneltest.Quirks{SSTP: tunneltest.SSTPQuirks{SessionLimit: time.Second}}})
		k.start()
		start := time.Now()
		k.session(8)
		if d := time.Since(start); d < 50*time.Second {
			t.Errorf("eight sessions of a second within only %v", d)
		}
		k.end()
	})
}

// What must not be tried again ends Run; so do the limits that the user set.
func TestKeeperGivesUp(t *testing.T) {
	wrongPassword := func(c *tunnel.KeeperConfig) { c.Tunnel.Password = "rabbit"; c.KeepTrying = true }
	for _, tt := range []struct {
		name   string
		change func(*tunnel.KeeperConfig)
		lose   bool // the session, for good
		check  func(error) bool
		dials  int
		after  time.Duration
	}{
		{"credentials", wrongPassword, false, as[*ppp.AuthError], 1, 0},
		{"certificate", func(c *tunnel.KeeperConfig) { c.Tunnel.TLS.CA = nil; c.KeepTrying = true }, false, as[*tunnel.CertificateError], 1, 0},
		{"usage", func(c *tunnel.KeeperConfig) { c.Tunnel.MTU = 1; c.KeepTrying = true }, false, func(err error) bool { return strings.Contains(err.Error(), "MTU") }, 0, 0},
		{"first attempt", func(c *tunnel.KeeperConfig) {
			c.Tunnel.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
		}, false, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }, 0, 0},
		{"first loss", func(c *tunnel.KeeperConfig) { c.GiveUpAfter = 0 }, true, func(err error) bool { return errors.Is(err, sstp.ErrLinkLost) }, 1, 0},
		{"down too long", func(c *tunnel.KeeperConfig) { c.GiveUpAfter = 10 * time.Second }, true, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }, 5, 10 * time.Second},
		{"hook", func(c *tunnel.KeeperConfig) {
			c.Up = func(tunnel.Info) (tunnel.Packets, error) { return tunnel.Packets{}, io.ErrShortBuffer }
		}, false, func(err error) bool { return errors.Is(err, io.ErrShortBuffer) }, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, tunneltest.Config{})
				tt.change(&k.cfg)
				k.start()
				if tt.lose {
					k.session(1)
					k.refuseWith(syscall.ECONNREFUSED)
					k.server.Sessions()[0].Kill()
				}
				start := time.Now()
				err := <-k.ended
				if !tt.check(err) {
					t.Errorf("Run = %v", err)
				}
				if len(k.dialed()) != tt.dials || time.Since(start) > tt.after+10*time.Millisecond {
					t.Errorf("%d dials within %v, want %d within %v", len(k.dialed()), time.Since(start), tt.dials, tt.after)
				}
				if s, _ := k.keeper.State(); s.Status != tunnel.StatusEnded || !errors.Is(s.Cause, err) {
					t.Errorf("state %+v", s)
				}
				if n := k.server.Count(tunneltest.EventAuthenticationFailed); n > 1 {
					t.Errorf("%d logins refused", n)
				}
				k.stop()
				k.server.Close()
			})
		})
	}
}

// A service that starts before the network is there waits for it.
func TestKeeperKeepsTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		k.cfg.KeepTrying = true
		k.refuseWith(&net.DNSError{Err: "no network", Name: "vpn.example.test"})
		k.start()
		k.until("five attempts", func(s tunnel.State) bool { return s.Attempt == 5 && s.Status == tunnel.StatusWaiting })
		k.refuseWith(nil)
		start := time.Now()
		k.host <- tunnel.HostEvent{Network: true}
		if k.session(1); time.Since(start) > time.Second {
			t.Errorf("up %v after the network was there", time.Since(start))
		}
		k.end()
	})
}

// A network that comes and goes does not make attempts without a pause.
func TestKeeperFlappingNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		k.cfg.KeepTrying = true
		k.refuseWith(syscall.ENETUNREACH)
		k.start()
		for range 100 {
			k.host <- tunnel.HostEvent{Network: true}
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(k.dialed()); n < 8 || n > 12 {
			t.Errorf("%d attempts within 10 s, want about 10", n)
		}
		k.end()
	})
}

// After sleep, and when the network has changed, a dead session is noticed
// within seconds; a live one goes on.
func TestKeeperProbes(t *testing.T) {
	for name, event := range map[string]tunnel.HostEvent{"slept": {Slept: time.Hour}, "network": {Network: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, tunneltest.Config{})
				var hole *blackHole
				k.wrap = func(c net.Conn) net.Conn {
					hole = &blackHole{Conn: c, closed: make(chan struct{})}
					return hole
				}
				k.start()
				k.session(1)
				k.host <- event
				time.Sleep(11 * time.Second) // not when an Echo-Request is due anyway
				if s, _ := k.keeper.State(); s.Up != 1 || !s.IsUp() {
					t.Errorf("a live session did not go on: %+v", s)
				}
				k.mu.Lock()
				hole.swallow()
				k.mu.Unlock()
				start := time.Now()
				k.host <- event
				s := k.session(2)
				if d := time.Since(start); d > 4*time.Second || !errors.Is(s.Cause, ppp.ErrEchoTimeout) {
					t.Errorf("up again after %v, cause %v", d, s.Cause)
				}
				k.end()
			})
		})
	}
}

// A server that has not noticed the loss gives another address; if that matters,
// there is a second attempt.
func TestKeeperSecondAttempt(t *testing.T) {
	for name, precious := range map[string]bool{"precious": true, "not precious": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, tunneltest.Config{})
				k.cfg.Precious = func() bool { return precious }
				k.start()
				first := k.session(1)
				k.server.Sessions()[0].HalfOpen() // the server ends it when it pleases
				k.host <- tunnel.HostEvent{Slept: time.Minute}
				k.until("the loss", func(s tunnel.State) bool { return !s.IsUp() })
				time.AfterFunc(time.Second, func() { k.server.Sessions()[0].Kill() })
				second := k.session(2)
				if same := second.Info.IPv4.Addr == first.Info.IPv4.Addr; same != precious {
					t.Errorf("address %v after %v", second.Info.IPv4.Addr, first.Info.IPv4.Addr)
				}
				k.end()
			})
		})
	}
}

// Reconnect ends the session in order and asks for no pause. It is no loss.
func TestKeeperReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		k.cfg.GiveUpAfter = 0
		k.start()
		for n := range 5 {
			k.session(n + 1)
			k.keeper.Reconnect()
		}
		start := time.Now()
		s := k.session(6)
		if !errors.Is(s.Cause, tunnel.ErrReconnect) || time.Since(start) > 5*time.Second {
			t.Errorf("cause %v, after %v", s.Cause, time.Since(start))
		}
		if n := k.server.Count(tunneltest.EventTerminateRequest); n < 5 {
			t.Errorf("%d sessions ended in order, want 5: %v", n, k.server.Events())
		}
		k.end()
	})
}

// A password from Secret goes to a server once; one that was not sent is kept.
func TestKeeperSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		asked := 0
		k.cfg.KeepTrying = true
		k.cfg.Secret = func(context.Context) (string, error) {
			asked++
			if asked == 3 {
				return "", io.ErrUnexpectedEOF
			}
			return "wonderland", nil
		}
		k.refuseWith(syscall.ECONNREFUSED)
		k.start()
		k.until("three attempts", func(s tunnel.State) bool { return s.Attempt == 3 })
		if asked != 1 {
			t.Errorf("asked %d times before the first login", asked)
		}
		k.refuseWith(nil)
		k.session(1)
		k.server.Sessions()[0].Kill()
		k.session(2)
		if asked != 2 {
			t.Errorf("asked %d times for two logins", asked)
		}
		k.server.Sessions()[0].Kill()
		if err := <-k.ended; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Run = %v", err)
		}
		k.stop()
		k.server.Close()
	})
}

// A server that wants a login in the middle of a session gets a new session, with
// another password.
func TestKeeperSecretInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		asked := 0
		k.cfg.Secret = func(context.Context) (string, error) { asked++; return "wonderland", nil }
		k.start()
		k.session(1)
		k.server.Sessions()[0].Renegotiate()
		if s := k.session(2); !errors.Is(s.Cause, ppp.ErrOnce) || asked != 2 {
			t.Errorf("cause %v, asked %d times", s.Cause, asked)
		}
		k.end()
	})
}

// The states come in order, and each is what State returns.
func TestKeeperStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		k.start()
		k.session(1)
		time.Sleep(time.Minute)
		k.server.Sessions()[0].Kill()
		k.session(2)
		k.end()
		var got []string
		for _, s := range k.states {
			word := s.Status.String()
			if s.Status == tunnel.StatusConnecting {
				word = s.Phase.String()
			}
			got = append(got, word)
		}
		connect := []string{"resolve", "tls", "http", "sstp", "lcp", "auth", "ipcp", "up"}
		want := slices.Concat(connect, []string{"up", "waiting"}, connect, []string{"up", "ended"})
		if !slices.Equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		up := k.states[len(connect)]
		if up.Info.IPv4.Addr != netip.MustParseAddr("10.66.0.2") || len(up.Timings) != 7 || up.Up != 1 || up.Attempt != 0 || up.Cause != nil {
			t.Errorf("first session: %+v", up)
		}
		waiting := k.states[len(connect)+1]
		if waiting.Cause == nil || waiting.Up != 1 || waiting.Changed.Sub(up.Changed) != time.Minute {
			t.Errorf("after its loss: %+v", waiting)
		}
	})
}

// Before the end that the server announces there is another session, if that
// gets the same address; packets never stop then.
func TestKeeperMakesBeforeBreak(t *testing.T) {
	remaining := ppp.Packet{Code: ppp.TimeRemaining, Identifier: 1, Data: []byte{0, 0, 0, 0, 0, 0, 0, 60}}
	for name, same := range map[string]bool{"same address": true, "another address": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, tunneltest.Config{})
				other := newPair(t, tunneltest.Config{Attach: func(tunneltest.Client) tunneltest.Network { return k.far.network() }})
				k.cfg.Tunnel.TLS.CA = slices.Concat(k.server.CA(), other.server.CA())
				k.start()
				k.session(1)
				old := k.server.Sessions()[0]
				if same { // as of one that gives a user the same address each time
					k.wrap = func(net.Conn) net.Conn {
						conn, _ := other.cfg.DialContext(t.Context(), "", "")
						return conn
					}
				}
				old.SendFrame(ppp.ProtoLCP, remaining)
				time.Sleep(44 * time.Second)
				if n := len(k.dialed()); n != 1 {
					t.Errorf("%d dials 16 s before the end", n)
				}
				time.Sleep(5 * time.Second)
				if n := len(k.dialed()); n != 2 {
					t.Errorf("%d dials 11 s before the end, want 2", n)
				}
				if s, _ := k.keeper.State(); !s.IsUp() || (s.Up == 2) != same {
					t.Errorf("state %+v", s)
				}
				down := 0
				if !same {
					down = 1
					old.Kill()
				}
				s := k.session(2)
				if s.Info.IPv4.Addr != k.ups[0].IPv4.Addr || k.downed() != down {
					t.Errorf("address %v, %d times down, want %v, %d", s.Info.IPv4.Addr, k.downed(), k.ups[0].IPv4.Addr, down)
				}
				packet := ipPacket(4, 100, 'x')
				k.current.send(packet)
				k.current.await(t, k.ended, packet)
				k.end()
				other.server.Close()
			})
		})
	}
}
