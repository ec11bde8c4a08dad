package tunneltest

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// roundTrip sends an octet and wants it back.
func roundTrip(t *testing.T, c net.Conn) {
	t.Helper()
	b := []byte("x")
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
}

// TestLineEnds: what a client at the other end of a real connection sees.
func TestLineEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*Line)
		want error
	}{
		{"cut", (*Line).Cut, io.EOF},
		{"reset", (*Line).Reset, syscall.ECONNRESET},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, r := dialEcho(t, Path{}, Path{})
			roundTrip(t, c)
			tt.do(r.Line())
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, tt.want) {
				t.Errorf("read: %v, want %v", err, tt.want)
			}
		})
	}
}

// TestLineHalfOpen: octets are swallowed, nothing comes, and the relay keeps
// nothing once both ends have given up.
func TestLineHalfOpen(t *testing.T) {
	c, r := dialEcho(t, Path{}, Path{})
	roundTrip(t, c)
	r.Line().HalfOpen()
	if _, err := c.Write(make([]byte, 4<<20)); err != nil {
		t.Errorf("write: %v, want it swallowed", err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("read: %d octets, %v, want silence", n, err)
	}
	if n := r.Line().Conns(); n != 2 {
		t.Errorf("%d connections, want the two half-open ones", n)
	}
	again, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	roundTrip(t, again)
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// TestLineStall: nothing passes during a stall, all of it afterwards, and 0
// ends one that would last for ever.
func TestLineStall(t *testing.T) {
	c, r := dialEcho(t, Path{}, Path{})
	start := time.Now()
	r.Line().Stall(60 * time.Millisecond)
	roundTrip(t, c)
	if d := time.Since(start); d < 60*time.Millisecond {
		t.Errorf("back after %v, within the stall", d)
	}
	r.Line().Stall(-1)
	time.AfterFunc(30*time.Millisecond, func() { r.Line().Stall(0) })
	start = time.Now()
	roundTrip(t, c)
	if d := time.Since(start); d < 30*time.Millisecond {
		t.Errorf("back after %v, before the stall was ended", d)
	}
}

// TestLineScript: faults by octets hit exactly there.
func TestLineScript(t *testing.T) {
	for _, tt := range []struct {
		name string
		step Step
		sent int // of 100 octets
		came int // back
		want error
	}{
		{"sent 7", Step{Sent: 7, Do: FaultCut}, 100, 7, io.EOF},
		{"received 9", Step{Received: 9, Do: FaultCut}, 9, 0, io.EOF},
		{"garbage", Step{Sent: 50, Do: FaultGarbage, Octets: 5}, 50, 55, nil},
		{"stall", Step{Sent: 3, Do: FaultStall, For: 20 * time.Millisecond}, 100, 100, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, r := dialEcho(t, Path{}, Path{})
			r.Line().Script(tt.step)
			c, err := net.Dial("tcp", r.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write(make([]byte, tt.sent)); err != nil {
				t.Fatal(err)
			}
			n, err := io.ReadFull(c, make([]byte, tt.came))
			if n != tt.came || n > 0 && err != nil {
				t.Errorf("%d octets came, %v; want %d", n, err, tt.came)
			}
			if tt.want != nil {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, tt.want) {
					t.Errorf("then %v, want %v", err, tt.want)
				}
			}
		})
	}
}

// TestWelcome: what a new connection meets, and that it ends.
func TestWelcome(t *testing.T) {
	for name, tt := range map[string]struct {
		welcome Welcome
		check   func(net.Conn, error) bool
	}{
		"reset": {WelcomeReset, func(c net.Conn, err error) bool {
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			return errors.Is(err, syscall.ECONNRESET)
		}},
		"closed": {WelcomeClosed, func(c net.Conn, err error) bool {
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			return errors.Is(err, io.EOF)
		}},
		"refused": {WelcomeRefused, func(_ net.Conn, err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }},
		"silence": {WelcomeSilence, func(c net.Conn, err error) bool {
			if err == nil {
				c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				_, err = c.Read(make([]byte, 1))
			}
			return isTimeout(err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, r := dialEcho(t, Path{}, Path{})
			roundTrip(t, old)
			r.Line().Welcome(tt.welcome, 0)
			c, err := net.Dial("tcp", r.Addr())
			if !tt.check(c, err) {
				t.Errorf("dial: %v", err)
			}
			if c != nil {
				c.Close()
			}
			roundTrip(t, old)
			r.Line().Welcome(tt.welcome, 30*time.Millisecond)
			for {
				if c, err = net.Dial("tcp", r.Addr()); err == nil {
					c.SetDeadline(time.Now().Add(5 * time.Second))
					c.Write([]byte("x"))
					_, err = io.ReadFull(c, make([]byte, 1))
					c.Close()
				}
				if err == nil {
					return
				}
				if time.Since(r.start) > 30*time.Second {
					t.Fatalf("never welcome again: %v", err)
				}
			}
		})
	}
}

// TestScript: faults at events and packets come in the order of what is sent.
func TestScript(t *testing.T) {
	reset := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	for name, tt := range map[string]struct {
		step Step
		want error
	}{
		"cut before LCP":         {Step{Sending: "LCP Configure-Request", Do: FaultCut}, io.EOF},
		"reset behind a request": {Step{Event: EventCallConnectRequest, Do: FaultReset}, reset.Err},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newTestServer(t, Config{Script: []Step{tt.step}})
				near, far := Pipe()
				c := server.dialOver(t, near, far)
				if tt.step.Event == 0 {
					c.call()
				} else if _, err := c.request(testRequest); err != nil {
					t.Fatal(err)
				} else {
					c.message(sstp.CallConnectRequest, sstp.Attribute{ID: sstp.AttrEncapsulatedProtocolID, Value: []byte{0, 1}})
				}
				if f, err := c.next(); !errors.Is(err, tt.want) {
					t.Errorf("then %v, %v; want %v", f, err, tt.want)
				}
				c.close()
				server.Close()
				if n := server.Count(EventEnded); n != 1 {
					t.Errorf("%d sessions ended", n)
				}
			})
		})
	}
}

