package tunnel_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// spoiled is a packet of the server with a fault in it.
var spoiled = []struct {
	name  string
	spoil func(packet []byte) []byte
	// framing means that no packet can be told from the next any more, which
	// ends the connection without a word (3.1.5.1).
	framing bool
}{
	{"length 0", withLength(func(int) int { return 0 }), true},
	{"length 3", withLength(func(int) int { return 3 }), true},
	{"wrong version", func(b []byte) []byte { b[0] = 0x11; return b }, true},
	{"text", func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }, true},
	{"length one more", withLength(func(n int) int { return n + 1 }), false},
	{"length one less", withLength(func(n int) int { return n - 1 }), false},
	{"length 4095", withLength(func(int) int { return 4095 }), false},
	{"only the header", func(b []byte) []byte { sstp.PutHeader(b[:4], b[1]&1 != 0, 4); return b[:4] }, false},
	{"half of it", func(b []byte) []byte { return cutTo(b, len(b)/2) }, false},
	{"all but one octet", func(b []byte) []byte { return cutTo(b, len(b)-1) }, false},
	{"with 3000 octets behind it", func(b []byte) []byte {
		b = append(b, make([]byte, 3000)...)
		sstp.PutHeader(b, b[1]&1 != 0, len(b))
		return b
	}, false},
	{"inner length 0", withInnerLength(0), false},
	{"inner length 1", withInnerLength(1), false},
	{"inner length 65535", withInnerLength(0xFFFF), false},
	{"zeros", func(b []byte) []byte { clear(b[4:]); return b }, false},
	{"ones", func(b []byte) []byte { copy(b[4:], bytes.Repeat([]byte{0xFF}, len(b))); return b }, false},
	{"twice", func(b []byte) []byte { return append(b, b...) }, false},
	{"not at all", func([]byte) []byte { return nil }, false},
}

// withLength changes the length of the SSTP header.
func withLength(change func(int) int) func([]byte) []byte {
	return func(b []byte) []byte {
		binary.BigEndian.PutUint16(b[2:], uint16(change(len(b))))
		return b
	}
}

// withInnerLength changes the length of the first attribute, or of the PPP
// packet.
func withInnerLength(n uint16) func([]byte) []byte {
	return func(b []byte) []byte {
		if at := 10; len(b) >= at+2 {
			binary.BigEndian.PutUint16(b[at:], n)
		}
		return b
	}
}

// cutTo truncates a packet whose header tells so.
func cutTo(b []byte, n int) []byte {
	sstp.PutHeader(b, b[1]&1 != 0, max(n, 4))
	return b[:max(n, 4)]
}

// TestSpoiledPackets puts each fault into each packet that the server sends on
// the way up, the first time. Dial gets over it, by a repetition, or ends within
// the protocol's timers and with an error of its layers.
func TestSpoiledPackets(t *testing.T) {
	for _, name := range []string{
		"Call Connect Ack", "LCP Configure-Request", "LCP Configure-Ack", "CHAP Challenge", "CHAP Success",
		"IPCP Configure-Request", "IPCP Configure-Nak", "IPCP Configure-Ack",
	} {
		for _, tt := range spoiled {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					done := false
					p := newFaultPair(t, tunneltest.Config{Hook: func(c *tunneltest.Conn, e tunneltest.Event) bool {
						if done || e.Kind != tunneltest.EventSending || e.Name != name {
							return false
						}
						done = true
						c.Send(tt.spoil(bytes.Clone(e.Packet)))
						return true
					}})
					start := time.Now()
					s, err := tunnel.Dial(t.Context(), p.cfg)
					if d := time.Since(start); d > 70*time.Second {
						t.Errorf("Dial = %v after %v", err, d)
					}
					switch {
					case err == nil:
						s.Close()
					case tt.framing && !errors.Is(err, sstp.ErrFraming), !isProtocolError(err):
						t.Errorf("Dial = %v", err)
					}
					if err == nil && tt.framing {
						t.Error("Dial went on without framing")
					}
					p.endWithResponses(3)
				})
			})
		}
	}
}

// isProtocolError tells whether an error names a fault of SSTP or PPP.
func isProtocolError(err error) bool {
	return as[*tunnel.Error](err) && (errors.Is(err, sstp.ErrFraming) || errors.Is(err, sstp.ErrNegotiationTimeout) ||
		errors.Is(err, sstp.ErrLinkLost) || as[*sstp.AbortError](err) || as[*sstp.DisconnectError](err) ||
		as[*ppp.ConfigError](err) || as[*ppp.TerminatedError](err) || as[*ppp.AuthError](err) ||
		errors.Is(err, ppp.ErrServerNotProved) || errors.Is(err, ppp.ErrNoAddress) || errors.Is(err, ppp.ErrEchoTimeout) ||
		as[*ppp.RejectedError](err) || as[*tunnel.BindingError](err))
}

// endWithResponses is end for servers that may ask again, because what they got
// or sent was spoiled.
func (p *pair) endWithResponses(most int) {
	p.t.Helper()
	p.server.Close()
	if n := p.server.Count(tunneltest.EventCredentials); n > most {
		p.t.Errorf("credentials were sent %d times; server saw %v", n, p.server.Events())
	}
}

