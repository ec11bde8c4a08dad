package tunneltest

import (
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

var pppID = sstp.Attribute{ID: sstp.AttrEncapsulatedProtocolID, Value: []byte{0, 1}}

func TestRequestFaults(t *testing.T) {
	type attrs = []sstp.Attribute
	tests := []struct {
		name  string
		attrs attrs
		want  []sstp.Status
	}{
		{"good", attrs{pppID}, nil},
		{"missing", nil, []sstp.Status{sstp.StatusRequiredAttributeMissing}},
		{"twice", attrs{pppID, pppID}, []sstp.Status{sstp.StatusDuplicateAttribute}},
		{"length", attrs{{ID: pppID.ID, Value: []byte{1}}}, []sstp.Status{sstp.StatusInvalidAttribValueLength}},
		{"value", attrs{{ID: pppID.ID, Value: []byte{0, 2}}}, []sstp.Status{sstp.StatusValueNotSupported}},
		{"unknown and missing", attrs{{ID: 0x55}},
			[]sstp.Status{sstp.StatusUnrecognizedAttribute, sstp.StatusRequiredAttributeMissing}},
		{"status", attrs{pppID, sstp.StatusInfo{}.Attribute()}, []sstp.Status{sstp.StatusStatusInfoNotSupportedInMsg}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []sstp.Status
			for _, f := range requestFaults(sstp.Message{Type: sstp.CallConnectRequest, Attributes: test.attrs}) {
				got = append(got, f.Status)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("faults %v, want %v", got, test.want)
			}
		})
	}
}

// start goes up to the reply of the HTTPS exchange.
func (c *client) start() {
	c.t.Helper()
	if _, err := c.request(testRequest); err != nil {
		c.t.Fatal(err)
	}
}

func TestNaks(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{SSTP: SSTPQuirks{Naks: 2}}}, func(t *testing.T, c *client) {
		c.start()
		for range 2 {
			c.message(sstp.CallConnectRequest, pppID)
			if s, ok := c.want("Call Connect Nak").message.StatusInfo(); !ok || s.Status != sstp.StatusValueNotSupported {
				t.Errorf("nak with %v, want VALUE_NOT_SUPPORTED", s)
			}
		}
		c.message(sstp.CallConnectRequest, pppID)
		c.want("Call Connect Ack")
	})
}

func TestNakForever(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.start()
		for range 3 {
			c.message(sstp.CallConnectRequest)
			c.want("Call Connect Nak")
		}
		c.message(sstp.CallConnectRequest)
		c.wantAbort(sstp.StatusRetryCountExceeded)
	})
}

func (c *client) wantAbort(want sstp.Status) {
	c.t.Helper()
	if s, ok := c.want("Call Abort").message.StatusInfo(); !ok || s.Status != want {
		c.t.Errorf("abort with %v, want %v", s, want)
	}
}

// TestNotAccepted sends a message where 3.3.5 has no place for it.
func TestNotAccepted(t *testing.T) {
	before := func(*client) {}
	pending := func(c *client) { c.message(sstp.CallConnectRequest, pppID); c.want("Call Connect Ack") }
	tests := []struct {
		name string
		to   func(*client)
		send sstp.MessageType
		want sstp.Status
	}{
		{"echo first", before, sstp.EchoRequest, sstp.StatusUnacceptedFrameReceived},
		{"connected first", before, sstp.CallConnected, sstp.StatusUnacceptedFrameReceived},
		{"request twice", pending, sstp.CallConnectRequest, sstp.StatusUnacceptedFrameReceived},
		{"echo before connected", pending, sstp.EchoRequest, sstp.StatusUnacceptedFrameReceived},
		{"ack from the client", pending, sstp.CallConnectAck, sstp.StatusUnacceptedFrameReceived},
		{"disconnect ack", pending, sstp.CallDisconnectAck, sstp.StatusUnacceptedFrameReceived},
		{"unknown", pending, 0x7F, sstp.StatusInvalidFrameReceived},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{}, func(t *testing.T, c *client) {
				c.start()
				test.to(c)
				c.message(test.send)
				c.wantAbort(test.want)
			})
		})
	}
	t.Run("connected twice", func(t *testing.T) {
		bubble(t, Config{Quirks: Quirks{SSTP: SSTPQuirks{NoVerify: true}}}, func(t *testing.T, c *client) {
			c.start()
			pending(c)
			c.message(sstp.CallConnected)
			c.message(sstp.CallConnected)
			c.wantAbort(sstp.StatusUnacceptedFrameReceived)
		})
	})
}

