package tunnel_test

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

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
