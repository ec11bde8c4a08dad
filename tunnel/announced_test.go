package tunnel_test

import (
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/tunneltest"
)

// A server that announces the end of a session over and over gets a further login
// for it once a minute, and one at a time, whatever becomes of that.
func TestKeeperAnnouncedOverAndOver(t *testing.T) {
	for _, tt := range []struct {
		name    string
		timeout time.Duration // of a second session that hangs; 0: it gets another address
		dials   int           // within five minutes
	}{
		{"another address", 0, 1 + 5},
		{"hangs", 2 * time.Minute, 1 + 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, tunneltest.Config{})
				k.cfg.ConnectTimeout = tt.timeout
				k.start()
				k.session(1)
				s := k.server.Sessions()[0]
				if tt.timeout > 0 {
					k.wrap = func(net.Conn) net.Conn { near, _ := net.Pipe(); return near }
				}
				for range 5*time.Minute/(100*time.Millisecond) - 1 {
					s.TimeRemaining(0, "")
					time.Sleep(100 * time.Millisecond)
				}
				if n := len(k.dialed()); n != tt.dials {
					t.Errorf("%d dials, want %d", n, tt.dials)
				}
				if state, _ := k.keeper.State(); state.Up != 1 || !state.IsUp() {
					t.Errorf("state %+v", state)
				}
				k.end()
			})
		})
	}
}

// A session that another one has replaced says no more about stalls, however long
// its farewell goes unanswered: whoever listens has the other one's packets.
func TestKeeperReplacedIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{Hook: func(_ *tunneltest.Conn, e tunneltest.Event) bool {
			return e.Kind == tunneltest.EventReceived && (e.Name == "LCP Terminate-Request" || e.Name == "Call Disconnect")
		}})
		other := newPair(t, tunneltest.Config{Attach: func(tunneltest.Client) tunneltest.Network { return k.far.network() }})
		k.cfg.Tunnel.TLS.CA = slices.Concat(k.server.CA(), other.server.CA())
		var ups, late atomic.Int32
		k.cfg.Up = func(info tunnel.Info) (tunnel.Packets, error) {
			p, err := k.up(info)
			session := ups.Add(1)
			p.Stalled = func(bool) {
				if session != ups.Load() {
					late.Add(1)
				}
			}
			p.Awaits = func() bool { return true } // the connections', whichever session carries them
			return p, err
		}
		k.start()
		k.session(1)
		k.wrap = func(net.Conn) net.Conn {
			conn, _ := other.cfg.DialContext(t.Context(), "", "")
			return conn
		}
		k.server.Sessions()[0].SendFrame(ppp.ProtoLCP,
			ppp.Packet{Code: ppp.TimeRemaining, Identifier: 1, Data: []byte{0, 0, 0, 0, 0, 0, 0, 60}})
		time.Sleep(46 * time.Second)
		k.session(2)
		time.Sleep(10 * time.Second)
		if n := late.Load(); n != 0 {
			t.Errorf("the replaced session spoke %d times", n)
		}
		k.end()
		other.server.Close()
	})
}
