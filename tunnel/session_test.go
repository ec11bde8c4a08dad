package tunnel_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// pair is a server and what a client needs to reach it, in a synctest bubble.
type pair struct {
	t      *testing.T
	server *tunneltest.Server
	cfg    tunnel.Config
	far    *echoNetwork
	phases []tunnel.Phase
}

// newPair starts a server that admits alice. Packets to it come back.
func newPair(t *testing.T, cfg tunneltest.Config) *pair {
	t.Helper()
	p := &pair{t: t, far: newEchoNetwork()}
	cfg.Users = map[string]string{"alice": "wonderland"}
	cfg.DNS = []netip.Addr{netip.MustParseAddr("10.66.0.53")}
	if cfg.Attach == nil {
		cfg.Attach = func(tunneltest.Client) tunneltest.Network { return p.far.network() }
	}
	server, err := tunneltest.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.server = server
	p.cfg = tunnel.Config{
		Server: "vpn.example.test", User: "alice", Password: "wonderland",
		TLS: tunnel.TLSConfig{CA: server.CA()},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go server.ServeConn(far) // ends with the connection
			return near, nil
		},
		Progress: func(pr tunnel.Progress) { p.phases = append(p.phases, pr.Phase) },
	}
	return p
}

// dial connects, or ends the test.
func (p *pair) dial() *tunnel.Session {
	p.t.Helper()
	s, err := tunnel.Dial(p.t.Context(), p.cfg)
	if err != nil {
		p.t.Fatalf("Dial: %v\nserver saw: %v", err, p.server.Events())
	}
	return s
}

// fail connects and wants that to fail.
func (p *pair) fail() error {
	p.t.Helper()
	s, err := tunnel.Dial(p.t.Context(), p.cfg)
	if err == nil {
		s.Close()
		p.t.Fatal("Dial: no error")
	}
	var e *tunnel.Error
	if !errors.As(err, &e) {
		p.t.Errorf("Dial: %T, want a *tunnel.Error", err)
	}
	return err
}

// run starts Run and returns how to end it and what to wait for.
func run(t *testing.T, s *tunnel.Session, packets tunnel.Packets) (cancel func(), ended <-chan error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, packets) }() // ends with the session
	return cancel, done
}

func (p *pair) want(kinds ...tunneltest.EventKind) {
	p.t.Helper()
	for _, k := range kinds {
		if p.server.Count(k) == 0 {
			p.t.Errorf("server did not see %v; it saw %v", k, p.server.Events())
		}
	}
}

// echoNetwork gives every IP packet back.
type echoNetwork struct {
	mu     sync.Mutex
	queued []byte
	ready  chan struct{}
}

func newEchoNetwork() *echoNetwork { return &echoNetwork{ready: make(chan struct{}, 1)} }

func (n *echoNetwork) deliver(batch [][]byte) {
	n.mu.Lock()
	for _, b := range batch {
		n.queued = append(n.queued, framed(b)...)
	}
	n.mu.Unlock()
	select {
	case n.ready <- struct{}{}:
	default:
	}
}

func (n *echoNetwork) fill(b []byte) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	used := 0
	for used < len(n.queued) {
		_, size, _ := sstp.ParsePacket(n.queued[used:])
		if used+size > len(b) {
			break
		}
		used += size
	}
	copy(b, n.queued[:used])
	n.queued = n.queued[used:]
	return used
}

func (n *echoNetwork) network() tunneltest.Network {
	return tunneltest.Network{Deliver: n.deliver, Ready: n.ready, Fill: n.fill}
}

// framed puts the headers before an IP packet.
func framed(packet []byte) []byte {
	frame := append(make([]byte, tunnel.Headroom), packet...)
	tunnel.PutHeader(frame)
	return frame
}

// ipPacket is no valid packet of anything but its version.
func ipPacket(version byte, n int, fill byte) []byte {
	b := bytes.Repeat([]byte{fill}, n)
	b[0] = version << 4
	return b
}

