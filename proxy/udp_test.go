package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// udpNet is a network in memory in which every address answers with what it
// got, unless send says otherwise.
type udpNet struct {
	send func(s *udpSocket, b []byte, to netip.AddrPort) error

	mu      sync.Mutex
	sockets []*udpSocket
	asked   []string // names
}

type udpPacket struct {
	b    []byte
	from netip.AddrPort
}

// udpSocket is a socket of a udpNet.
type udpSocket struct {
	net     *udpNet
	network string
	in      chan udpPacket
	closed  chan struct{}
	once    sync.Once
}

func (n *udpNet) config() Config {
	return Config{Dial: (&dials{}).dial, ListenPacket: n.listenPacket, Lookup: n.lookup}
}

func (n *udpNet) listenPacket(_ context.Context, network, address string) (net.PacketConn, error) {
	if address != "" {
		return nil, fmt.Errorf("asked for %q", address)
	}
	s := &udpSocket{net: n, network: network, in: make(chan udpPacket, 1024), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sockets = append(n.sockets, s)
	return s, nil
}

func (n *udpNet) lookup(_ context.Context, network, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.asked = append(n.asked, network+" "+host)
	n.mu.Unlock()
	if host != "host.test" {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("fd00::9")}, nil
}

// socket returns the i-th socket that was opened.
func (n *udpNet) socket(i int) *udpSocket {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sockets[i]
}

func (s *udpSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	at := to.(*net.UDPAddr).AddrPort()
	if at.Addr().Is4() != (s.network == "udp4") {
		return 0, fmt.Errorf("%s socket writes to %v", s.network, at)
	}
	if s.net.send != nil {
		return len(b), s.net.send(s, bytes.Clone(b), at)
	}
	s.in <- udpPacket{bytes.Clone(b), at}
	return len(b), nil
}

func (s *udpSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-s.in:
		return copy(b, p.b), net.UDPAddrFromAddrPort(p.from), nil
	case <-s.closed:
		return 0, nil, net.ErrClosed
	}
}

func (s *udpSocket) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *udpSocket) LocalAddr() net.Addr              { return &net.UDPAddr{IP: net.IPv4zero, Port: 1} }
func (s *udpSocket) SetDeadline(time.Time) error      { return nil }
func (s *udpSocket) SetReadDeadline(time.Time) error  { return nil }
func (s *udpSocket) SetWriteDeadline(time.Time) error { return nil }

// udpAnnounce is a request UDP ASSOCIATE for an address.
func udpAnnounce(t testing.TB, at string) string {
	t.Helper()
	return "\x05\x01\x00" + string(appendAddress([]byte{5, commandUDPAssociate, 0}, netip.MustParseAddrPort(at)))
}

// associated makes an association on an open control connection and returns the
// relay's address.
func associated(t testing.TB, control io.ReadWriter, announced string) netip.AddrPort {
	t.Helper()
	write(t, control, udpAnnounce(t, announced))
	want(t, control, "\x05\x00")
	var reply [22]byte
	if _, err := io.ReadFull(control, reply[:10]); err != nil {
		t.Fatal(err)
	}
	end := 10
	if reply[3] == atypIPv6 {
		end = 22
		if _, err := io.ReadFull(control, reply[10:]); err != nil {
			t.Fatal(err)
		}
	}
	// A datagram's header ends like a reply.
	d, err := parseDatagram(append([]byte{0, 0, 0}, reply[3:end]...))
	if err != nil || reply[0] != 5 || reply[1] != replySucceeded {
		t.Fatalf("got reply % x, %v", reply[:end], err)
	}
	return netip.AddrPortFrom(d.addr, d.port)
}

// udpClient is a client's socket, connected to a relay.
func udpClient(t testing.TB, relay netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(relay))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// associate makes an association through a server, with its client's socket.
func (f *fixture) associate(t testing.TB) (control *net.TCPConn, client *net.UDPConn) {
	t.Helper()
	control = connect(t, f.addr)
	return control, udpClient(t, associated(t, control, "0.0.0.0:0"))
}

func wantDatagram(t testing.TB, c *net.UDPConn, wanted string) {
	t.Helper()
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	if err != nil || string(b[:n]) != wanted {
		t.Fatalf("got %q, %v, want %q", b[:n], err, wanted)
	}
}

// wantStats waits until the counters are what they should be.
func (f *fixture) wantStats(t testing.TB, wanted UDPStats) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); f.UDPStats() != wanted; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("got %+v, want %+v", f.UDPStats(), wanted)
		}
	}
}

