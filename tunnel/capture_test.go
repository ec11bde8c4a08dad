package tunnel_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/tunneltest"
)

// tap keeps what Config.Capture is shown.
type tap struct {
	mu             sync.Mutex
	sent, received [][]byte
}

func (c *tap) capture(sent bool, frames [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range frames {
		if sent {
			c.sent = append(c.sent, bytes.Clone(f))
		} else {
			c.received = append(c.received, bytes.Clone(f))
		}
	}
}

// of returns the information fields of the frames of one protocol.
func of(proto ppp.Protocol, frames [][]byte) (infos [][]byte) {
	for _, f := range frames {
		if p, info, err := ppp.ParseFrame(f); err == nil && p == proto {
			infos = append(infos, info)
		}
	}
	return infos
}

// TestCapture: both directions are shown from the first frame to the last, and
// neither password nor answer among them.
func TestCapture(t *testing.T) {
	for name, auth := range map[string]struct {
		method tunneltest.Method
		proto  ppp.Protocol
		answer string // as shown
	}{
		"PAP":       {tunneltest.PAP, ppp.ProtoPAP, strings.Repeat("\x00", 1+len("alice")+1+len("wonderland"))},
		"CHAP-MD5":  {tunneltest.CHAPMD5, ppp.ProtoCHAP, "\x10" + strings.Repeat("\x00", 16) + "alice"},
		"MS-CHAPv2": {tunneltest.MSCHAPv2, ppp.ProtoCHAP, "\x31" + strings.Repeat("\x00", 49) + "alice"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				packet := ipPacket(4, 100, 7)
				c := capturedSession(t, auth.method, packet)
				wantSession(t, "sent", c.sent, auth.proto, packet, ppp.TerminateRequest)
				wantSession(t, "received", c.received, auth.proto, packet, ppp.TerminateAck)
				if bytes.Contains(bytes.Join(c.sent, nil), []byte("wonderland")) {
					t.Error("the password is shown")
				}
				if got := of(auth.proto, c.sent); len(got) == 0 || string(got[0][4:]) != auth.answer {
					t.Errorf("answer shown: got %q, want %q", got, auth.answer)
				}
			})
		})
	}
}

// capturedSession is a session in which a packet goes to the server and comes
// back.
func capturedSession(t *testing.T, method tunneltest.Method, packet []byte) *tap {
	t.Helper()
	p := newPair(t, tunneltest.Config{Methods: []tunneltest.Method{method}})
	c := &tap{}
	p.cfg.AllowPAP, p.cfg.Capture = true, c.capture
	s, n := p.dial(), newNear(packet)
	cancel, ended := run(t, s, n.packets())
	n.await(t, ended, packet)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	p.server.Close()
	return c
}

// wantSession checks one direction, which ends with a packet of LCP.
func wantSession(t *testing.T, direction string, frames [][]byte, auth ppp.Protocol, packet []byte, end ppp.Code) {
	t.Helper()
	for _, proto := range []ppp.Protocol{ppp.ProtoLCP, auth, ppp.ProtoIPCP, ppp.ProtoIPv4} {
		if len(of(proto, frames)) == 0 {
			t.Fatalf("%s: no %v among %d frames", direction, proto, len(frames))
		}
	}
	if ip := of(ppp.ProtoIPv4, frames); len(ip) != 1 || !bytes.Equal(ip[0], packet) {
		t.Errorf("%s: got the IP packets %x, want %x", direction, ip, packet)
	}
	lcp := of(ppp.ProtoLCP, frames)
	if last := ppp.Code(lcp[len(lcp)-1][0]); last != end {
		t.Errorf("%s: ends with %v, want %v", direction, last, end)
	}
}
