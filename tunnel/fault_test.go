package tunnel_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// faultCertificate is made once: thousands of servers here show it.
var faultCertificate = sync.OnceValues(func() (*tls.Certificate, error) {
	authority, err := tunneltest.NewAuthority()
	if err != nil {
		return nil, err
	}
	return authority.Issue(tunneltest.GoodLeaf())
})

// newFaultPair is newPair over a pipe that knows RST.
func newFaultPair(t *testing.T, cfg tunneltest.Config) *pair {
	t.Helper()
	var err error
	if cfg.Certificate == nil {
		cfg.Certificate, err = faultCertificate()
	}
	if err != nil {
		t.Fatal(err)
	}
	p := newPair(t, cfg)
	p.cfg.DialContext = func(context.Context, string, string) (net.Conn, error) {
		near, far := tunneltest.Pipe()
		go p.server.ServeConn(far) // ends with the connection
		return near, nil
	}
	return p
}

// end closes the server and wants what must hold after every fault: whoever has
// been asked for credentials has given them once.
func (p *pair) end() {
	p.t.Helper()
	p.server.Close()
	if n := p.server.Count(tunneltest.EventCredentials); n > 1 {
		p.t.Errorf("credentials were sent %d times; server saw %v", n, p.server.Events())
	}
}

// phaseOf is the phase that an error of Dial or Run names.
func phaseOf(t *testing.T, err error) tunnel.Phase {
	t.Helper()
	var e *tunnel.Error
	if !errors.As(err, &e) {
		t.Fatalf("%T %v, want a *tunnel.Error", err, err)
	}
	return e.Phase
}

// isCut tells whether err is what the loss of the connection looks like, in the
// way that the fault lost it.
func isCut(err error, do tunneltest.Fault) bool {
	if do == tunneltest.FaultReset {
		return errors.Is(err, syscall.ECONNRESET)
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe)
}

// offsets counts the octets of a client's connection.
type offsets struct {
	net.Conn
	mu         sync.Mutex
	sent, read int
}

func (o *offsets) Read(b []byte) (int, error) {
	n, err := o.Conn.Read(b)
	o.mu.Lock()
	o.read += n
	o.mu.Unlock()
	return n, err
}

func (o *offsets) Write(b []byte) (int, error) {
	n, err := o.Conn.Write(b)
	o.mu.Lock()
	o.sent += n
	o.mu.Unlock()
	return n, err
}

func (o *offsets) counts() (sent, read int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent, o.read
}

// marks are the octets from the server and from the client at the end of each
// phase of a connect without faults.
type marks map[tunnel.Phase][2]int

func measure(t *testing.T) (m marks) {
	m = make(marks)
	synctest.Test(t, func(t *testing.T) {
		p := newFaultPair(t, tunneltest.Config{})
		var o *offsets
		p.tamper(func(c net.Conn) net.Conn { o = &offsets{Conn: c}; return o })
		p.cfg.Progress = func(pr tunnel.Progress) {
			if o != nil {
				sent, read := o.counts()
				m[pr.Phase] = [2]int{read, sent}
			}
		}
		p.dial().Close()
		p.end()
	})
	return m
}

// slack is by how many octets the same place of two connects may differ: the
// length of an ECDSA signature varies, and which packets share a record, which
// saves 22 octets each.
const slack = 4 * 22

// TestCutAtEachOctet cuts the connection behind each octet of the way up, in
// each direction, by FIN and by RST: Dial fails in the phase that this octet
// belongs to, with the error of the connection, and at once. Of the octets of
// the TLS handshake a few are enough; -short takes fewer of all.
func TestCutAtEachOctet(t *testing.T) {
	m := measure(t)
	for _, do := range []tunneltest.Fault{tunneltest.FaultCut, tunneltest.FaultReset} {
		for side, name := range []string{"server", "client"} {
			t.Run(fmt.Sprint(do, " in what the ", name, " sends"), func(t *testing.T) {
				t.Parallel()
				handshake, end := m[tunnel.PhaseTLS][side], m[tunnel.PhaseIPCP][side]
				last, began := tunnel.PhaseTLS, 0
				for at := 1; at <= end; at += stride(at, handshake) {
					step := tunneltest.Step{Do: do, Sent: at}
					if side == 1 {
						step = tunneltest.Step{Do: do, Received: at}
					}
					phase := cutAt(t, step, at > end-slack)
					if phase < last && at > began+slack {
						t.Errorf("octet %d: phase %v after %v", at, phase, last)
					}
					if phase > last {
						last, began = phase, at
					}
					if done := phase - 1; at < handshake-slack && phase != tunnel.PhaseTLS ||
						done > tunnel.PhaseTLS && side == 0 && at < m[done-1][side]-slack {
						t.Errorf("octet %d: phase %v, which begins behind it", at, phase)
					}
					for ph, mark := range m {
						if at > mark[side]+slack && side == 0 && phase <= ph {
							t.Errorf("octet %d: phase %v, but %v ends at %d", at, phase, ph, mark[side])
						}
					}
				}
				if last != tunnel.PhaseIPCP {
					t.Errorf("the last cut was in phase %v", last)
				}
			})
		}
	}
}

