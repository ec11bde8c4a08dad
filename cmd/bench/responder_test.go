package main

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"sstproxy/netstack"
	"sstproxy/tunnel/tunneltest"
)

// join carries packets between a stack and a network until the end of the test.
func join(t *testing.T, stack *netstack.Stack, n tunneltest.Network) {
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	carry := func(ready <-chan struct{}, fill func([]byte) int, deliver func([][]byte)) {
		b := make([]byte, 300) // so that not all that waits fits
		for {
			select {
			case <-ready:
			case <-ended:
				return
			}
			for filled := fill(b); filled > 0; filled = fill(b) {
				var batch [][]byte
				for at := 0; at < filled; at += frameLen(b[at:]) {
					batch = append(batch, b[at+tunneltest.Headroom:at+frameLen(b[at:])])
				}
				deliver(batch)
			}
		}
	}
	go carry(stack.Ready(), stack.Fill, n.Deliver) // ends with the test
	go carry(n.Ready, n.Fill, stack.Deliver)       // the same
}

// TestResponder: connections of a real TCP get what they asked for and an orderly
// end, and leave nothing behind, whatever else has come.
func TestResponder(t *testing.T) {
	stack, err := netstack.New(netstack.Config{Headroom: tunneltest.Headroom, PutHeader: tunneltest.PutHeader})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stack.Close() })
	n := newResponder()
	n.Deliver([][]byte{nil, {0x45}, make([]byte, 60), frames(30)[29][tunneltest.Headroom:]})
	if got := drain(n.Fill); len(got) > 0 {
		t.Errorf("an answer of %d octets to what is no segment", len(got))
	}
	join(t, stack, n)
	err = stack.SetLink(netstack.Link{Addrs: []netip.Prefix{netip.MustParsePrefix("10.66.0.2/32")}, MTU: tunnelMTU})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		c, err := stack.DialContext(t.Context(), "tcp", "10.66.0.1:9000")
		if err != nil {
			t.Fatal(err)
		}
		guest(t, c, byte(i))
	}
	if s := stack.Stats(); s.Retransmits > 0 || s.BadChecksum > 0 {
		t.Errorf("%+v: segments sent again or damaged", s)
	}
}

// guest has an octet come back, and then the end.
func guest(t *testing.T, c net.Conn, octet byte) {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte{octet, 1}); err != nil {
		t.Fatal(err)
	}
	var got [1]byte
	if _, err := io.ReadFull(c, got[:]); err != nil || got[0] != octet {
		t.Fatalf("octet %d came back as %d, %v", octet, got[0], err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(got[:]); n != 0 || err != io.EOF {
		t.Fatalf("after the end: %d octets, %v, want EOF", n, err)
	}
}
