package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"sstproxy/netstack"
	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
)

func newJoint(t *testing.T) *joint {
	t.Helper()
	stack, err := netstack.New(netstack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	j := &joint{stack: stack, log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { j.stop(); stack.Close() })
	return j
}

// The IPv6 address of the session before stays until the new session has its
// own, or none.
func TestJointKeepsIPv6(t *testing.T) {
	j := newJoint(t)
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

// What is said of a session that has ended, or made room for the next one,
// changes nothing: not its IPv6, not the end of its grace.
func TestJointIgnoresOldSessions(t *testing.T) {
	j := newJoint(t)
	info := tunnel.Info{MTU: 1500, IPv4: ppp.IPv4{Addr: netip.MustParseAddr("10.66.0.2")}}
	first, err := j.up(info)
	if err != nil {
		t.Fatal(err)
	}
	with := info
	with.IPv6.InterfaceID = [8]byte{1}
	first.Changed(with)
	grace := j.session + 1 // that of the next session
	second, err := j.up(info)
	if err != nil || j.grace == nil {
		t.Fatalf("no grace, %v", err)
	}
	late := with
	late.IPv4.Addr, late.IPv6.InterfaceID = netip.MustParseAddr("10.77.0.2"), [8]byte{2}
	first.Changed(late)
	if j.id != with.IPv6.InterfaceID || !slices.Contains(j.stack.Addrs(), info.IPv4.Addr) {
		t.Errorf("the first session's word counted in the second: identifier %x, addresses %v", j.id, j.stack.Addrs())
	}
	j.down()
	j.change(grace, info, [8]byte{}) // which was about to run
	second.Changed(with)
	if _, err := j.stack.DialContext(t.Context(), "udp", "10.66.0.1:53"); !errors.Is(err, netstack.ErrDown) {
		t.Errorf("dial after the end: %v, want %v", err, netstack.ErrDown)
	}
}

// A session has all that the stack offers to it, and the stack all that it wants to
// know of a session, the stall clock's part included: without that nothing fails,
// but is slow.
func TestJointJoinsAll(t *testing.T) {
	j := newJoint(t)
	addr := netip.MustParseAddr("10.66.0.2")
	info := tunnel.Info{MTU: 1500, RTT: time.Second, IPv4: ppp.IPv4{Addr: addr, DNS: []netip.Addr{addr}}}
	packets, err := j.up(info)
	if err != nil {
		t.Fatal(err)
	}
	for _, all := range []any{packets, j.link(info, [8]byte{1})} {
		for i, v := 0, reflect.ValueOf(all); i < v.NumField(); i++ {
			if v.Field(i).IsZero() {
				t.Errorf("%T: no %s", all, v.Type().Field(i).Name)
			}
		}
	}
}