func TestMalformedMessage(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.start()
		c.write([]byte{0x10, 0x01, 0x00, 0x0E, 0x00, 0x01, 0x00, 0x02, 0x00, 0x01, 0x00, 0x06, 0x00, 0x01})
		c.wantAbort(sstp.StatusInvalidFrameReceived)
	})
}

// TestFramingLost wants the connection to end without a word (3.1.5.1).
func TestFramingLost(t *testing.T) {
	for _, octets := range [][]byte{{0x20, 0x01, 0x00, 0x08}, {0x10, 0x00, 0x00, 0x03}, {0x10, 0x01, 0x00, 0x06, 0, 8}} {
		bubble(t, Config{}, func(t *testing.T, c *client) {
			c.start()
			c.write(octets)
			if seen := c.wantEnd(); len(seen) > 0 {
				t.Errorf("%x was answered with %v", octets, seen)
			}
		})
	}
}

func TestNegotiationTimeout(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		begin := time.Now()
		c.start()
		c.wantAbort(sstp.StatusNegotiationTimeout)
		if got := time.Since(begin); got != negotiationTimer {
			t.Errorf("abort after %v, want %v", got, negotiationTimer)
		}
		c.wantEnd()
		if got := time.Since(begin); got != negotiationTimer+abortTimer1 {
			t.Errorf("end after %v, want abort timer 1", got)
		}
	})
	bubble(t, Config{Quirks: Quirks{SSTP: SSTPQuirks{NeverAcks: true}}}, func(t *testing.T, c *client) {
		c.start()
		c.message(sstp.CallConnectRequest, pppID)
		c.wantAbort(sstp.StatusNegotiationTimeout)
	})
}

func TestAckDelay(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{SSTP: SSTPQuirks{AckDelay: 20 * time.Second, EchoEarly: true}}}, func(t *testing.T, c *client) {
		begin := time.Now()
		c.call()
		if got := time.Since(begin); got != 20*time.Second {
			t.Errorf("ack after %v, want 20s", got)
		}
		c.want("Echo Request")
		c.message(sstp.EchoResponse)
		c.login()
		c.wantEvents(EventEchoResponse)
	})
}

func TestClientAborts(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.up()
		c.message(sstp.CallAbort, sstp.StatusInfo{Status: sstp.StatusInvalidFrameReceived}.Attribute())
		begin := time.Now()
		c.want("Call Abort")
		c.wantEnd()
		if got := time.Since(begin); got != abortTimer2 {
			t.Errorf("end after %v, want %v", got, abortTimer2)
		}
		if e := c.await(EventCallAbort); e.Detail != "INVALID_FRAME_RECEIVED" {
			t.Errorf("abort recorded with %q", e.Detail)
		}
	})
}

func TestIgnoresDisconnect(t *testing.T) {
	for _, m := range []sstp.MessageType{sstp.CallDisconnect, sstp.CallAbort} {
		bubble(t, Config{Quirks: Quirks{SSTP: SSTPQuirks{IgnoresDisconnect: true}}}, func(t *testing.T, c *client) {
			c.call()
			c.message(m)
			c.tls.SetReadDeadline(time.Now().Add(time.Minute))
			if f, err := c.nextAfterLCP(); err == nil {
				t.Errorf("%v was answered with %v", m, f)
			}
		})
	}
}

// nextAfterLCP skips what LCP sends by itself.
func (c *client) nextAfterLCP() (frame, error) {
	for {
		f, err := c.next()
		if err != nil || f.String() != "LCP Configure-Request" {
			return f, err
		}
	}
}

