package tunneltest

import (
	"testing"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// echoAll answers what keeps a session alive until something else comes.
func (c *client) echoAll(answer bool) (frame, error) {
	for {
		f, err := c.next()
		switch {
		case err == nil && f.String() == "Echo Request":
			if answer {
				c.message(sstp.EchoResponse)
			}
		case err == nil && f.String() == "LCP Echo-Request":
			if answer {
				c.send(ppp.ProtoLCP, ppp.Packet{
					Code: ppp.EchoReply, Identifier: f.packet.Identifier, Data: make([]byte, 4),
				})
			}
		default:
			return f, err
		}
	}
}

func TestEcho(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.up()
		c.message(sstp.EchoRequest)
		c.want("Echo Response")
		c.conn().Echo()
		c.want("Echo Request")
		c.conn().LCPEcho()
		f := c.want("LCP Echo-Request")
		c.send(ppp.ProtoLCP, ppp.Packet{Code: ppp.EchoReply, Identifier: f.packet.Identifier, Data: make([]byte, 4)})
		c.send(ppp.ProtoLCP, ppp.Packet{Code: ppp.EchoRequest, Identifier: 200, Data: []byte("\x00\x00\x00\x00text")})
		if f := c.want("LCP Echo-Reply"); f.packet.Identifier != 200 || string(f.packet.Data[4:]) != "text" {
			t.Errorf("echo reply %d %q, want 200 with the same data", f.packet.Identifier, f.packet.Data)
		}
		c.wantEvents(EventEchoRequest, EventLCPEchoReply, EventLCPEchoRequest)
	})
}

func TestNeverAnswersEcho(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{SSTP: SSTPQuirks{NeverAnswersEcho: true}}}, func(t *testing.T, c *client) {
		c.up()
		c.message(sstp.EchoRequest)
		c.await(EventEchoRequest)
		if f := c.want("Echo Request"); f.message.Type != sstp.EchoRequest { // the server's own, 60 s later
			t.Errorf("got %v", f)
		}
	})
}

// TestSilence is what each kind of server does with a client that says
// nothing, or only answers.
func TestSilence(t *testing.T) {
	tests := []struct {
		name   string
		quirks Quirks
		answer bool
		want   string // what comes instead of an echo; empty is the end
		after  time.Duration
	}{
		{"specification", Quirks{}, false, "", 120 * time.Second},
		{"accel", Quirks{SSTP: SSTPQuirks{EchoTimeout: time.Second, EchoAborts: true}}, false, "Call Abort", 61 * time.Second},
		{"SoftEther", Quirks{SSTP: SoftEther().SSTP}, false, "Call Abort", 20 * time.Second},
		{"SoftEther 4", Quirks{SSTP: SoftEther4().SSTP}, false, "Call Abort", 10 * time.Second},
		{"LCP echo", Quirks{LCP: LCPQuirks{EchoInterval: 20 * time.Second, EchoFailures: 1}}, false, "LCP Terminate-Request", 40 * time.Second},
		{"answers", Quirks{SSTP: SSTPQuirks{SessionLimit: time.Hour / 2}}, true, "Call Disconnect", time.Hour / 2},
		{"answers SoftEther", Quirks{SSTP: SSTPQuirks{Silence: 20 * time.Second, EchoAlways: true, EchoInterval: 3 * time.Second, SessionLimit: time.Hour / 2}}, true, "Call Disconnect", time.Hour / 2},
		{"answers LCP", Quirks{SSTP: SSTPQuirks{SessionLimit: time.Hour / 2}, LCP: LCPQuirks{EchoInterval: 20 * time.Second, EchoFailures: 1}}, true, "Call Disconnect", time.Hour / 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{Quirks: test.quirks}, func(t *testing.T, c *client) {
				begin := time.Now()
				c.up()
				f, err := c.echoAll(test.answer)
				if test.want == "" && err == nil || test.want != "" && (err != nil || f.String() != test.want) {
					t.Errorf("got %v, %v, want %q", f, err, test.want)
				}
				if got := time.Since(begin); got != test.after {
					t.Errorf("after %v, want %v", got, test.after)
				}
			})
		})
	}
}
