package tunnel_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/tunneltest"
)

// homeless is a connection from an address that no interface has (RFC 5737).
type homeless struct{ net.Conn }

func newHomeless(c net.Conn) net.Conn { return homeless{c} }

func (homeless) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 44), Port: 4000} }

var (
	slept   = tunnel.HostEvent{Slept: time.Minute}
	changed = tunnel.HostEvent{Network: true}
)

// newStalled prepares a Keeper whose first connection stops for ever at a step.
func newStalled(t *testing.T, step tunneltest.Step) *kept {
	var server *tunneltest.Server
	k := newKept(t, tunneltest.Config{Hook: func(_ *tunneltest.Conn, e tunneltest.Event) bool {
		if e.Kind == tunneltest.EventAccepted {
			server.Line().Script() // this one has its step already
		}
		return false
	}})
	server = k.server
	step.Do = tunneltest.FaultStall
	server.Line().Script(step)
	return k
}

// Sleep and the loss of the address end an attempt at once, wherever it is; the
// next one begins as if it had not been, and a network that only changes is none
// of its business.
func TestKeeperHostEventInAttempt(t *testing.T) {
	for _, tt := range []struct {
		name  string
		event tunnel.HostEvent
		wrap  func(net.Conn) net.Conn
		cause error
		soon  time.Duration
	}{
		{"slept", slept, nil, tunnel.ErrSlept, 1100 * time.Millisecond}, // with time for a farewell
		{"address gone", changed, newHomeless, tunnel.ErrNetworkChanged, 5 * time.Millisecond},
		{"another interface", changed, nil, nil, 0},
	} {
		for _, place := range places {
			t.Run(tt.name+" "+place.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := newStalled(t, place.step)
					k.wrap = tt.wrap
					k.start()
					k.until(place.name, func(s tunnel.State) bool { return s.Phase == place.phase })
					time.Sleep(2 * time.Second)
					k.host <- tt.event
					start := time.Now()
					if tt.cause == nil {
						time.Sleep(5 * time.Second)
						if n := len(k.dialed()); n != 1 {
							t.Errorf("%d dials, want the first one to go on", n)
						}
						k.end()
						return
					}
					s := k.session(1)
					if d := k.dialed()[1].Sub(start); d > tt.soon {
						t.Errorf("next attempt after %v, want %v at most", d, tt.soon)
					}
					if !errors.Is(s.Cause, tt.cause) || tunnel.OriginOf(s.Cause).By != tunnel.PartyHost {
						t.Errorf("cause %v, from %v", s.Cause, tunnel.OriginOf(s.Cause))
					}
					k.end()
				})
			})
		}
	}
}

// Where the server was looked for before the network changed there may be
// nothing, so the attempt has another second, and no more.
func TestKeeperNetworkChangedBeforeConnected(t *testing.T) {
	for name, age := range map[string]time.Duration{"young": 300 * time.Millisecond, "old": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, tunneltest.Config{})
				begun := k.slowly(time.Hour, 0)
				k.start()
				time.Sleep(age)
				k.host <- changed
				s := k.session(1)
				want := max(age, time.Second)
				if d := begun()[1].Sub(begun()[0]); d < want || d > want+5*time.Millisecond {
					t.Errorf("next attempt after %v, want %v", d, want)
				}
				if !errors.Is(s.Cause, tunnel.ErrNetworkChanged) || tunnel.OriginOf(s.Cause).By != tunnel.PartyHost {
					t.Errorf("cause %v, from %v", s.Cause, tunnel.OriginOf(s.Cause))
				}
				k.end()
			})
		})
	}
}

// An attempt that is connected within that time goes on.
func TestKeeperNetworkChangedConnectedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newStalled(t, tunneltest.Step{Sending: "HTTP reply"})
		k.slowly(600 * time.Millisecond)
		k.start()
		time.Sleep(300 * time.Millisecond)
		k.host <- changed
		time.Sleep(10 * time.Second)
		if n := len(k.dialed()); n != 1 {
			t.Errorf("%d dials, want 1", n)
		}
		k.end()
	})
}