// near is the client's end: what Fill has to give, and what came.
type near struct {
	mu    sync.Mutex
	out   [][]byte
	got   [][]byte
	ready chan struct{}
	came  chan struct{}
}

func newNear(out ...[]byte) *near {
	n := &near{out: out, ready: make(chan struct{}, 1), came: make(chan struct{}, 1024)}
	n.ready <- struct{}{}
	return n
}

func (n *near) packets() tunnel.Packets {
	return tunnel.Packets{
		Ready: n.ready,
		Deliver: func(batch [][]byte) {
			n.mu.Lock()
			defer n.mu.Unlock()
			for _, b := range batch {
				n.got = append(n.got, bytes.Clone(b))
				n.came <- struct{}{}
			}
		},
		Fill: func(b []byte) (used int) {
			n.mu.Lock()
			defer n.mu.Unlock()
			for len(n.out) > 0 && used+tunnel.Headroom+len(n.out[0]) <= len(b) {
				used += copy(b[used:], framed(n.out[0]))
				n.out = n.out[1:]
			}
			return used
		},
	}
}

// send makes Fill yield one more packet.
func (n *near) send(packet []byte) {
	n.mu.Lock()
	n.out = append(n.out, packet)
	n.mu.Unlock()
	n.ready <- struct{}{}
}

// await waits until a packet has come, others before it or not.
func (n *near) await(t *testing.T, ended <-chan error, packet []byte) {
	t.Helper()
	for {
		select {
		case <-n.came:
		case err := <-ended:
			t.Fatalf("session ended: %v", err)
		}
		n.mu.Lock()
		last := n.got[len(n.got)-1]
		n.mu.Unlock()
		if bytes.Equal(last, packet) {
			return
		}
	}
}

// TestServers connects to each kind of server, moves packets, stays for ten
// idle minutes, moves packets again and ends in order.
func TestServers(t *testing.T) {
	for name, quirks := range map[string]tunneltest.Quirks{
		"plain": {}, "SoftEther": tunneltest.SoftEther(), "SoftEther4": tunneltest.SoftEther4(),
		"accel-ppp": tunneltest.AccelPPP(), "RRAS": tunneltest.RRAS(), "MikroTik": tunneltest.MikroTik(),
		"Keenetic": tunneltest.Keenetic(), "sorz": tunneltest.Sorz(),
		"LCP echo alone": {SSTP: tunneltest.SSTPQuirks{NeverAnswersEcho: true, EchoInterval: time.Hour}},
		"odd wire":       {Wire: tunneltest.WireQuirks{SplitRecords: true, ReservedBits: true, Compressed: true, Padding: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, tunneltest.Config{Quirks: quirks})
				s := p.dial()
				if want := []tunnel.Phase{tunnel.PhaseTCP, tunnel.PhaseTLS, tunnel.PhaseHTTP, tunnel.PhaseSSTP,
					tunnel.PhaseLCP, tunnel.PhaseAuth, tunnel.PhaseIPCP}; !slices.Equal(p.phases, want) {
					t.Errorf("phases %v, want %v", p.phases, want)
				}
				info := s.Info()
				if info.IPv4.Addr.String() != "10.66.0.2" || len(info.IPv4.DNS) != 1 || info.Method != ppp.MSCHAPv2 {
					t.Errorf("info %+v, want the first address of the pool, one DNS server, MS-CHAPv2", info)
				}
				n := newNear(ipPacket(4, 100, 1), ipPacket(4, 1400, 2))
				cancel, ended := run(t, s, n.packets())
				n.await(t, ended, ipPacket(4, 1400, 2))
				<-time.After(10 * time.Minute) // of the bubble's clock
				n.send(ipPacket(4, 20, 3))
				n.await(t, ended, ipPacket(4, 20, 3))
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("Run = %v, want nil after cancel", err)
				}
				p.server.Close()
				p.want(tunneltest.EventTerminateRequest, tunneltest.EventCallDisconnect, tunneltest.EventCloseNotify)
				if !quirks.SSTP.NoVerify {
					p.want(tunneltest.EventBindingVerified)
				}
				if !slices.ContainsFunc(n.got, func(b []byte) bool { return bytes.Equal(b, ipPacket(4, 100, 1)) }) {
					t.Error("the first packet did not come back")
				}
			})
		})
	}
}

