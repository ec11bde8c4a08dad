package main

import (
	"log/slog"
	"net/netip"
	"testing"

	"sstproxy/netstack"
	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
)

// The IPv6 address of the session before stays until the new session has its
// own, or none.
func TestJointKeepsIPv6(t *testing.T) {
	stack, err := netstack.New(netstack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer stack.Close()
	j := &joint{stack: stack, log: slog.New(slog.DiscardHandler)}
	defer j.stop()
	id, other := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, [8]byte{8, 7, 6, 5, 4, 3, 2, 1}
	info := tunnel.Info{MTU: 1500, IPv4: ppp.IPv4{Addr: netip.MustParseAddr("10.66.0.2")}}
	with := func(id [8]byte) tunnel.Info {
		info := info
		info.IPv6.InterfaceID = id
		return info
	}
	want := func(what string, id [8]byte, grace bool) {
		t.Helper()
		if j.id != id || (j.grace != nil) != grace {
			t.Errorf("%s: identifier %x, grace %v, want %x, %v", what, j.id, j.grace != nil, id, grace)
		}
	}
	packets, err := j.up(info)
	if err != nil {
		t.Fatal(err)
	}
	want("no IPv6 yet", [8]byte{}, false)
	packets.Changed(with(id))
	want("IPV6CP is through", id, false)
	j.down()
	if packets, err = j.up(info); err != nil {
		t.Fatal(err)
	}
	want("a new session, before IPV6CP", id, true)
	packets.Changed(with(other))
	want("another identifier", other, false)
	j.down()
	if _, err = j.up(info); err != nil {
		t.Fatal(err)
	}
	j.down()
	want("down during the grace", other, false)
}