// Between one network and the next there may be none: that the next attempt finds
// no way to the server is not its failure, even if it has but one, for a time.
func TestKeeperBetweenNetworks(t *testing.T) {
	for name, tt := range map[string]struct {
		without time.Duration
		fails   bool
	}{"soon back": {without: 5 * time.Second}, "gone": {without: time.Hour, fails: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newStalled(t, tunneltest.Step{Sending: "HTTP reply"})
				k.wrap = newHomeless
				k.start()
				time.Sleep(2 * time.Second)
				k.refuseWith(syscall.ENETUNREACH)
				time.AfterFunc(tt.without, func() { k.refuseWith(nil) })
				k.host <- changed
				if !tt.fails {
					k.session(1)
					k.end()
					return
				}
				start := time.Now()
				if err := <-k.ended; !errors.Is(err, syscall.ENETUNREACH) || time.Since(start) > 2*time.Minute {
					t.Errorf("Run = %v after %v", err, time.Since(start))
				}
				k.stop()
				k.server.Close()
			})
		})
	}
}

// slowly makes the nth connection take the nth time, and the rest the last. It
// returns a function that tells when each was begun.
func (k *kept) slowly(times ...time.Duration) (begun func() []time.Time) {
	var all []time.Time
	dial := k.cfg.Tunnel.DialContext
	k.cfg.Tunnel.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		k.mu.Lock()
		d := times[min(len(all), len(times)-1)]
		all = append(all, time.Now())
		k.mu.Unlock()
		select {
		case <-time.After(d):
			return dial(ctx, network, address)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return func() []time.Time { k.mu.Lock(); defer k.mu.Unlock(); return slices.Clone(all) }
}

// A network with a change each second does not keep a slow connection from being
// made, however long that takes.
func TestKeeperConnectsOnRestlessNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		begun := k.slowly(10 * time.Second)
		k.start()
		start := time.Now()
		for time.Since(start) < 2*time.Minute {
			k.host <- changed
			time.Sleep(500 * time.Millisecond)
		}
		s, _ := k.keeper.State()
		if !s.IsUp() || s.Up != 1 || s.Since.Sub(start) > time.Minute {
			t.Errorf("%d dials, state %+v", len(begun()), s)
		}
		for i, at := range begun()[1:] {
			if d := at.Sub(begun()[i]); d < time.Second {
				t.Errorf("dial %d only %v after the one before", i+2, d)
			}
		}
		k.end()
	})
}

// What befell this machine before an attempt does not end it.
func TestKeeperHostEventBeforeAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		begun := k.slowly(3 * time.Second)
		k.host <- slept
		k.start()
		k.session(1)
		if n := len(begun()); n != 1 {
			t.Errorf("%d dials, want 1", n)
		}
		k.end()
	})
}

// An attempt that sleep ended uses up a one-time password only if the server
// may have seen it, and is no failure: it is begun again though failures are not.
func TestKeeperSleptWithSecret(t *testing.T) {
	for _, tt := range []struct {
		name  string
		step  tunneltest.Step
		asked int
	}{
		{"before the login", tunneltest.Step{Sending: "LCP Configure-Ack"}, 1},
		{"after the login", tunneltest.Step{Sending: "CHAP Success"}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newStalled(t, tt.step)
				asked := 0
				k.cfg.Secret = func(context.Context) (string, error) { asked++; return "wonderland", nil }
				k.cfg.GiveUpAfter = 0
				k.start()
				time.Sleep(2 * time.Second)
				k.host <- slept
				k.session(1)
				if asked != tt.asked {
					t.Errorf("asked %d times, want %d", asked, tt.asked)
				}
				k.end()
			})
		})
	}
}