// TestDialFails looks at every way Dial can end without a session.
func TestDialFails(t *testing.T) {
	type change = func(*tunneltest.Config, *tunnel.Config)
	quirk := func(set func(*tunneltest.Quirks)) change {
		return func(c *tunneltest.Config, _ *tunnel.Config) { set(&c.Quirks) }
	}
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	for _, tt := range []struct {
		name  string
		set   change
		phase tunnel.Phase
		check func(error) bool
	}{
		{"wrong password", func(_ *tunneltest.Config, c *tunnel.Config) { c.Password = "x" }, tunnel.PhaseAuth, as[*ppp.AuthError]},
		{"unknown user", func(_ *tunneltest.Config, c *tunnel.Config) { c.User = "x" }, tunnel.PhaseAuth, as[*ppp.AuthError]},
		{"wrong password, PAP", func(s *tunneltest.Config, c *tunnel.Config) {
			s.Methods, c.AllowPAP, c.Password = []tunneltest.Method{tunneltest.PAP}, true, "x"
		}, tunnel.PhaseAuth, as[*ppp.AuthError]},
		{"wrong password, SoftEther", func(s *tunneltest.Config, c *tunnel.Config) {
			s.Quirks, c.Password = tunneltest.SoftEther(), "x"
		}, tunnel.PhaseAuth, as[*ppp.AuthError]},
		{"password expired", quirk(func(q *tunneltest.Quirks) { q.Auth.RefuseCode = 648 }), tunnel.PhaseAuth, func(err error) bool {
			var e *ppp.AuthError
			return errors.As(err, &e) && e.Failure.Code == 648
		}},
		{"PAP only", func(s *tunneltest.Config, _ *tunnel.Config) { s.Methods = []tunneltest.Method{tunneltest.PAP} },
			tunnel.PhaseLCP, as[*ppp.NoCommonAuthError]},
		{"EAP only", func(s *tunneltest.Config, c *tunnel.Config) {
			s.Methods, c.AllowPAP = []tunneltest.Method{tunneltest.EAP}, true
		}, tunnel.PhaseLCP, as[*ppp.NoCommonAuthError]},
		{"server not proved", quirk(func(q *tunneltest.Quirks) { q.Auth.WrongS = true }), tunnel.PhaseAuth, is(ppp.ErrServerNotProved)},
		{"server proves nothing", quirk(func(q *tunneltest.Quirks) { q.Auth.OmitsS = true }), tunnel.PhaseAuth, is(ppp.ErrServerNotProved)},
		{"binding refused, RRAS", quirk(func(q *tunneltest.Quirks) { q.SSTP.NoKeys = true }), tunnel.PhaseIPCP, as[*tunnel.BindingError]},
		{"binding refused, accel-ppp", quirk(func(q *tunneltest.Quirks) { q.SSTP.NoKeys, q.SSTP.BindingInvalidFrame = true, true }),
			tunnel.PhaseIPCP, as[*tunnel.BindingError]},
		{"no address", quirk(func(q *tunneltest.Quirks) { q.NCP.NoAddress = true }), tunnel.PhaseIPCP, is(ppp.ErrNoAddress)},
		{"no IPCP", quirk(func(q *tunneltest.Quirks) { q.NCP.NoIPCP = true }), tunnel.PhaseIPCP, is(ppp.ErrNoAddress)},
		{"Nak for ever", quirk(func(q *tunneltest.Quirks) { q.SSTP.Naks = 9 }), tunnel.PhaseSSTP, as[*sstp.AbortError]},
		{"no Ack", quirk(func(q *tunneltest.Quirks) { q.SSTP.NeverAcks = true }), tunnel.PhaseSSTP, is(sstp.ErrNegotiationTimeout)},
		{"no LCP", quirk(func(q *tunneltest.Quirks) { q.LCP.NeverAnswers = true }), tunnel.PhaseLCP, as[*ppp.ConfigError]},
		{"no challenge", quirk(func(q *tunneltest.Quirks) { q.Auth.NeverChallenges = true }), tunnel.PhaseAuth, as[*ppp.ConfigError]},
		{"looped back", quirk(func(q *tunneltest.Quirks) { q.LCP.Loop = true }), tunnel.PhaseLCP, is(ppp.ErrLoop)},
		{"404", quirk(func(q *tunneltest.Quirks) { q.HTTP.Status = 404 }), tunnel.PhaseHTTP, as[*sstp.HTTPError]},
		{"closed instead of a reply", quirk(func(q *tunneltest.Quirks) { q.HTTP.Close = true }), tunnel.PhaseHTTP, is(io.EOF)},
		{"no HTTP", quirk(func(q *tunneltest.Quirks) { q.HTTP.Raw = "220 mail ready\r\n" }), tunnel.PhaseHTTP, is(sstp.ErrNotHTTP)},
		{"HTTP silent", quirk(func(q *tunneltest.Quirks) { q.HTTP.Silent = true }), tunnel.PhaseHTTP, func(err error) bool {
			return errors.Is(err, tunnel.ErrHTTPTimeout) || errors.Is(err, io.EOF) // both sides wait for 60 s
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var server tunneltest.Config
				var client tunnel.Config
				tt.set(&server, &client)
				p := newPair(t, server)
				p.cfg.AllowPAP = client.AllowPAP
				p.cfg.User, p.cfg.Password = or(client.User, "alice"), or(client.Password, "wonderland")
				err := p.fail()
				var e *tunnel.Error
				if errors.As(err, &e); e == nil || e.Phase != tt.phase || !tt.check(err) {
					t.Errorf("Dial = %v (%T in phase %v), want phase %v and the error's type", err, errors.Unwrap(err), e.Phase, tt.phase)
				}
				if strings.Contains(err.Error(), "wonderland") {
					t.Errorf("the error tells the password: %v", err)
				}
				p.server.Close()
			})
		})
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// as tells whether err is or wraps an E.
func as[E error](err error) bool {
	var target E
	return errors.As(err, &target)
}

