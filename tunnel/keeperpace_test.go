package tunnel_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/tunneltest"
)

// timeRemaining is the LCP packet that announces the end of a link.
func timeRemaining(seconds uint32) ppp.Packet {
	return ppp.Packet{Code: ppp.TimeRemaining, Identifier: 1, Data: binary.BigEndian.AppendUint32(make([]byte, 4), seconds)}
}

// A second session that the server refuses for good is asked for once.
func TestKeeperRefusedSecondSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		refused := 0
		other := newPair(t, tunneltest.Config{Hook: func(c *tunneltest.Conn, e tunneltest.Event) bool {
			if e.Kind != tunneltest.EventReceived || e.Name != "CHAP Response" {
				return false
			}
			refused++
			c.SendFrame(ppp.ProtoCHAP, ppp.Packet{Code: ppp.CHAPFailure, Identifier: e.Packet[6+4+1], Data: []byte("E=691 R=0 V=3")})
			return true
		}})
		k.cfg.Tunnel.TLS.CA = slices.Concat(k.server.CA(), other.server.CA())
		k.start()
		k.session(1)
		k.wrap = func(net.Conn) net.Conn {
			conn, _ := other.cfg.DialContext(t.Context(), "", "")
			return conn
		}
		old := k.server.Sessions()[0]
		for n := range uint32(10) {
			old.SendFrame(ppp.ProtoLCP, timeRemaining(n))
			time.Sleep(time.Minute)
		}
		if refused != 1 {
			t.Errorf("%d logins refused, want 1", refused)
		}
		if s, _ := k.keeper.State(); !s.IsUp() || s.Up != 1 {
			t.Errorf("state %+v", s)
		}
		k.end()
		other.server.Close()
	})
}

// Reconnect called again before there is a session asks for the same thing.
func TestKeeperReconnectTwice(t *testing.T) {
	for name, half := range map[string]bool{"while the first ends": true, "while the second begins": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, tunneltest.Config{})
				k.start()
				k.session(1)
				if half {
					k.server.Sessions()[0].HalfOpen()
				}
				k.keeper.Reconnect()
				synctest.Wait()
				k.keeper.Reconnect()
				k.session(2)
				time.Sleep(time.Minute)
				if s, _ := k.keeper.State(); s.Up != 2 {
					t.Errorf("session %d after one end, want 2", s.Up)
				}
				k.end()
			})
		})
	}
}

// Reconnect does not wait for an attempt that leads nowhere, the first one
// included.
func TestKeeperReconnectEndsAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		k.server.Line().Welcome(tunneltest.WelcomeSilence, 0)
		k.start()
		k.until("the handshake", func(s tunnel.State) bool { return s.Phase == tunnel.PhaseTLS })
		time.Sleep(time.Second)
		k.server.Line().Welcome(tunneltest.WelcomeServed, 0)
		start := time.Now()
		k.keeper.Reconnect()
		if s := k.session(1); time.Since(start) > time.Second || !errors.Is(s.Cause, tunnel.ErrReconnect) {
			t.Errorf("up after %v, cause %v", time.Since(start), s.Cause)
		}
		k.end()
	})
}

// A server that gives another address each time and refuses who comes again
// soon is not asked for the old address for ever.
func TestKeeperHandsBackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKept(t, tunneltest.Config{})
		k.cfg.Precious = func() bool { return true }
		k.start()
		k.session(1)
		if err := k.server.SetPool(netip.MustParsePrefix("10.67.0.0/24"), netip.MustParseAddr("10.67.0.1")); err != nil {
			t.Fatal(err)
		}
		var last time.Time
		k.wrap = func(c net.Conn) net.Conn {
			if time.Since(last) < 10*time.Second {
				c.Close()
			}
			last = time.Now()
			return c
		}
		k.server.Sessions()[0].Kill()
		time.Sleep(5 * time.Minute)
		if s, _ := k.keeper.State(); s.Up != 2 {
			t.Errorf("not up again in 5 min and %d attempts: %+v", len(k.dialed()), s)
		}
		k.end()
	})
}
