package tunnel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// expectation is what a server wants in the crypto binding other than what it
// said, or than what the client can know.
type expectation struct {
	quirks tunneltest.Quirks
	ack    func(*sstp.CryptoBindingRequest) // what reaches the client
	middle bool                             // somebody ends TLS on the way
}

// TestBindingExpectations: each server that checks refuses, each in its own way,
// and Dial says that it was the binding. A server that does not check lets it
// pass.
func TestBindingExpectations(t *testing.T) {
	var sha256, sha1, noKeys tunneltest.Quirks
	sha256.SSTP.Hashes, sha1.SSTP.Hashes, noKeys.SSTP.NoKeys = sstp.HashSHA256, sstp.HashSHA1, true
	expectations := map[string]expectation{
		"SHA-256 where SHA-1 was offered": {quirks: sha256, ack: func(r *sstp.CryptoBindingRequest) { r.Hashes = sstp.HashSHA1 }},
		"SHA-1 where SHA-256 was offered": {quirks: sha1, ack: func(r *sstp.CryptoBindingRequest) { r.Hashes = sstp.HashSHA256 }},
		"another nonce":                   {ack: func(r *sstp.CryptoBindingRequest) { r.Nonce[31] ^= 1 }},
		"another key":                     {quirks: noKeys},
		"another certificate":             {middle: true},
	}
	manners := map[string]func(*tunneltest.Config){
		"RRAS":      func(*tunneltest.Config) {},
		"accel-ppp": func(c *tunneltest.Config) { c.Quirks.SSTP.BindingInvalidFrame = true },
		"closes": func(c *tunneltest.Config) {
			c.Script = []tunneltest.Step{{Event: tunneltest.EventBindingRefused, Do: tunneltest.FaultCut}}
		},
		"resets": func(c *tunneltest.Config) {
			c.Script = []tunneltest.Step{{Event: tunneltest.EventBindingRefused, Do: tunneltest.FaultReset}}
		},
		"does not check": func(c *tunneltest.Config) { c.Quirks.SSTP.NoVerify = true },
	}
	for name, e := range expectations {
		for manner, set := range manners {
			t.Run(name+", "+manner, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cfg := tunneltest.Config{Quirks: e.quirks, Hook: e.hook}
					set(&cfg)
					p := newFaultPair(t, cfg)
					if e.middle {
						p.intercept()
					}
					s, err := tunnel.Dial(t.Context(), p.cfg)
					if cfg.Quirks.SSTP.NoVerify {
						if err != nil {
							t.Fatalf("Dial = %v", err)
						}
						s.Close()
					} else if !as[*tunnel.BindingError](err) || phaseOf(t, err) != tunnel.PhaseIPCP {
						t.Errorf("Dial = %v, want a *BindingError in phase ipcp", err)
					}
					synctest.Wait()
					p.want(tunneltest.EventBindingRefused)
					p.end()
				})
			})
		}
	}
}

// hook changes the Call Connect Ack.
func (e expectation) hook(c *tunneltest.Conn, ev tunneltest.Event) bool {
	if e.ack == nil || ev.Kind != tunneltest.EventSending || ev.Name != "Call Connect Ack" {
		return false
	}
	m, _ := sstp.ParseMessage(ev.Packet[sstp.HeaderLen:])
	value, _ := m.Attribute(sstp.AttrCryptoBindingRequest)
	r, _ := sstp.ParseCryptoBindingRequest(value)
	e.ack(&r)
	c.Send(message(sstp.CallConnectAck, r.Attribute()))
	return true
}

// intercept puts somebody between client and server who ends TLS with a
// certificate of his own, which the client was told not to check.
func (p *pair) intercept() {
	authority, err := tunneltest.NewAuthority()
	if err != nil {
		p.t.Fatal(err)
	}
	foreign, err := authority.Issue(tunneltest.GoodLeaf())
	if err != nil {
		p.t.Fatal(err)
	}
	p.cfg.TLS = tunnel.TLSConfig{Insecure: true}
	dial := p.cfg.DialContext
	p.cfg.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		beyond, err := dial(ctx, network, address)
		near, far := net.Pipe()
		client := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{*foreign}})
		server := tls.Client(beyond, &tls.Config{InsecureSkipVerify: true})
		for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
			go func() { // ends with either connection
				io.Copy(way[0], way[1])
				near.Close()
				beyond.Close()
			}()
		}
		return near, err
	}
}

// live is a session that runs.
type live struct {
	*tunnel.Session
	ended <-chan error
}

// up dials and runs.
func (p *pair) up() live {
	p.t.Helper()
	s := p.dial()
	_, ended := run(p.t, s, newNear().packets())
	synctest.Wait()
	return live{s, ended}
}