// TestSessionEnds looks at every way a running session can end.
func TestSessionEnds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		quirks tunneltest.Quirks
		end    func(*tunneltest.Conn)
		within time.Duration
		check  func(error) bool
	}{
		{name: "killed", end: (*tunneltest.Conn).Kill, within: time.Second,
			check: func(err error) bool { return errors.Is(err, sstp.ErrLinkLost) }},
		{name: "disconnected", end: func(c *tunneltest.Conn) { c.Disconnect(sstp.StatusNoError) }, within: 7 * time.Second,
			check: as[*sstp.DisconnectError]},
		{name: "session limit", quirks: tunneltest.Quirks{SSTP: tunneltest.SSTPQuirks{SessionLimit: time.Minute}},
			end: func(*tunneltest.Conn) {}, within: 70 * time.Second, check: as[*sstp.DisconnectError]},
		{name: "aborted", end: func(c *tunneltest.Conn) {
			c.Abort(sstp.StatusInfo{AttribID: sstp.AttrStatusInfo, Status: sstp.StatusInvalidFrameReceived})
		}, within: 7 * time.Second, check: func(err error) bool { return as[*sstp.AbortError](err) && !as[*tunnel.BindingError](err) }},
		{name: "terminated", end: func(c *tunneltest.Conn) { c.Terminate("maintenance") }, within: 7 * time.Second,
			check: func(err error) bool {
				var e *ppp.TerminatedError
				return errors.As(err, &e) && e.Text == "maintenance"
			}},
		{name: "framing lost", end: func(c *tunneltest.Conn) { c.Send([]byte("HTTP/1.1 400\r\n")) }, within: time.Second,
			check: func(err error) bool { return errors.Is(err, sstp.ErrFraming) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, tunneltest.Config{Quirks: tt.quirks})
				s := p.dial()
				_, ended := run(t, s, newNear().packets())
				synctest.Wait()
				start := time.Now()
				tt.end(p.server.Sessions()[0])
				err := <-ended
				if !tt.check(err) {
					t.Errorf("Run = %v (%T)", err, errors.Unwrap(err))
				}
				if d := time.Since(start); d > tt.within {
					t.Errorf("ended after %v, want within %v", d, tt.within)
				}
				s.Close()
				p.server.Close()
			})
		})
	}
}