// TestGarbageBehindEachPacket: octets that are no packet, behind each packet of
// the way up, in TLS: the framing is lost, whatever the octets look like.
func TestGarbageBehindEachPacket(t *testing.T) {
	for _, place := range places[3:] {
		t.Run(place.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				step := place.step
				step.Do, step.Octets = tunneltest.FaultGarbage, 5000
				p := newFaultPair(t, tunneltest.Config{Script: []tunneltest.Step{step}})
				err := p.fail()
				if !errors.Is(err, sstp.ErrFraming) || phaseOf(t, err) != place.phase || as[*tunnel.BindingError](err) {
					t.Errorf("Dial = %v, want ErrFraming in phase %v", err, place.phase)
				}
				p.end()
			})
		})
	}
}

// TestHTTPReplies: what can stand where the reply to SSTP_DUPLEX_POST belongs.
func TestHTTPReplies(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n"
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	for name, tt := range map[string]struct {
		raw   string
		phase tunnel.Phase
		check func(error) bool
	}{
		"empty line":       {"\r\n\r\n", tunnel.PhaseHTTP, is(sstp.ErrNotHTTP)},
		"no HTTP":          {"\x00\x01\x02\x03 nothing\r\n\r\n", tunnel.PhaseHTTP, is(sstp.ErrNotHTTP)},
		"half a header":    {ok[:30], tunnel.PhaseHTTP, is(io.EOF)},
		"endless header":   {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 100), tunnel.PhaseHTTP, is(sstp.ErrReplyTooLarge)},
		"endless line":     {"HTTP/1.1 200 " + strings.Repeat("y", 1<<20), tunnel.PhaseHTTP, is(sstp.ErrReplyTooLarge)},
		"endless 100":      {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1<<15), tunnel.PhaseHTTP, is(sstp.ErrReplyTooLarge)},
		"1 MB of zeros":    {string(make([]byte, 1<<20)), tunnel.PhaseHTTP, is(sstp.ErrNotHTTP)},
		"404 with a body":  {"HTTP/1.1 404 Not Found\r\nContent-Length: 1048576\r\n\r\n" + strings.Repeat("b", 1<<20), tunnel.PhaseHTTP, as[*sstp.HTTPError]},
		"body before":      {"<html></html>\r\n" + ok, tunnel.PhaseHTTP, is(sstp.ErrNotHTTP)},
		"body behind":      {ok + "<html><body>welcome</body></html>", tunnel.PhaseSSTP, is(sstp.ErrFraming)},
		"1 MB body behind": {ok + strings.Repeat("<p>", 1<<18), tunnel.PhaseSSTP, is(sstp.ErrFraming)},
		"redirect":         {"HTTP/1.1 301 Moved\r\nLocation: https://elsewhere.test/\r\n\r\n", tunnel.PhaseHTTP, as[*sstp.HTTPError]},
		"status 2000":      {"HTTP/1.1 2000 OK\r\n\r\n", tunnel.PhaseHTTP, is(sstp.ErrNotHTTP)},
		"200 without more": {ok, tunnel.PhaseSSTP, is(sstp.ErrLinkLost)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newFaultPair(t, tunneltest.Config{Quirks: tunneltest.Quirks{HTTP: tunneltest.HTTPQuirks{Raw: tt.raw}}})
				err := p.fail()
				if !tt.check(err) || phaseOf(t, err) != tt.phase {
					t.Errorf("Dial = %.300v, want phase %v", err, tt.phase)
				}
				if n := len(err.Error()); n > 1000 {
					t.Errorf("the error has %d octets", n)
				}
				p.end()
			})
		})
	}
}

// TestSpoiledWhileUp: the same faults in packets of a session that is up.
func TestSpoiledWhileUp(t *testing.T) {
	frame := func(p ppp.Protocol, info ...byte) []byte { return sstp.AppendData(nil, ppp.AppendFrame(nil, p, info)) }
	packets := map[string][]byte{
		"echo":         message(sstp.EchoRequest),
		"LCP echo":     frame(ppp.ProtoLCP, 9, 1, 0, 8, 0, 0, 0, 0),
		"LCP Request":  frame(ppp.ProtoLCP, 1, 1, 0, 8, 1, 4, 5, 0xDC),
		"IPCP Request": frame(ppp.ProtoIPCP, 1, 1, 0, 10, 3, 6, 10, 66, 0, 1),
		"IP":           framed(ipPacket(4, 60, 1)),
	}
	for name, packet := range packets {
		for _, tt := range spoiled {
			t.Run(fmt.Sprint(name, " ", tt.name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newFaultPair(t, tunneltest.Config{})
					s := p.dial()
					_, ended := run(t, s, newNear().packets())
					synctest.Wait()
					p.server.Sessions()[0].Send(tt.spoil(bytes.Clone(packet)))
					var err error
					select {
					case err = <-ended:
					case <-time.After(time.Minute): // of the bubble's clock
						s.Close()
						<-ended
					}
					switch {
					case tt.framing && !errors.Is(err, sstp.ErrFraming):
						t.Errorf("Run = %v, want ErrFraming", err)
					case err != nil && (!isProtocolError(err) || phaseOf(t, err) != tunnel.PhaseUp):
						t.Errorf("Run = %v", err)
					}
					p.endWithResponses(2) // a new LCP Request asks for them again
				})
			})
		}
	}
}