// TestVanished: a client of a server whose host is gone hears nothing, not even
// when the server's session ends; another session is served meanwhile.
func TestVanished(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{SSTP: SSTPQuirks{Silence: 20 * time.Second}}}, func(t *testing.T, c *client) {
		c.up()
		c.server.Line().HalfOpen()
		start := time.Now()
		c.await(EventEnded)
		c.tls.SetDeadline(time.Now().Add(time.Minute))
		if _, err := c.next(); !isTimeout(err) {
			t.Errorf("the client was told: %v", err)
		}
		if d := time.Since(start); d < time.Minute {
			t.Errorf("after %v", d)
		}
		again := (testServer{c.server}).dial(t)
		defer again.close()
		again.up()
	})
}

func TestTimeRemaining(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.up()
		c.conn().TimeRemaining(90*time.Second, "soon")
		f := c.want("LCP Time-Remaining")
		if want := "\x00\x00\x00\x00\x00\x00\x00\x5Asoon"; string(f.packet.Data) != want {
			t.Errorf("data %q, want %q", f.packet.Data, want)
		}
	})
}

// TestAddresses: who gets which address the second time.
func TestAddresses(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg    Config
		change func(*Server)
		want   string
	}{
		"lowest": {Config{}, nil, "10.66.0.2"},
		"sticky": {Config{Sticky: true}, nil, "10.66.0.3"},
		"new pool": {Config{Sticky: true}, func(s *Server) {
			s.SetPool(netip.MustParsePrefix("10.9.0.0/24"), netip.Addr{})
		}, "10.9.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.cfg.Users = map[string]string{testUser: testPassword, "bob": "builder"}
			bubble(t, tt.cfg, func(t *testing.T, bob *client) {
				s := testServer{bob.server}
				bob.user, bob.pass = "bob", "builder"
				bob.up()
				alice := s.dial(t)
				alice.up()
				bob.hangUpAndWait()
				alice.hangUpAndWait()
				if tt.change != nil {
					tt.change(s.Server)
				}
				alice = s.dial(t)
				defer alice.close()
				alice.up()
				if alice.addr.String() != tt.want {
					t.Errorf("the second time alice has %v, want %v", alice.addr, tt.want)
				}
			})
		})
	}
}

func (c *client) hangUpAndWait() {
	c.t.Helper()
	n := c.server.Count(EventEnded)
	c.hangUp()
	c.server.WaitCount(c.t.Context(), EventEnded, n+1)
}

// TestMaxSessions: a second session is refused, or ends the first.
func TestMaxSessions(t *testing.T) {
	bubble(t, Config{MaxSessions: 1, BusyCode: 649}, func(t *testing.T, c *client) {
		c.up()
		second := (testServer{c.server}).dial(t)
		second.call()
		second.lcp(MSCHAPv2)
		second.response(second.want("CHAP Challenge"))
		if f := ppp.ParseFailure(second.want("CHAP Failure").packet.Data); f.Code != 649 {
			t.Errorf("refused with %d, want 649", f.Code)
		}
		second.close()
		c.hangUpAndWait()
		third := (testServer{c.server}).dial(t)
		defer third.close()
		third.up()
	})
	bubble(t, Config{MaxSessions: 1, EndsOldest: true}, func(t *testing.T, c *client) {
		c.up()
		second := (testServer{c.server}).dial(t)
		defer second.close()
		second.up()
		c.want("Call Disconnect")
	})
}