// TestSilentDeath: a server that is gone without a word is noticed by LCP echo.
func TestSilentDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{})
		var hole *blackHole
		dial := p.cfg.DialContext
		p.cfg.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			hole = &blackHole{Conn: c, closed: make(chan struct{})}
			return hole, err
		}
		s := p.dial()
		_, ended := run(t, s, newNear().packets())
		synctest.Wait()
		start := time.Now()
		hole.swallow()
		if err := <-ended; !errors.Is(err, ppp.ErrEchoTimeout) {
			t.Errorf("Run = %v, want ErrEchoTimeout", err)
		}
		if d := time.Since(start); d > time.Minute {
			t.Errorf("noticed after %v", d)
		}
		p.server.Close()
	})
}

// blackHole is a connection that loses everything from some time on.
type blackHole struct {
	net.Conn
	mu     sync.Mutex
	open   bool
	once   sync.Once
	closed chan struct{}
}

func (h *blackHole) swallow() { h.mu.Lock(); h.open = true; h.mu.Unlock() }

func (h *blackHole) swallows() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.open }

func (h *blackHole) Write(b []byte) (int, error) {
	if h.swallows() {
		return len(b), nil
	}
	return h.Conn.Write(b)
}

func (h *blackHole) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if h.swallows() {
		<-h.closed
		return 0, io.ErrClosedPipe
	}
	return n, err
}

func (h *blackHole) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.Conn.Close()
}

// TestCancel ends Dial in every phase it can hang in, and wants it back soon.
func TestCancel(t *testing.T) {
	for name, quirks := range map[string]tunneltest.Quirks{
		"http": {HTTP: tunneltest.HTTPQuirks{Silent: true}},
		"sstp": {SSTP: tunneltest.SSTPQuirks{NeverAcks: true}},
		"lcp":  {LCP: tunneltest.LCPQuirks{NeverAnswers: true}},
		"auth": {Auth: tunneltest.AuthQuirks{NeverChallenges: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, tunneltest.Config{Quirks: quirks})
				cause := errors.New("enough")
				ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, cause)
				defer cancel()
				start := time.Now()
				_, err := tunnel.Dial(ctx, p.cfg)
				if !errors.Is(err, cause) {
					t.Errorf("Dial = %v, want the context's cause in it", err)
				}
				if d := time.Since(start); d > 5*time.Second {
					t.Errorf("Dial came back %v after the start", d)
				}
				p.server.Close()
			})
		})
	}
	t.Run("tls", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			go io.Copy(io.Discard, far) // ends with near
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := tunnel.Dial(ctx, tunnel.Config{Server: "silent.test", DialContext: func(context.Context, string, string) (net.Conn, error) {
				return near, nil
			}})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Dial = %v, want DeadlineExceeded", err)
			}
		})
	})
}

// TestClose: Close works without Run, during it and twice, and Run not after it.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{})
		s := p.dial()
		s.Close()
		s.Close()
		if err := s.Run(t.Context(), newNear().packets()); !errors.Is(err, tunnel.ErrRunning) {
			t.Errorf("Run after Close = %v, want ErrRunning", err)
		}
		p.want(tunneltest.EventTerminateRequest, tunneltest.EventCallDisconnect)

		s = p.dial()
		_, ended := run(t, s, newNear().packets())
		synctest.Wait()
		if err := s.Run(t.Context(), newNear().packets()); !errors.Is(err, tunnel.ErrRunning) {
			t.Errorf("second Run = %v, want ErrRunning", err)
		}
		s.Close()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v after Close, want nil", err)
		}
		p.server.Close()
	})
}