func (l live) addr() netip.Addr { return l.Info().IPv4.Addr }

func (l live) close() {
	l.Close()
	<-l.ended
}

// TestNextAddress: which address the next session has, when it asks for that of
// the one before.
func TestNextAddress(t *testing.T) {
	static := tunneltest.Quirks{NCP: tunneltest.NCPQuirks{AcceptsStatic: true}}
	for name, tt := range map[string]struct {
		cfg  tunneltest.Config
		lose func(*pair, live)
		same bool
	}{
		"on request":             {tunneltest.Config{Quirks: static}, closeSession, true},
		"by stickiness":          {tunneltest.Config{Sticky: true}, closeSession, true},
		"request refused":        {tunneltest.Config{}, closeSession, false},
		"request, still in use":  {tunneltest.Config{Quirks: static}, vanish, false},
		"sticky, still in use":   {tunneltest.Config{Sticky: true}, vanish, false},
		"request, after a reset": {tunneltest.Config{Quirks: static}, resetAll, true},
		"another pool": {tunneltest.Config{Quirks: static, Sticky: true}, func(p *pair, l live) {
			closeSession(p, l)
			if err := p.server.SetPool(netip.MustParsePrefix("10.9.0.0/24"), netip.Addr{}); err != nil {
				p.t.Fatal(err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newFaultPair(t, tt.cfg)
				other := p.up() // has the lowest address
				first := p.up()
				other.close()
				p.cfg.RequestAddress = first.addr()
				tt.lose(p, first)
				second := p.up()
				if same := second.addr() == first.addr(); same != tt.same {
					t.Errorf("first %v, then %v; want the same: %v", first.addr(), second.addr(), tt.same)
				}
				second.close()
				<-first.ended
				p.server.Close()
			})
		})
	}
}

func closeSession(p *pair, l live) {
	n := p.server.Count(tunneltest.EventEnded)
	l.Close()
	p.server.WaitCount(p.t.Context(), tunneltest.EventEnded, n+1)
}

func vanish(p *pair, _ live) { p.server.Line().HalfOpen() }

func resetAll(p *pair, _ live) {
	p.server.Line().Reset()
	synctest.Wait()
}

// TestAddressChanged: a session whose address the server changes ends with that
// reason; one that is told how long it has goes on.
func TestAddressChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFaultPair(t, tunneltest.Config{})
		s := p.up()
		conn := p.server.Sessions()[0]
		conn.TimeRemaining(time.Minute, "closing soon")
		<-time.After(2 * time.Minute) // of the bubble's clock
		conn.ChangeAddress()
		if err := <-s.ended; !errors.Is(err, tunnel.ErrAddressChanged) || phaseOf(t, err) != tunnel.PhaseUp {
			t.Errorf("Run = %v, want ErrAddressChanged", err)
		}
		p.end()
	})
}

// TestOneSessionPerUser: the server refuses the second session, or ends the
// first; it counts one that is half open too.
func TestOneSessionPerUser(t *testing.T) {
	refused := func(err error) bool {
		e, ok := errors.AsType[*ppp.AuthError](err)
		return ok && e.Failure.Code == 649
	}
	for name, tt := range map[string]struct {
		cfg     tunneltest.Config
		lose    func(*pair, live)
		refused bool
		first   func(error) bool // how the first one ends
	}{
		"refused":          {tunneltest.Config{MaxSessions: 1, BusyCode: 649}, func(*pair, live) {}, true, nil},
		"half open":        {tunneltest.Config{MaxSessions: 1, BusyCode: 649}, vanish, true, nil},
		"ends the first":   {tunneltest.Config{MaxSessions: 1, EndsOldest: true}, func(*pair, live) {}, false, as[*sstp.DisconnectError]},
		"after a reset":    {tunneltest.Config{MaxSessions: 1}, resetAll, false, nil},
		"two are possible": {tunneltest.Config{MaxSessions: 2}, func(*pair, live) {}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newFaultPair(t, tt.cfg)
				first := p.up()
				tt.lose(p, first)
				s, err := tunnel.Dial(t.Context(), p.cfg)
				if tt.refused != refused(err) || !tt.refused && err != nil {
					t.Fatalf("Dial = %v, want it refused: %v", err, tt.refused)
				}
				if err == nil {
					s.Close()
				}
				if tt.first == nil {
					first.Close()
				}
				if err := <-first.ended; tt.first != nil && !tt.first(err) {
					t.Errorf("the first session ended with %v", err)
				}
				p.server.Close()
				if n := p.server.Count(tunneltest.EventCredentials); n != 2 {
					t.Errorf("credentials sent %d times for two sessions", n)
				}
			})
		})
	}
}