// stride is the distance to the next octet to cut behind.
func stride(at, handshake int) int {
	switch {
	case at < handshake-slack && testing.Short():
		return 397
	case at < handshake-slack:
		return 61
	case testing.Short():
		return 23
	}
	return 1
}

// cutAt is one attempt with a cut; mayPass means that it may come too late.
func cutAt(t *testing.T, step tunneltest.Step, mayPass bool) (phase tunnel.Phase) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newFaultPair(t, tunneltest.Config{Script: []tunneltest.Step{step}})
		start := time.Now()
		s, err := tunnel.Dial(t.Context(), p.cfg)
		if err == nil && mayPass {
			phase = tunnel.PhaseIPCP
			s.Close()
			p.end()
			return
		}
		phase = phaseOf(t, err)
		if !isCut(err, step.Do) {
			t.Errorf("%+v: Dial = %v", step, err)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("%+v: Dial = %v after %v", step, err, d)
		}
		p.end()
	})
	return phase
}

// places are steps on the way up and the phase in which the client is then.
var places = []struct {
	name  string
	step  tunneltest.Step
	phase tunnel.Phase
}{
	{"accepted", tunneltest.Step{Event: tunneltest.EventAccepted}, tunnel.PhaseTLS},
	{"after TLS", tunneltest.Step{Event: tunneltest.EventTLS}, tunnel.PhaseHTTP},
	{"HTTP reply", tunneltest.Step{Sending: "HTTP reply"}, tunnel.PhaseHTTP},
	{"Ack", tunneltest.Step{Sending: "Call Connect Ack"}, tunnel.PhaseSSTP},
	{"LCP Request", tunneltest.Step{Sending: "LCP Configure-Request"}, tunnel.PhaseLCP},
	{"LCP Ack", tunneltest.Step{Sending: "LCP Configure-Ack"}, tunnel.PhaseLCP},
	{"Challenge", tunneltest.Step{Sending: "CHAP Challenge"}, tunnel.PhaseAuth},
	{"credentials", tunneltest.Step{Event: tunneltest.EventCredentials}, tunnel.PhaseAuth},
	{"Success", tunneltest.Step{Sending: "CHAP Success"}, tunnel.PhaseAuth},
	{"Call Connected", tunneltest.Step{Event: tunneltest.EventCallConnected}, tunnel.PhaseIPCP},
	{"IPCP Nak", tunneltest.Step{Sending: "IPCP Configure-Nak"}, tunnel.PhaseIPCP},
	{"IPCP Ack", tunneltest.Step{Sending: "IPCP Configure-Ack"}, tunnel.PhaseIPCP},
}

// TestFaultAtEachPhase: a connection that breaks, and a server that goes silent
// for ever, at each step of the way up. The client's own timers end the latter,
// but in TLS, where there is only the context.
func TestFaultAtEachPhase(t *testing.T) {
	for _, place := range places {
		for _, do := range []tunneltest.Fault{
			tunneltest.FaultCut, tunneltest.FaultReset, tunneltest.FaultStall, tunneltest.FaultHalfOpen,
		} {
			t.Run(fmt.Sprint(place.name, " ", do), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					step := place.step
					step.Do = do
					p := newFaultPair(t, tunneltest.Config{Script: []tunneltest.Step{step}})
					ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Minute, errEnough)
					defer cancel()
					start := time.Now()
					s, err := tunnel.Dial(ctx, p.cfg)
					if err == nil {
						s.Close()
						t.Fatal("Dial: no error")
					}
					if phase := phaseOf(t, err); phase != place.phase {
						t.Errorf("Dial = %v, want phase %v", err, place.phase)
					}
					if !isFault(err, do, place.phase) {
						t.Errorf("Dial = %v", err)
					}
					if d := time.Since(start); place.phase != tunnel.PhaseTLS && d > 2*time.Minute {
						t.Errorf("Dial = %v after %v", err, d)
					}
					p.end()
				})
			})
		}
	}
}

var errEnough = errors.New("enough")