// TestDeadServerAtClose: a peer that answers nothing can't hold up the end.
func TestDeadServerAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{Quirks: tunneltest.Quirks{SSTP: tunneltest.SSTPQuirks{IgnoresDisconnect: true}}})
		s := p.dial()
		start := time.Now()
		s.Close()
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("Close took %v", d)
		}
		p.server.Close()
	})
}

// TestFlood: a server that asks without reading the answers can't fill memory.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{Quirks: tunneltest.Quirks{Wire: tunneltest.WireQuirks{}}})
		var hold *holdWrites
		dial := p.cfg.DialContext
		p.cfg.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			hold = &holdWrites{Conn: c, closed: make(chan struct{})}
			return hold, err
		}
		s := p.dial()
		_, ended := run(t, s, newNear().packets())
		hold.hold()
		echo := sstp.Message{Type: sstp.EchoRequest}.Append(nil)
		conn := p.server.Sessions()[0]
		for range 40000 {
			conn.Send(echo)
		}
		if err := <-ended; !errors.Is(err, tunnel.ErrFlood) {
			t.Errorf("Run = %v, want ErrFlood", err)
		}
		p.server.Close()
	})
}

// TestControlFlood: a server that takes every answer may not make us answer
// without end either; the few frames of a long session are no flood.
func TestControlFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{})
		s := p.dial()
		_, ended := run(t, s, newNear().packets())
		conn := p.server.Sessions()[0]
		echo := sstp.Message{Type: sstp.EchoRequest}.Append(nil)
		for range 100 { // 100 a second for 100 s
			for range 100 {
				conn.Send(echo)
			}
			time.Sleep(time.Second)
		}
		select {
		case err := <-ended:
			t.Fatalf("Run = %v at 100 frames a second", err)
		default:
		}
		for range 3000 {
			conn.Send(echo)
		}
		if err := <-ended; !errors.Is(err, tunnel.ErrFlood) {
			t.Errorf("Run = %v, want ErrFlood", err)
		}
		p.server.Close()
	})
}

// holdWrites is a connection whose peer stops reading.
type holdWrites struct {
	net.Conn
	mu     sync.Mutex
	held   bool
	once   sync.Once
	closed chan struct{}
}

func (h *holdWrites) hold() { h.mu.Lock(); h.held = true; h.mu.Unlock() }

func (h *holdWrites) Write(b []byte) (int, error) {
	h.mu.Lock()
	held := h.held
	h.mu.Unlock()
	if held {
		<-h.closed
		return 0, io.ErrClosedPipe
	}
	return h.Conn.Write(b)
}

func (h *holdWrites) SetWriteDeadline(t time.Time) error {
	time.AfterFunc(time.Until(t), h.unblock)
	return h.Conn.SetWriteDeadline(t)
}

func (h *holdWrites) unblock() { h.once.Do(func() { close(h.closed) }) }

func (h *holdWrites) Close() error { h.unblock(); return h.Conn.Close() }

// TestIPv6: IPV6CP follows IPCP and does not delay it; IPv6 frames travel.
func TestIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{IPv6: true})
		s := p.dial()
		n := newNear()
		changed := make(chan tunnel.Info, 1)
		packets := n.packets()
		packets.Changed = func(info tunnel.Info) { changed <- info }
		cancel, ended := run(t, s, packets)
		if info := <-changed; info.IPv6.InterfaceID == [8]byte{} || !info.IPv4.Addr.IsValid() {
			t.Errorf("changed to %+v, want an interface identifier beside what was there", info)
		} else if s.Info().IPv6 != info.IPv6 {
			t.Errorf("Info has %+v, Changed was told %+v", s.Info().IPv6, info.IPv6)
		}
		want := ipPacket(6, 80, 7)
		n.send(want)
		n.await(t, ended, want)
		cancel()
		<-ended
		p.server.Close()
	})
}

