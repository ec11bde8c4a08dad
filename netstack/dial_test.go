package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestDialErrors(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	for _, tt := range []struct {
		network, address string
		want             error
	}{
		{"tcp", "10.9.0.2:9", ErrRefused},
		{"tcp", "[fd00:9::2]:9", ErrRefused},
		{"tcp", "10.9.0.1:9", ErrRefused}, // our own address: never leaves
		{"tcp", "127.0.0.1:9", ErrNetUnreachable},
		{"tcp", "[::1]:9", ErrNetUnreachable},
		{"tcp", "0.0.0.0:9", ErrNetUnreachable},
		{"tcp", "[::ffff:127.0.0.1]:9", ErrNetUnreachable},
		{"tcp", "224.0.0.1:9", ErrNetUnreachable},
		{"tcp", "255.255.255.255:9", ErrNetUnreachable},
		{"udp", "127.0.0.1:9", ErrNetUnreachable},
	} {
		c, err := w.a.DialContext(t.Context(), tt.network, tt.address)
		if err == nil {
			c.Close()
		}
		if op, ok := errors.AsType[*net.OpError](err); !errors.Is(err, tt.want) || !ok || op.Op != "dial" {
			t.Errorf("dial %s %s = %v, want %v", tt.network, tt.address, err, tt.want)
		}
	}
	for _, tt := range []struct{ network, address string }{
		{"tcp4", "[fd00:9::2]:9"}, {"tcp6", "10.9.0.2:9"}, {"tcp", "10.9.0.2"}, {"tcp", "10.9.0.2:http"}, {"unix", "/x"}, {"tcp", "10.9.0.2:70000"},
	} {
		if c, err := w.a.DialContext(t.Context(), tt.network, tt.address); err == nil {
			c.Close()
			t.Errorf("dial %s %s succeeded", tt.network, tt.address)
		}
	}
}

func TestNoIPv6(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	setLink(t, s, Link{Addrs: hosts(addrA)})
	if _, err := s.DialContext(t.Context(), "tcp", "[2001:db8::1]:80"); !errors.Is(err, ErrNetUnreachable) {
		t.Errorf("dial = %v, want network unreachable", err)
	}
	// Too small a link for IPv6, though it has the address.
	setLink(t, s, Link{Addrs: hosts(addrA, addrA6), MTU: 1279})
	if _, err := s.DialContext(t.Context(), "tcp", "[2001:db8::1]:80"); !errors.Is(err, ErrNetUnreachable) {
		t.Errorf("dial = %v, want network unreachable", err)
	}
}

func TestDialTimeout(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	w.out.setFilter(func([]byte) bool { return false })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := w.a.DialContext(ctx, "tcp", "10.9.0.2:80")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
		t.Errorf("dial = %v after %v, want the deadline", err, time.Since(start))
	}
	if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
		t.Errorf("%v is not a timeout", err)
	}
}

// TestSYNRetries: without a deadline three retries are all.
func TestSYNRetries(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	var mu sync.Mutex
	syns := 0
	w.out.setFilter(func([]byte) bool {
		mu.Lock()
		defer mu.Unlock()
		syns++
		return false
	})
	start := time.Now()
	_, err := w.a.DialContext(t.Context(), "tcp", "10.9.0.2:80")
	if !errors.Is(err, ErrTimeout) || time.Since(start) > 20*time.Second {
		t.Errorf("dial = %v after %v, want a timeout after 15 s", err, time.Since(start))
	}
	mu.Lock()
	defer mu.Unlock()
	if syns < 4 || syns > 5 { // the fifth is due when the dial ends
		t.Errorf("%d SYNs, want 4", syns)
	}
}

// TestDialCancel: the endpoint is gone when DialContext returns.
func TestDialCancel(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	w.out.setFilter(func([]byte) bool { once.Do(cancel); return false })
	_, err := w.a.DialContext(ctx, "tcp", "10.9.0.2:80")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("dial = %v, want canceled", err)
	}
	if n := len(w.a.net.RegisteredEndpoints()); n != 0 {
		t.Errorf("%d endpoints left", n)
	}
	if _, err := w.a.DialContext(ctx, "tcp", "10.9.0.2:80"); !errors.Is(err, context.Canceled) {
		t.Errorf("dial = %v, want canceled", err)
	}
}

func TestCloseWhileDialling(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	started := make(chan struct{})
	var once sync.Once
	w.out.setFilter(func([]byte) bool { once.Do(func() { close(started) }); return false })
	done := make(chan error, 1)
	go func() {
		_, err := w.a.DialContext(context.Background(), "tcp", "10.9.0.2:80")
		done <- err
	}()
	<-started
	within(t, 5*time.Second, "Close", func() { w.a.Close() })
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial = %v, want closed", err)
	}
	if _, err := w.a.DialContext(t.Context(), "tcp", "10.9.0.2:80"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial = %v, want closed", err)
	}
	if err := w.a.SetLink(linkA()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("SetLink = %v, want closed", err)
	}
}