// The time that the tunnel may be down is not longer because this machine
// sleeps again and again.
func TestKeeperSleptGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		k.cfg.GiveUpAfter = 20 * time.Second
		k.start()
		k.session(1)
		k.server.Line().Welcome(tunneltest.WelcomeSilence, 0)
		k.server.Sessions()[0].Kill()
		start := time.Now()
		for {
			select {
			case err := <-k.ended:
				if d := time.Since(start); d > 21*time.Second || err == nil {
					t.Errorf("Run = %v after %v", err, d)
				}
				k.stop()
				k.server.Close()
				return
			case <-time.After(3 * time.Second):
				k.host <- slept
			}
		}
	})
}

// The session that is made before the announced end of another is begun again,
// too, when this machine sleeps meanwhile.
func TestKeeperSleptBesideSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		other := newPair(t, tunneltest.Config{Attach: func(tunneltest.Client) tunneltest.Network { return k.far.network() }})
		k.cfg.Tunnel.TLS.CA = slices.Concat(k.server.CA(), other.server.CA())
		k.start()
		k.session(1)
		k.wrap = func(net.Conn) net.Conn {
			conn, _ := other.cfg.DialContext(t.Context(), "", "")
			return conn
		}
		other.server.Line().Welcome(tunneltest.WelcomeSilence, 0)
		k.server.Sessions()[0].SendFrame(ppp.ProtoLCP, timeRemaining(60))
		time.Sleep(47 * time.Second) // two seconds into the attempt
		other.server.Line().Welcome(tunneltest.WelcomeServed, 0)
		k.host <- changed // of no interest to either
		time.Sleep(time.Second)
		if n := len(k.dialed()); n != 2 {
			t.Errorf("%d dials, want 2", n)
		}
		k.host <- slept
		start := time.Now()
		if s := k.session(2); time.Since(start) > 2*time.Second || k.downed() != 0 {
			t.Errorf("second session after %v, %d times down: %+v", time.Since(start), k.downed(), s)
		}
		if n := len(k.dialed()); n != 3 {
			t.Errorf("%d dials, want 3", n)
		}
		k.end()
		other.server.Close()
	})
}

// The pause that gives a server time to notice the end of a session is not cut
// short by a network that settles, but by sleep, in which that time has passed.
func TestKeeperHostEventWhileHandingBack(t *testing.T) {
	for name, tt := range map[string]struct {
		event tunnel.HostEvent
		pause time.Duration
	}{"network": {changed, 2 * time.Second}, "slept": {slept, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, tunneltest.Config{})
				k.cfg.Precious = func() bool { return true }
				k.start()
				k.session(1)
				k.server.Sessions()[0].HalfOpen()
				k.host <- slept
				held := k.until("the pause", func(s tunnel.State) bool { return errors.Is(s.Cause, tunnel.ErrAddressHeld) })
				k.host <- tt.event
				k.session(2)
				if d := k.dialed()[2].Sub(held.Since); d < tt.pause || d > tt.pause+time.Second {
					t.Errorf("next attempt after %v, want about %v", d, tt.pause)
				}
				k.end()
			})
		})
	}
}

// An end in order gives way to sleep and to the loss of the address as well.
func TestKeeperHostEventWhileEnding(t *testing.T) {
	for name, tt := range map[string]struct {
		event tunnel.HostEvent
		wrap  func(net.Conn) net.Conn
		now   bool
	}{
		"slept":             {slept, newEndless, true},
		"address gone":      {changed, func(c net.Conn) net.Conn { return homeless{newEndless(c)} }, true},
		"another interface": {changed, newEndless, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, plainCloser)
				k.wrap = tt.wrap
				k.start()
				k.session(1)
				k.keeper.Reconnect()
				time.Sleep(time.Second)
				start := time.Now()
				k.host <- tt.event
				k.session(2)
				if d := k.dialed()[1].Sub(start); (d <= time.Millisecond) != tt.now {
					t.Errorf("next attempt %v after the event", d)
				}
				k.end()
			})
		})
	}
}