// TestIPv6SoftEther: IPV6CP would stop it for four seconds, and for nothing.
func TestIPv6SoftEther(t *testing.T) {
	for _, tt := range []struct {
		ipv6   tunnel.IPv6
		quirks tunneltest.Quirks
		want   int
	}{
		{tunnel.IPv6Auto, tunneltest.SoftEther(), 0},
		{tunnel.IPv6On, tunneltest.SoftEther(), 1},
		{tunnel.IPv6Auto, tunneltest.AccelPPP(), 1},
		{tunnel.IPv6Off, tunneltest.AccelPPP(), 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, tunneltest.Config{IPv6: true, Quirks: tt.quirks})
			p.cfg.IPv6 = tt.ipv6
			s := p.dial()
			cancel, ended := run(t, s, newNear().packets())
			time.Sleep(time.Minute) // of the bubble's clock
			cancel()
			<-ended
			if got := p.server.Count(tunneltest.EventIPV6CPOpened); got != tt.want {
				t.Errorf("%v with %v: IPV6CP opened %d times, want %d", tt.ipv6, s.Info().Family, got, tt.want)
			}
			p.server.Close()
		})
	}
}

// TestRequestedAddress: a wanted address that the server accepts is ours. The one
// we had before is asked for as well, but never of SoftEther.
func TestRequestedAddress(t *testing.T) {
	wanted, had, first := netip.MustParseAddr("10.66.0.77"), netip.MustParseAddr("10.66.0.78"), netip.MustParseAddr("10.66.0.2")
	for _, tt := range []struct {
		name              string
		quirks            tunneltest.Quirks
		request, previous netip.Addr
		want              netip.Addr
	}{
		{"none", tunneltest.Quirks{}, netip.Addr{}, netip.Addr{}, first},
		{"wanted", tunneltest.Quirks{}, wanted, netip.Addr{}, wanted},
		{"had", tunneltest.Quirks{}, netip.Addr{}, had, had},
		{"both", tunneltest.Quirks{}, wanted, had, wanted},
		{"had, SoftEther", tunneltest.SoftEther(), netip.Addr{}, had, first},
		{"wanted, SoftEther", tunneltest.SoftEther(), wanted, had, wanted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.quirks.NCP.AcceptsStatic = true
				p := newPair(t, tunneltest.Config{Quirks: tt.quirks})
				p.cfg.RequestAddress, p.cfg.PreviousAddress = tt.request, tt.previous
				s := p.dial()
				if got := s.Info().IPv4.Addr; got != tt.want {
					t.Errorf("address %v, want %v", got, tt.want)
				}
				s.Close()
				p.server.Close()
			})
		})
	}
}

// TestRenegotiation: LCP anew in the middle of a session leaves it standing.
func TestRenegotiation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{})
		s := p.dial()
		n := newNear()
		cancel, ended := run(t, s, n.packets())
		synctest.Wait()
		p.server.Sessions()[0].Renegotiate()
		if err := p.server.WaitCount(t.Context(), tunneltest.EventIPCPOpened, 2); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n.send(ipPacket(4, 40, 9))
		n.await(t, ended, ipPacket(4, 40, 9))
		cancel()
		<-ended
		p.server.Close()
	})
}

