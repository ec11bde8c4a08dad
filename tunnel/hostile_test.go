package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// tamper puts a connection of the test's own under TLS.
func (p *pair) tamper(wrap func(net.Conn) net.Conn) {
	dial := p.cfg.DialContext
	p.cfg.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return wrap(c), nil
	}
}

// TestLongRequests: a negotiation packet as long as SSTP carries has no answer
// that is longer.
func TestLongRequests(t *testing.T) {
	for name, option := range map[string][]byte{"magic number": {5, 2}, "unknown": {99, 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, tunneltest.Config{})
				s := p.dial()
				_, ended := run(t, s, newNear().packets())
				conn := p.server.Sessions()[0]
				for _, n := range []int{100, 700, 2041} {
					conn.SendFrame(ppp.ProtoLCP, ppp.Packet{Code: ppp.ConfigureRequest, Identifier: uint8(n), Data: bytes.Repeat(option, n)})
					synctest.Wait()
				}
				s.Close()
				<-ended
				p.server.Close()
			})
		})
	}
}

// sentBy tells whether an SSTP packet is a PPP control packet of that protocol
// and code in a frame with the full header.
func sentBy(packet []byte, proto ppp.Protocol, code ppp.Code) bool {
	head := ppp.AppendFrame(nil, proto, []byte{byte(code)})
	return len(packet) > sstp.HeaderLen && bytes.HasPrefix(packet[sstp.HeaderLen:], head)
}

// TestLastAck: the Ack that opens IPCP for the server goes out with the success
// of Dial, before any IP packet and not only with Run.
func TestLastAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{Hook: func(c *tunneltest.Conn, e tunneltest.Event) bool {
			late := e.Kind == tunneltest.EventSending && sentBy(e.Packet, ppp.ProtoIPCP, ppp.ConfigureRequest)
			if late {
				packet := bytes.Clone(e.Packet)
				time.AfterFunc(time.Second, func() { c.Send(packet) })
			}
			return late
		}})
		s := p.dial()
		synctest.Wait()
		p.want(tunneltest.EventIPCPOpened)
		_, ended := run(t, s, newNear(ipPacket(4, 40, 1)).packets())
		synctest.Wait()
		if n := p.server.Count(tunneltest.EventEarlyPacket); n != 0 {
			t.Errorf("%d packets before the server was ready", n)
		}
		s.Close()
		<-ended
		p.server.Close()
	})
}

// TestMTULowered: a session whose stack would send more than the server takes
// from now on ends with that reason.
func TestMTULowered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lower atomic.Bool
		p := newPair(t, tunneltest.Config{Hook: func(c *tunneltest.Conn, e tunneltest.Event) bool {
			if e.Kind != tunneltest.EventReceived || !lower.Load() {
				return false
			}
			switch { // the server's LCP sees nothing of this negotiation
			case sentBy(e.Packet, ppp.ProtoLCP, ppp.ConfigureRequest):
				request, _ := ppp.ParsePacket(e.Packet[tunnel.Headroom:])
				request.Code = ppp.ConfigureAck
				c.SendFrame(ppp.ProtoLCP, request)
				return true
			case sentBy(e.Packet, ppp.ProtoLCP, ppp.ConfigureAck):
				c.Challenge()
				return true
			}
			return false
		}})
		s := p.dial()
		_, ended := run(t, s, newNear().packets())
		conn := p.server.Sessions()[0]
		conn.Renegotiate()
		<-time.After(time.Minute) // of the bubble's clock; the MTU stays, and so does the session
		lower.Store(true)
		mru := ppp.Option{Type: ppp.LCPMRU, Data: []byte{0x04, 0xB0}}
		conn.SendFrame(ppp.ProtoLCP, ppp.Packet{Code: ppp.ConfigureRequest, Identifier: 77,
			Data: ppp.AppendOptions(nil, []ppp.Option{mru, ppp.MSCHAPv2.Option()})})
		if err := <-ended; !errors.Is(err, tunnel.ErrMTUChanged) {
			t.Errorf("Run = %v, want ErrMTUChanged", err)
		}
		p.server.Close()
	})
}

// brokenPipe is a connection that takes no more octets from some time on, while
// what comes the other way is late.
type brokenPipe struct {
	net.Conn
	mu     sync.Mutex
	broken bool
}

var errBroken = errors.New("broken pipe")

func (b *brokenPipe) breakOff() { b.mu.Lock(); b.broken = true; b.mu.Unlock() }

func (b *brokenPipe) isBroken() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.broken }

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.isBroken() {
		return 0, errBroken
	}
	return b.Conn.Write(p)
}

func (b *brokenPipe) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if b.isBroken() {
		<-time.After(50 * time.Millisecond) // of the bubble's clock
	}
	return n, err
}