const toTestNet = "\x00\x00\x00\x01\x0a\x01\x02\x03\x00\x35" // 10.1.2.3:53

// TestUDPBytes holds what a client sends and gets against RFC 1928, section 7.
func TestUDPBytes(t *testing.T) {
	var n udpNet
	f := serve(t, n.config(), ModeAuto)
	_, client := f.associate(t)
	long := pattern(60_000)
	const six = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	for _, tt := range []struct{ name, send, want string }{
		{"IPv4", toTestNet + "hello", toTestNet + "hello"},
		{"empty", toTestNet, toTestNet},
		{"large", toTestNet + long, toTestNet + long},
		{"reserved octets", "\xff\xff\x00\x01\x0a\x01\x02\x03\x00\x35x", toTestNet + "x"},
		{"IPv6", "\x00\x00\x00\x04" + six + "\x00\x35hello", "\x00\x00\x00\x04" + six + "\x00\x35hello"},
		{"IPv4 in IPv6", "\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x01\x02\x03\x00\x35x", toTestNet + "x"},
		{"name", "\x00\x00\x00\x03\x09host.test\x00\x35hello", "\x00\x00\x00\x01\x0a\x09\x09\x09\x00\x35hello"},
		{"same name", "\x00\x00\x00\x03\x09host.test\x00\x36again", "\x00\x00\x00\x01\x0a\x09\x09\x09\x00\x36again"},
		{"address as a name", "\x00\x00\x00\x03\x0810.1.2.3\x00\x35x", toTestNet + "x"},
	} {
		write(t, client, tt.send)
		wantDatagram(t, client, tt.want)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if asked := strings.Join(n.asked, ","); asked != "ip host.test" {
		t.Errorf("got lookups %q, want one", asked)
	}
	if len(n.sockets) != 2 {
		t.Errorf("got %d sockets for all destinations, want one for each family", len(n.sockets))
	}
}

// TestUDPDropped sends what must not pass, and then what must.
func TestUDPDropped(t *testing.T) {
	var n udpNet
	f := serve(t, n.config(), ModeAuto)
	_, client := f.associate(t)
	var malformed, undelivered uint64
	drop := func(count *uint64, datagram string) {
		t.Helper()
		write(t, client, datagram)
		*count++
		write(t, client, toTestNet+"marker")
		wantDatagram(t, client, toTestNet+"marker")
	}
	for _, whole := range []string{toTestNet, "\x00\x00\x00\x03\x01h\x00\x35", "\x00\x00\x00\x04" + strings.Repeat("\x20", 16) + "\x00\x35"} {
		for i := range len(whole) {
			drop(&malformed, whole[:i])
		}
	}
	drop(&malformed, "\x00\x00\x01\x01\x0a\x01\x02\x03\x00\x35a fragment")
	drop(&malformed, "\x00\x00\x80\x01\x0a\x01\x02\x03\x00\x35the last fragment")
	drop(&malformed, "\x00\x00\x00\x02\x0a\x01\x02\x03\x00\x35x")
	for _, host := range []string{"", "localhost", "a.localhost.", "127.0.0.1", "0", "127.1", "a\x00b", "::1", "fe80::1%eth0", "nowhere.test"} {
		drop(&undelivered, "\x00\x00\x00\x03"+string([]byte{byte(len(host))})+host+"\x00\x35x")
	}
	for _, addr := range []string{"127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "::1", "::", "::ffff:127.0.0.1"} {
		drop(&undelivered, string(appendDatagramHeader(nil, netip.AddrPortFrom(netip.MustParseAddr(addr), 53)))+"x")
	}
	marked := malformed + undelivered
	f.wantStats(t, UDPStats{Associations: 1, Sent: marked, Received: marked, Malformed: malformed, Undelivered: undelivered})
}

// TestUDPPinned: nobody but the client gets anything through its association.
func TestUDPPinned(t *testing.T) {
	var n udpNet
	f := serve(t, n.config(), ModeAuto)
	_, client := f.associate(t)
	write(t, client, toTestNet+"first")
	wantDatagram(t, client, toTestNet+"first")
	stranger := udpClient(t, client.RemoteAddr().(*net.UDPAddr).AddrPort())
	for range 10 {
		write(t, stranger, toTestNet+"spoofed")
	}
	write(t, client, toTestNet+"second")
	wantDatagram(t, client, toTestNet+"second")
	f.wantStats(t, UDPStats{Associations: 1, Sent: 2, Received: 2, Foreign: 10})
}

// TestUDPAnnounced: a client that says which port it will use is taken at its
// word, if it names its own address.
func TestUDPAnnounced(t *testing.T) {
	for _, at := range [][2]string{{"tcp", "127.0.0.1:0"}, {"unix", socketPath(t)}} {
		l, err := net.Listen(at[0], at[1])
		if err != nil {
			t.Fatal(err)
		}
		var n udpNet
		f := serveOn(t, n.config(), ModeAuto, l)
		control, err := net.Dial(at[0], f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer control.Close()
		mine, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer mine.Close()
		for _, c := range []net.Conn{control, mine} {
			c.SetDeadline(time.Now().Add(patience))
		}
		relay := associated(t, control, mine.LocalAddr().String())
		write(t, udpClient(t, relay), toTestNet+"too early")
		if _, err := mine.WriteToUDPAddrPort([]byte(toTestNet+"mine"), relay); err != nil {
			t.Fatal(err)
		}
		wantDatagram(t, mine, toTestNet+"mine")
		f.wantStats(t, UDPStats{Associations: 1, Sent: 1, Received: 1, Foreign: 1})
	}
}

// TestUDPAnnouncedOther: what is not the client's own address says nothing.
func TestUDPAnnouncedOther(t *testing.T) {
	var n udpNet
	f := serve(t, n.config(), ModeAuto)
	for _, useless := range []string{"0.0.0.0:9", "192.0.2.1:9", "[2001:db8::1]:9"} {
		client := udpClient(t, associated(t, connect(t, f.addr), useless))
		write(t, client, toTestNet+useless)
		wantDatagram(t, client, toTestNet+useless)
	}
}

// TestUDPRelayAddress: the relay is where the client came to, or on loopback.
func TestUDPRelayAddress(t *testing.T) {
	for _, tt := range []struct{ network, listen, want string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1"},
		{"tcp", "[::1]:0", "::1"},
		{"tcp", "0.0.0.0:0", "127.0.0.1"}, // the connection's own address
		{"unix", socketPath(t), "127.0.0.1"},
	} {
		t.Run(tt.network+" "+tt.listen, func(t *testing.T) {
			l, err := net.Listen(tt.network, tt.listen)
			if err != nil && tt.want == "::1" {
				t.Skip("no IPv6 on this machine:", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			var n udpNet
			f := serveOn(t, n.config(), ModeAuto, l)
			to := f.addr
			if _, port, ok := strings.Cut(to, "[::]:"); ok {
				to = "127.0.0.1:" + port
			}
			control, err := net.Dial(tt.network, strings.Replace(to, "0.0.0.0", "127.0.0.1", 1))
			if err != nil {
				t.Fatal(err)
			}
			defer control.Close()
			control.SetDeadline(time.Now().Add(patience))
			relay := associated(t, control, "0.0.0.0:0")
			if relay.Addr().String() != tt.want {
				t.Errorf("got a relay at %v, want %v", relay, tt.want)
			}
			client := udpClient(t, relay)
			write(t, client, toTestNet+"x")
			wantDatagram(t, client, toTestNet+"x")
		})
	}
}

// TestUDPEnds: whatever ends first, nothing of an association is left.
func TestUDPEnds(t *testing.T) {
	for name, end := range map[string]func(f *fixture, control *net.TCPConn, n *udpNet){
		"control closed":      func(_ *fixture, c *net.TCPConn, _ *udpNet) { c.Close() },
		"control half-closed": func(_ *fixture, c *net.TCPConn, _ *udpNet) { c.CloseWrite() },
		"control reset":       func(_ *fixture, c *net.TCPConn, _ *udpNet) { c.SetLinger(0); c.Close() },
		"IPv4 socket gone":    func(_ *fixture, _ *net.TCPConn, n *udpNet) { n.socket(0).Close() },
		"IPv6 socket gone":    func(_ *fixture, _ *net.TCPConn, n *udpNet) { n.socket(1).Close() },
		"shutdown": func(f *fixture, _ *net.TCPConn, _ *udpNet) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = f.Shutdown(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var n udpNet
			f := serve(t, n.config(), ModeAuto)
			control, client := f.associate(t)
			write(t, control, "octets that mean nothing")
			write(t, client, toTestNet+"x")
			wantDatagram(t, client, toTestNet+"x")
			end(f, control, &n)
			wait(t, n.socket(0).closed, "the end of the IPv4 socket")
			wait(t, n.socket(1).closed, "the end of the IPv6 socket")
			if !strings.HasPrefix(name, "control") {
				_, err := io.Copy(io.Discard, control)
				if isTimeout(err) {
					t.Error("the control connection is still open")
				}
			}
		})
	}
}

func TestUDPIdle(t *testing.T) {
	var n udpNet
	cfg := n.config()
	cfg.UDPIdleTimeout = 20 * time.Millisecond
	begin := time.Now()
	control, _ := serve(t, cfg, ModeAuto).associate(t)
	wantEOF(t, control)
	if d := time.Since(begin); d < cfg.UDPIdleTimeout {
		t.Errorf("ended after %v, want %v at least", d, cfg.UDPIdleTimeout)
	}
}

// TestUDPLeastRecentlyUsed: one association too many ends the one that has been
// silent for longest.
func TestUDPLeastRecentlyUsed(t *testing.T) {
	var n udpNet
	cfg := n.config()
	cfg.MaxAssociations = 2
	f := serve(t, cfg, ModeAuto)
	_, first := f.associate(t)
	second, _ := f.associate(t)
	write(t, first, toTestNet+"x")
	wantDatagram(t, first, toTestNet+"x")
	_, third := f.associate(t)
	wantEOF(t, second)
	for _, c := range []*net.UDPConn{first, third} {
		write(t, c, toTestNet+"y")
		wantDatagram(t, c, toTestNet+"y")
	}
	f.wantStats(t, UDPStats{Associations: 2, Sent: 3, Received: 3})
}

// TestUDPFailures: why there is no socket, in the codes of RFC 1928.
func TestUDPFailures(t *testing.T) {
	for _, tt := range replies {
		t.Run(tt.name, func(t *testing.T) {
			cfg := failing(nil)
			cfg.ListenPacket = func(context.Context, string, string) (net.PacketConn, error) { return nil, tt.err }
			c := connect(t, serve(t, cfg, ModeAuto).addr)
			write(t, c, udpAnnounce(t, "0.0.0.0:0"))
			want(t, c, "\x05\x00")
			if got := readReply(t, c); got != tt.reply {
				t.Errorf("got reply %d, want %d", got, tt.reply)
			}
			wantEOF(t, c)
		})
	}
}

// TestUDPOneFamily: without IPv6 an association carries IPv4.
func TestUDPOneFamily(t *testing.T) {
	var n udpNet
	cfg := n.config()
	cfg.ListenPacket = func(ctx context.Context, network, address string) (net.PacketConn, error) {
		if network == "udp6" {
			return nil, errors.New("no IPv6")
		}
		return n.listenPacket(ctx, network, address)
	}
	f := serve(t, cfg, ModeAuto)
	_, client := f.associate(t)
	write(t, client, "\x00\x00\x00\x04"+strings.Repeat("\x20", 16)+"\x00\x35x")
	write(t, client, toTestNet+"x")
	wantDatagram(t, client, toTestNet+"x")
	f.wantStats(t, UDPStats{Associations: 1, Sent: 1, Received: 1, Undelivered: 1})
}

// TestUDPWaitingClientGone: a client that leaves while the tunnel is down ends
// the wait.
func TestUDPWaitingClientGone(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan error, 1)
	cfg := failing(nil)
	cfg.ListenPacket = func(ctx context.Context, _, _ string) (net.PacketConn, error) {
		close(begun)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, ctx.Err()
	}
	c := connect(t, serve(t, cfg, ModeAuto).addr)
	write(t, c, udpAnnounce(t, "0.0.0.0:0"))
	wait(t, begun, "the call")
	c.Close()
	if err := wait(t, ended, "its end"); !errors.Is(err, errClientGone) {
		t.Errorf("got %v, want errClientGone", err)
	}
}

// TestUDPRefusedDatagrams: what the network refuses is counted, and nothing
// else happens.
func TestUDPRefusedDatagrams(t *testing.T) {
	n := udpNet{send: func(s *udpSocket, b []byte, to netip.AddrPort) error {
		if to.Port() == 1 {
			return fmt.Errorf("rule 3: %w", ErrBlocked)
		}
		s.in <- udpPacket{b, to}
		return nil
	}}
	f := serve(t, n.config(), ModeAuto)
	_, client := f.associate(t)
	write(t, client, "\x00\x00\x00\x01\x0a\x01\x02\x03\x00\x01x")
	write(t, client, toTestNet+"x")
	wantDatagram(t, client, toTestNet+"x")
	f.wantStats(t, UDPStats{Associations: 1, Sent: 1, Received: 1, Undelivered: 1})
}

// TestUDPUnasked: what comes before the client's first datagram has nobody to go
// to; what comes later may come from anybody, as from behind a NAT with
// endpoint-independent mapping and filtering; what grows too long by its header
// is lost.
func TestUDPUnasked(t *testing.T) {
	var n udpNet
	f := serve(t, n.config(), ModeAuto)
	_, client := f.associate(t)
	from := netip.MustParseAddrPort("10.7.7.7:7")
	n.socket(0).in <- udpPacket{[]byte("early"), from}
	f.wantStats(t, UDPStats{Associations: 1, Undelivered: 1})
	write(t, client, toTestNet+"x")
	wantDatagram(t, client, toTestNet+"x")
	n.socket(0).in <- udpPacket{bytes.Repeat([]byte("x"), 65507), from}
	n.socket(0).in <- udpPacket{[]byte("late"), from}
	wantDatagram(t, client, "\x00\x00\x00\x01\x0a\x07\x07\x07\x00\x07late")
	f.wantStats(t, UDPStats{Associations: 1, Sent: 1, Received: 2, Undelivered: 2})
}

// TestUDPNameFlood: names that nobody answers for take a bounded part, and hold
// nothing else up.
func TestUDPNameFlood(t *testing.T) {
	var n udpNet
	var running, most atomic.Int64
	cfg := n.config()
	cfg.Lookup = func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	f := serve(t, cfg, ModeAuto)
	control, client := f.associate(t)
	const flood = 500
	for i := range flood {
		write(t, client, fmt.Sprintf("\x00\x00\x00\x03\x0cn%03d.test.de\x00\x35%s", i%100, strings.Repeat("x", 1000*(i%2))))
		write(t, client, toTestNet+"marker")
		wantDatagram(t, client, toTestNet+"marker")
	}
	// maxWaiting octets and no more wait; the others are gone.
	got := f.UDPStats()
	if kept := flood - got.Undelivered; kept == 0 || kept > maxWaiting/128 {
		t.Errorf("%d datagrams wait, want 1 to %d", kept, maxWaiting/128)
	}
	control.Close()
	wait(t, n.socket(0).closed, "the end")
	if most.Load() == 0 || most.Load() > maxAsked {
		t.Errorf("got %d lookups at once, want 1 to %d", most.Load(), maxAsked)
	}
}

// TestUDPNamesBounded: an association forgets names when there are too many.
func TestUDPNamesBounded(t *testing.T) {
	c, _ := net.Pipe()
	a := &association{srv: New(Config{Dial: (&dials{}).dial}), control: &clientConn{Conn: c}}
	for i := range 10 * maxNames {
		_, err := a.names.find(t.Context(), a, datagram{name: fmt.Appendf(nil, "n%d.test", i)})
		if err != nil {
			t.Fatal(err)
		}
		a.wg.Wait()
	}
	if got := len(a.names.known); got > maxNames {
		t.Errorf("got %d names, want %d at most", got, maxNames)
	}
	if a.names.waiting != 0 || a.names.asked != 0 {
		t.Errorf("got %d octets and %d lookups left, want none", a.names.waiting, a.names.asked)
	}
}

func FuzzDatagram(f *testing.F) {
	for _, s := range []string{"", toTestNet + "hello", "\x00\x00\x01\x01\x0a\x01\x02\x03\x00\x35", "\x00\x00\x00\x03\x09host.test\x00\x35hello", "\x00\x00\x00\x03\xff", "\x00\x00\x00\x04" + strings.Repeat("\x20", 16) + "\x00\x35"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDatagram(b)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(b, d.payload) || d.addr.IsValid() == (d.name != nil) || b[2] != 0 {
			t.Fatalf("got %+v from % x", d, b)
		}
		if !d.addr.IsValid() {
			return
		}
		again, err := parseDatagram(append(appendDatagramHeader(nil, netip.AddrPortFrom(d.addr, d.port)), d.payload...))
		if err != nil || again.addr != d.addr || again.port != d.port || !bytes.Equal(again.payload, d.payload) {
			t.Fatalf("got %+v and %v, want %+v", again, err, d)
		}
	})
}