// TestTLS looks at what proves a server and what does not.
func TestTLS(t *testing.T) {
	authority, err := tunneltest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	issue := func(l tunneltest.Leaf) *tls.Certificate {
		c, err := authority.Issue(l)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	good, wrongName := issue(tunneltest.GoodLeaf()), issue(tunneltest.WrongNameLeaf())
	noUsage, clientOnly, expired := issue(tunneltest.NoUsageLeaf()), issue(tunneltest.ClientOnlyLeaf()), issue(tunneltest.ExpiredLeaf())
	pin := func(c *tls.Certificate) [][32]byte { return [][32]byte{tunnel.Pin(c.Leaf)} }
	fp := func(c *tls.Certificate) [][32]byte { return [][32]byte{tunnel.Fingerprint(c.Leaf)} }
	for _, c := range []*tls.Certificate{good, wrongName, noUsage} {
		if c.Leaf == nil {
			t.Fatal("certificate helper leaves Leaf empty")
		}
	}
	ca := authority.PEM()
	for _, tt := range []struct {
		name string
		cert *tls.Certificate
		cfg  tunnel.TLSConfig
		ok   bool
	}{
		{"CA", good, tunnel.TLSConfig{CA: ca}, true},
		{"unknown CA", good, tunnel.TLSConfig{}, false},
		{"wrong name", wrongName, tunnel.TLSConfig{CA: ca}, false},
		{"no usage", noUsage, tunnel.TLSConfig{CA: ca}, false},
		{"client usage", clientOnly, tunnel.TLSConfig{CA: ca}, false},
		{"expired", expired, tunnel.TLSConfig{CA: ca}, false},
		{"insecure", wrongName, tunnel.TLSConfig{Insecure: true}, true},
		{"pin", wrongName, tunnel.TLSConfig{Pins: pin(wrongName)}, true},
		{"fingerprint", noUsage, tunnel.TLSConfig{Fingerprints: fp(noUsage)}, true},
		{"wrong pin", good, tunnel.TLSConfig{Pins: pin(wrongName)}, false},
		{"wrong fingerprint", good, tunnel.TLSConfig{Fingerprints: fp(wrongName), CA: ca}, false},
		{"wrong pin, insecure", good, tunnel.TLSConfig{Pins: pin(wrongName), Insecure: true}, false},
		{"pin and CA", good, tunnel.TLSConfig{Pins: pin(good), CA: ca}, true},
		{"pin and CA, wrong name", wrongName, tunnel.TLSConfig{Pins: pin(wrongName), CA: ca}, false},
		{"either of two pins", good, tunnel.TLSConfig{Pins: append(pin(wrongName), pin(good)...)}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, tunneltest.Config{Certificate: tt.cert})
				p.cfg.TLS = tt.cfg
				s, err := tunnel.Dial(t.Context(), p.cfg)
				if (err == nil) != tt.ok {
					t.Errorf("Dial = %v, want success: %v", err, tt.ok)
				}
				if err == nil {
					s.Close()
				} else if !as[*tunnel.CertificateError](err) {
					t.Errorf("Dial = %v, want a *CertificateError", err)
				} else if p.server.Count(tunneltest.EventHTTPRequest) != 0 {
					t.Error("the request was sent to a server that proved nothing")
				}
				p.server.Close()
			})
		})
	}
}

// TestBadCA: a CA file without a certificate is an error before anything is sent.
func TestBadCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{})
		p.cfg.TLS.CA = []byte("no PEM")
		if err := p.fail(); !strings.Contains(err.Error(), "PEM") {
			t.Errorf("Dial = %v, want a word about PEM", err)
		}
		p.server.Close()
	})
}

// TestTCP runs over real sockets: a name, a refused port.
func TestTCP(t *testing.T) {
	p := newPair(t, tunneltest.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go p.server.Serve(l) // ends with the server
	p.cfg.DialContext = nil
	p.cfg.Server, p.cfg.ServerName = fmt.Sprintf("localhost:%d", l.Addr().(*net.TCPAddr).Port), "vpn.example.test"
	s := p.dial()
	if p.phases[0] != tunnel.PhaseResolve {
		t.Errorf("first phase %v, want resolve", p.phases[0])
	}
	s.Close()
	p.server.Close()
	p.cfg.Server = l.Addr().String()
	var op *net.OpError
	if err := p.fail(); !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("Dial = %v, want a dial error", err)
	}
}