// TestLastWords: a server that ends a call and closes makes our next write
// fail. What it had said before is the reason, and the failure is not.
func TestLastWords(t *testing.T) {
	for _, tt := range []struct {
		name  string
		end   func(*tunneltest.Conn)
		check func(error) bool
	}{
		{"disconnected", func(c *tunneltest.Conn) { c.Disconnect(sstp.StatusNoError) }, as[*sstp.DisconnectError]},
		{"terminated", func(c *tunneltest.Conn) { c.Terminate("maintenance") }, as[*ppp.TerminatedError]},
		{"nothing", func(*tunneltest.Conn) {}, func(err error) bool {
			return errors.Is(err, sstp.ErrLinkLost) && errors.Is(err, errBroken)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, tunneltest.Config{})
				var pipe *brokenPipe
				p.tamper(func(c net.Conn) net.Conn { pipe = &brokenPipe{Conn: c}; return pipe })
				s := p.dial()
				n := newNear()
				_, ended := run(t, s, n.packets())
				synctest.Wait()
				pipe.breakOff()
				start := time.Now()
				tt.end(p.server.Sessions()[0])
				n.send(ipPacket(4, 40, 1))
				if err := <-ended; !tt.check(err) {
					t.Errorf("Run = %v", err)
				}
				if d := time.Since(start); d > 3*time.Second {
					t.Errorf("ended after %v", d)
				}
				p.server.Close()
			})
		})
	}
}

// stuckConn is a connection whose peer stops reading; write deadlines work.
type stuckConn struct {
	net.Conn
	mu    sync.Mutex
	stuck bool
	full  net.Conn // nobody reads its other end
	other net.Conn
}

func newStuckConn(c net.Conn) *stuckConn {
	s := &stuckConn{Conn: c}
	s.full, s.other = net.Pipe()
	return s
}

func (s *stuckConn) stick() { s.mu.Lock(); s.stuck = true; s.mu.Unlock() }

func (s *stuckConn) Write(b []byte) (int, error) {
	s.mu.Lock()
	stuck := s.stuck
	s.mu.Unlock()
	if stuck {
		return s.full.Write(b)
	}
	return s.Conn.Write(b)
}

func (s *stuckConn) SetWriteDeadline(t time.Time) error {
	return errors.Join(s.full.SetWriteDeadline(t), s.Conn.SetWriteDeadline(t))
}

func (s *stuckConn) SetDeadline(t time.Time) error {
	return errors.Join(s.full.SetDeadline(t), s.Conn.SetDeadline(t))
}

func (s *stuckConn) Close() error {
	return errors.Join(s.full.Close(), s.other.Close(), s.Conn.Close())
}

// TestEndWhenServerDoesNotRead: a peer that takes nothing can't hold up the
// end for longer than the waits of the protocol and one of ours.
func TestEndWhenServerDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{})
		var conn *stuckConn
		p.tamper(func(c net.Conn) net.Conn { conn = newStuckConn(c); return conn })
		s := p.dial()
		n := newNear()
		_, ended := run(t, s, n.packets())
		synctest.Wait()
		conn.stick()
		n.send(ipPacket(4, 40, 1))
		synctest.Wait()
		start := time.Now()
		s.Close()
		if d := time.Since(start); d > 8*time.Second {
			t.Errorf("Close took %v", d)
		}
		<-ended
		p.server.Close()
	})
}

// TestCancelWhenServerDoesNotRead: whoever gives up on Dial gets it back soon.
func TestCancelWhenServerDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{Quirks: tunneltest.Quirks{Auth: tunneltest.AuthQuirks{NeverChallenges: true}}})
		var conn *stuckConn
		p.tamper(func(c net.Conn) net.Conn { conn = newStuckConn(c); return conn })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { // ends with Dial
			_, err := tunnel.Dial(ctx, p.cfg)
			done <- err
		}()
		<-time.After(10 * time.Second) // of the bubble's clock
		synctest.Wait()
		conn.stick()
		start := time.Now()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Dial = %v", err)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("Dial came back after %v", d)
		}
		p.server.Close()
	})
}

// TestFramingLostIsNoRefusal: octets that are no SSTP right after Call Connected
// are not the server's verdict on the crypto binding.
func TestFramingLostIsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{Hook: func(c *tunneltest.Conn, e tunneltest.Event) bool {
			if e.Kind == tunneltest.EventCallConnected {
				c.Send([]byte("HTTP/1.1 400\r\n"))
			}
			return false
		}})
		if err := p.fail(); !errors.Is(err, sstp.ErrFraming) || as[*tunnel.BindingError](err) {
			t.Errorf("Dial = %v, want ErrFraming and no BindingError", err)
		}
		p.server.Close()
	})
}
