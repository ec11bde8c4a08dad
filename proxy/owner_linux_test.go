package proxy

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestUDPOtherUser: where not everybody on this machine may use the proxy, an
// association is not the first one's who sends something, if that is another user.
func TestUDPOtherUser(t *testing.T) {
	needRoot(t)
	for name, tt := range map[string]struct {
		at    [2]string
		login bool
	}{
		"login":       {[2]string{"tcp", "127.0.0.1:0"}, true},
		"socket file": {[2]string{"unix", socketPath(t)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen(tt.at[0], tt.at[1])
			if err != nil {
				t.Fatal(err)
			}
			var n udpNet
			cfg := n.config()
			if tt.login {
				cfg.User, cfg.Password = "run", "secret"
			}
			f := serveOn(t, cfg, ModeAuto, l)
			control, err := net.Dial(tt.at[0], f.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer control.Close()
			control.SetDeadline(time.Now().Add(patience))
			relay := relayOf(t, control, tt.login)
			stranger := udpAs(t, nobody, relay)
			write(t, stranger, toTestNet+"stranger")
			client := udpClient(t, relay)
			write(t, client, toTestNet+"mine")
			wantDatagram(t, client, toTestNet+"mine")
			f.wantStats(t, UDPStats{Associations: 1, Sent: 1, Received: 1, Foreign: 1})
		})
	}
}

// relayOf is associated, after a login if need be.
func relayOf(t *testing.T, control net.Conn, login bool) netip.AddrPort {
	t.Helper()
	if !login {
		return associated(t, control, "0.0.0.0:0")
	}
	write(t, control, "\x05\x01\x02")
	want(t, control, "\x05\x02")
	write(t, control, "\x01\x03run\x06secret")
	want(t, control, "\x01\x00")
	write(t, control, "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00")
	return netip.MustParseAddrPort(bound(t, control))
}

// udpAs is a UDP socket of another user.
func udpAs(t *testing.T, uid int, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := dialAs(uid, "udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