// TestServerEnds is every way in which the server can end a session.
func TestServerEnds(t *testing.T) {
	tests := []struct {
		name   string
		quirks SSTPQuirks
		end    func(*Conn)
		want   string
		attrs  int
		length int
	}{
		{"disconnect", SSTPQuirks{}, func(c *Conn) { c.Disconnect(sstp.StatusNoError) }, "Call Disconnect", 1, 8},
		{"bare disconnect", SSTPQuirks{BareReasons: true}, func(c *Conn) { c.Disconnect(0) }, "Call Disconnect", 0, 0},
		{"short disconnect", SSTPQuirks{ShortReasons: true}, func(c *Conn) { c.Disconnect(0) }, "Call Disconnect", 1, 4},
		{"abort", SSTPQuirks{}, func(c *Conn) { c.Abort(sstp.StatusInfo{Status: 7}) }, "Call Abort", 1, 8},
		{"bare abort", SSTPQuirks{BareReasons: true}, func(c *Conn) { c.Abort(sstp.StatusInfo{}) }, "Call Abort", 0, 0},
		{"short abort", SSTPQuirks{ShortReasons: true}, func(c *Conn) { c.Abort(sstp.StatusInfo{}) }, "Call Abort", 1, 4},
		{"session limit", SSTPQuirks{SessionLimit: time.Minute}, func(*Conn) {}, "Call Disconnect", 1, 8},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{Quirks: Quirks{SSTP: test.quirks}}, func(t *testing.T, c *client) {
				c.up()
				test.end(c.conn())
				m := c.want(test.want).message
				if len(m.Attributes) != test.attrs || test.attrs > 0 && len(m.Attributes[0].Value) != test.length {
					t.Errorf("%v, want %d attribute of %d octets", m, test.attrs, test.length)
				}
				if m.Type == sstp.CallDisconnect {
					c.message(sstp.CallDisconnectAck)
					c.await(EventCallDisconnectAck)
				} else {
					c.message(sstp.CallAbort)
				}
				c.wantEnd()
			})
		})
	}
}

func TestCrossedDisconnect(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.up()
		c.conn().Disconnect(sstp.StatusNoError)
		c.want("Call Disconnect")
		c.message(sstp.CallDisconnect)
		c.want("Call Disconnect Ack")
		c.wantEnd()
	})
}

func TestTerminate(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.up()
		c.conn().Terminate("maintenance")
		f := c.want("LCP Terminate-Request")
		if string(f.packet.Data) != "maintenance" {
			t.Errorf("text %q, want maintenance", f.packet.Data)
		}
		c.send(ppp.ProtoLCP, ppp.Packet{Code: ppp.TerminateAck, Identifier: f.packet.Identifier})
		c.want("Call Disconnect")
		c.wantEvents(EventTerminateAck)
	})
}

// TestTerminateUnanswered repeats the Terminate-Request once, then disconnects.
func TestTerminateUnanswered(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.up()
		c.conn().Terminate("")
		c.want("LCP Terminate-Request")
		c.want("LCP Terminate-Request")
		c.want("Call Disconnect")
		c.wantEnd()
	})
}

func TestKill(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.up()
		c.conn().Kill()
		if _, err := c.next(); err == nil || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after Kill: %v, want the end", err)
		}
	})
}

// TestClientGone ends TCP under TLS: no close_notify.
func TestClientGone(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.up()
		c.close()
		c.await(EventEnded)
		c.wantEvents(EventLost)
		c.wantNoEvents(EventCloseNotify)
	})
}

func TestTerminateByClientOnly(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.up()
		c.send(ppp.ProtoLCP, ppp.Packet{Code: ppp.TerminateRequest, Identifier: 99})
		if f := c.want("LCP Terminate-Ack"); f.packet.Identifier != 99 {
			t.Errorf("ack of %d, want 99", f.packet.Identifier)
		}
		c.want("Call Disconnect")
	})
}