func TestLinkDown(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	address := w.serve(t, "tcp", ":0", echo)
	c := w.dial(t, "tcp", address)

	started := make(chan struct{})
	var once sync.Once
	w.out.setFilter(func([]byte) bool { once.Do(func() { close(started) }); return false })
	done := make(chan error, 1)
	go func() {
		_, err := w.a.DialContext(context.Background(), "tcp", address)
		done <- err
	}()
	<-started
	w.a.LinkDown()
	w.a.LinkDown() // again is nothing
	if err := <-done; !errors.Is(err, ErrDown) || !errors.Is(err, syscall.ENETDOWN) {
		t.Errorf("running dial = %v, want down", err)
	}
	if _, err := w.a.DialContext(t.Context(), "tcp", address); !errors.Is(err, ErrDown) {
		t.Errorf("dial = %v, want down", err)
	}
	if _, err := w.a.LookupNetIP(t.Context(), "ip", "name"); !errors.Is(err, ErrDown) {
		t.Errorf("lookup = %v, want down", err)
	}

	// The same address again: the connection goes on.
	w.out.setFilter(func([]byte) bool { return true })
	setLink(t, w.a, linkA())
	roundTrip(t, c)
	// Another address: it ends.
	w.a.LinkDown()
	l := linkA()
	l.Addrs = hosts(netip.MustParseAddr("10.9.0.77"))
	setLink(t, w.a, l)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrAborted) {
		t.Errorf("Read = %v, want aborted", err)
	}
	roundTrip(t, w.dial(t, "tcp", address))
}

func roundTrip(t *testing.T, c net.Conn) {
	t.Helper()
	b := make([]byte, 4)
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "ping" {
		t.Fatalf("got %q, %v", b, err)
	}
}

func TestNeverUp(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	if _, err := s.DialContext(t.Context(), "tcp", "10.0.0.1:1"); !errors.Is(err, ErrDown) {
		t.Errorf("dial = %v, want down", err)
	}
	for _, l := range []Link{
		{}, {Addrs: hosts(addrA), MTU: 67}, {Addrs: hosts(addrA), MTU: 65536}, {Addrs: make([]netip.Prefix, 1)},
		{Addrs: hosts(netip.IPv4Unspecified())}, {Addrs: hosts(netip.MustParseAddr("224.0.0.1"))},
	} {
		if err := s.SetLink(l); err == nil {
			t.Errorf("SetLink(%v) succeeded", l)
		}
	}
	if _, err := New(Config{Headroom: -1}); err == nil {
		t.Error("negative headroom accepted")
	}
}

// TestUnreachableByICMP: a router's answer ends the dial at once.
func TestUnreachableByICMP(t *testing.T) {
	t.Parallel()
	for code, want := range map[header.ICMPv4Code]error{
		header.ICMPv4HostUnreachable: ErrHostUnreachable,
		header.ICMPv4NetUnreachable:  ErrNetUnreachable,
		header.ICMPv4PortUnreachable: ErrRefused,
	} {
		w := newWires(t)
		w.out.setFilter(func(packet []byte) bool {
			w.a.Deliver([][]byte{icmpError(code, 0, packet)})
			return false
		})
		if _, err := w.a.DialContext(t.Context(), "tcp", "10.9.0.2:80"); !errors.Is(err, want) {
			t.Errorf("code %d: dial = %v, want %v", code, err, want)
		}
	}
}

// icmpError makes a Destination Unreachable of a router about an IPv4 packet.
func icmpError(code header.ICMPv4Code, mtu uint16, about []byte) []byte {
	about = about[:min(len(about), 60)]
	b := make([]byte, header.IPv4MinimumSize+header.ICMPv4MinimumSize+len(about))
	icmp := header.ICMPv4(b[header.IPv4MinimumSize:])
	icmp.SetType(header.ICMPv4DstUnreachable)
	icmp.SetCode(code)
	icmp.SetMTU(mtu)
	copy(icmp.Payload(), about)
	icmp.SetChecksum(^checksum.Checksum(icmp, 0))
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
		SrcAddr: addressOf(netip.MustParseAddr("10.9.9.9")), DstAddr: header.IPv4(about).SourceAddress(),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	return b
}

// TestRace: IPv4 that does not answer, IPv6 that does, and the reverse.
func TestRace(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	address := w.serve(t, "tcp", ":0", echo)
	port := netip.MustParseAddrPort(address).Port()
	addrs := []netip.Addr{addrB, addrB6}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for version, want := range map[byte]netip.Addr{4: addrB6, 6: addrB, 0: addrB} { // 0: none is silent
		w.out.setFilter(func(packet []byte) bool { return packet[0]>>4 != version })
		c, err := w.a.dialAny(ctx, addrs, port)
		if err != nil {
			t.Fatalf("IPv%d silent: %v", version, err)
		}
		if got := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != want {
			t.Errorf("IPv%d silent: connected to %v, want %v", version, got, want)
		}
		c.Close()
	}
	w.out.setFilter(func([]byte) bool { return true })
	// Both refuse: at once, and IPv4's error is told.
	start := time.Now()
	if _, err := w.a.dialAny(ctx, addrs, 9); !errors.Is(err, ErrRefused) || time.Since(start) > 5*time.Second {
		t.Errorf("dial = %v after %v", err, time.Since(start))
	}
	// The second of two addresses gets its share of the time.
	w.out.setFilter(func(packet []byte) bool { return packet[19] != 200 })
	silent := netip.MustParseAddr("10.9.0.200")
	short, cancel := context.WithTimeout(ctx, 4500*time.Millisecond)
	defer cancel()
	c, err := w.a.dialAny(short, []netip.Addr{silent, addrB}, port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
