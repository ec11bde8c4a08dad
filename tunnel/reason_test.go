package tunnel_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// TestEndReason: where the server tells why it ends a session, by a text or code
// or by having announced it, the cause says so, and whose doing it was.
func TestEndReason(t *testing.T) {
	lcp, call := tunnel.Origin{By: tunnel.PartyServer, Layer: "LCP"}, tunnel.Origin{By: tunnel.PartyServer, Layer: "SSTP"}
	disconnect := func(c *tunneltest.Conn) { c.Disconnect(sstp.StatusNoError) }
	terminate := func(text string) func(*tunneltest.Conn) {
		return func(c *tunneltest.Conn) { c.Terminate(text) }
	}
	for name, tt := range map[string]struct {
		announced uint32 // seconds from the start; the end comes after 30
		end       func(*tunneltest.Conn)
		want      error
		origin    tunnel.Origin
	}{
		"pppd, idle":                 {end: terminate("Link inactive"), want: tunnel.ErrIdleTimeout, origin: lcp},
		"pppd, time":                 {end: terminate("Connect time expired"), want: tunnel.ErrSessionTimeout, origin: lcp},
		"idle, though announced":     {announced: 30, end: terminate("Link inactive"), want: tunnel.ErrIdleTimeout, origin: lcp},
		"Windows, idle":              {end: terminate("&\x17CS\x00<\xcdt\x00\x00\x03\x3c"), want: tunnel.ErrIdleTimeout, origin: lcp},
		"Windows, otherwise":         {end: terminate("&\x17CS\x00<\xcdt\x00\x00\x02\xce"), origin: lcp},
		"announced, terminated":      {announced: 30, end: terminate(""), want: tunnel.ErrSessionTimeout, origin: lcp},
		"announced, disconnected":    {announced: 32, end: disconnect, want: tunnel.ErrSessionTimeout, origin: call},
		"announced for another time": {announced: 300, end: disconnect, origin: call},
		"no word":                    {end: disconnect, origin: call},
		"no word, terminated":        {end: terminate(""), origin: lcp},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, tunneltest.Config{})
				s := p.dial()
				_, ended := run(t, s, newNear().packets())
				conn := p.server.Sessions()[0]
				if tt.announced != 0 {
					conn.SendFrame(ppp.ProtoLCP, timeRemaining(tt.announced))
				}
				time.Sleep(30 * time.Second)
				tt.end(conn)
				err := <-ended
				for _, timeout := range []error{tunnel.ErrIdleTimeout, tunnel.ErrSessionTimeout} {
					if errors.Is(err, timeout) != (timeout == tt.want) {
						t.Errorf("Run = %v, want %v", err, tt.want)
					}
				}
				if got := tunnel.OriginOf(err); got != tt.origin || tunnel.Permanent(err) {
					t.Errorf("origin of %v: %+v, want %+v", err, got, tt.origin)
				}
				p.server.Close()
			})
		})
	}
}