// isFault tells whether an error is right for a fault in a phase.
func isFault(err error, do tunneltest.Fault, phase tunnel.Phase) bool {
	silent := do == tunneltest.FaultStall || do == tunneltest.FaultHalfOpen
	switch {
	case !silent && phase == tunnel.PhaseIPCP:
		return isCut(err, do) && as[*tunnel.BindingError](err)
	case !silent && phase >= tunnel.PhaseSSTP:
		return isCut(err, do) && errors.Is(err, sstp.ErrLinkLost)
	case !silent:
		return isCut(err, do)
	case phase == tunnel.PhaseTLS:
		return errors.Is(err, errEnough)
	case phase == tunnel.PhaseHTTP:
		return errors.Is(err, tunnel.ErrHTTPTimeout)
	case phase == tunnel.PhaseSSTP:
		return errors.Is(err, sstp.ErrNegotiationTimeout)
	}
	return as[*ppp.ConfigError](err) || errors.Is(err, ppp.ErrEchoTimeout) || errors.Is(err, sstp.ErrNegotiationTimeout)
}

// TestStallIsNoFault: a stall that ends within the timers is no error, wherever
// it comes. The server repeats its challenge meanwhile, and gets the same
// response each time.
func TestStallIsNoFault(t *testing.T) {
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				step := place.step
				step.Do, step.For = tunneltest.FaultStall, 8*time.Second
				var responses [][]byte
				p := newFaultPair(t, tunneltest.Config{
					Script: []tunneltest.Step{step},
					Hook: func(_ *tunneltest.Conn, e tunneltest.Event) bool {
						if e.Kind == tunneltest.EventReceived && e.Name == "CHAP Response" {
							responses = append(responses, bytes.Clone(e.Packet))
						}
						return false
					},
				})
				s := p.dial()
				n := newNear(ipPacket(4, 100, 1))
				_, ended := run(t, s, n.packets())
				n.await(t, ended, ipPacket(4, 100, 1))
				s.Close()
				<-ended
				p.server.Close()
				if same := slices.CompactFunc(responses, bytes.Equal); len(same) != 1 {
					t.Errorf("%d different responses", len(same))
				}
			})
		})
	}
}

// TestLiveFaults: what ends a session that is up, and how soon.
func TestLiveFaults(t *testing.T) {
	lost := func(err error) bool { return errors.Is(err, sstp.ErrLinkLost) }
	for name, tt := range map[string]struct {
		do     func(*tunneltest.Line)
		within time.Duration
		check  func(error) bool
	}{
		"cut":       {(*tunneltest.Line).Cut, time.Second, func(err error) bool { return lost(err) && errors.Is(err, io.EOF) }},
		"reset":     {(*tunneltest.Line).Reset, time.Second, func(err error) bool { return lost(err) && errors.Is(err, syscall.ECONNRESET) }},
		"half open": {(*tunneltest.Line).HalfOpen, time.Minute, func(err error) bool { return errors.Is(err, ppp.ErrEchoTimeout) }},
		"stall":     {func(l *tunneltest.Line) { l.Stall(-1) }, time.Minute, func(err error) bool { return errors.Is(err, ppp.ErrEchoTimeout) }},
		// The two alerts meet in a pipe that holds nothing: crypto/tls gives up after 5 s.
		"garbage": {func(l *tunneltest.Line) { l.Garbage(100) }, 6 * time.Second, func(err error) bool {
			return lost(err) && as[tls.RecordHeaderError](err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newFaultPair(t, tunneltest.Config{})
				s := p.dial()
				_, ended := run(t, s, newNear().packets())
				synctest.Wait()
				start := time.Now()
				tt.do(p.server.Line())
				err := <-ended
				if !tt.check(err) || phaseOf(t, err) != tunnel.PhaseUp {
					t.Errorf("Run = %v", err)
				}
				if d := time.Since(start); d > tt.within {
					t.Errorf("noticed after %v, want within %v", d, tt.within)
				}
				p.end()
			})
		})
	}
}

// TestLiveStall: a stall shorter than the keepalive leaves the session as it
// was.
func TestLiveStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFaultPair(t, tunneltest.Config{})
		s := p.dial()
		n := newNear()
		_, ended := run(t, s, n.packets())
		synctest.Wait()
		p.server.Line().Stall(30 * time.Second)
		n.send(ipPacket(4, 100, 1))
		start := time.Now()
		n.await(t, ended, ipPacket(4, 100, 1))
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("back after %v, want 30 s", d)
		}
		s.Close()
		<-ended
		p.end()
	})
}
