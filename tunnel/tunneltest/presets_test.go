package tunneltest

import (
	"net/netip"
	"testing"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// TestPresets logs in to each kind of server.
func TestPresets(t *testing.T) {
	for name, quirks := range map[string]Quirks{
		"none": {}, "SoftEther": SoftEther(), "SoftEther4": SoftEther4(), "AccelPPP": AccelPPP(),
		"RRAS": RRAS(), "MikroTik": MikroTik(), "Keenetic": Keenetic(), "Sorz": Sorz(),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Quirks: quirks, DNS: []netip.Addr{netip.MustParseAddr("10.66.0.53")}, Attach: Reflect}
			bubble(t, cfg, func(t *testing.T, c *client) {
				c.call()
				c.login()
				c.connected(max(sstp.HashSHA256&c.hashes, sstp.HashSHA256), nil)
				if quirks.NCP.DropsFirst {
					c.configure(ppp.ProtoIPCP)
				}
				c.ipcp()
				c.sendIP(c.ping(64))
				for {
					if f := c.want("IPv4"); f.info[9] == 253 { // not a beacon
						break
					}
				}
				c.hangUp()
				c.wantEvents(EventBindingVerified, EventCallConnected, EventTerminateRequest,
					EventCallDisconnect, EventCloseNotify)
			})
		})
	}
}
