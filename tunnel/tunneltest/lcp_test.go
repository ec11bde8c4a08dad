package tunneltest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"sstproxy/tunnel/ppp"
)

var (
	magicOption = ppp.Option{Type: ppp.LCPMagic, Data: []byte{0xDE, 0xAD, 0xBE, 0xEF}}
	pfcOption   = ppp.Option{Type: ppp.LCPPFC}
	acfcOption  = ppp.Option{Type: ppp.LCPACFC}
	accmOption  = ppp.Option{Type: ppp.LCPACCM, Data: make([]byte, 4)}
	authOption  = ppp.Option{Type: ppp.LCPAuthProtocol, Data: []byte{0xC0, 0x23}}
)

func mruOption(n uint16) ppp.Option { return ppp.Option{Type: ppp.LCPMRU, Data: uint16Data(n)} }

// options are those of a packet from the server.
func (f frame) options(t *testing.T) []ppp.Option {
	t.Helper()
	opts, err := ppp.ParseOptions(f.packet.Data)
	if err != nil {
		t.Fatal(err)
	}
	return opts
}

// wantConfigure waits for an answer with exactly these options.
func (c *client) wantConfigure(p ppp.Protocol, code ppp.Code, opts ...ppp.Option) frame {
	c.t.Helper()
	f := c.want(p.String() + " " + code.String())
	if !ppp.EqualOptions(f.options(c.t), opts) {
		c.t.Errorf("%v of %v, want %v", f, f.options(c.t), opts)
	}
	return f
}

func TestLCPJudges(t *testing.T) {
	type options = []ppp.Option
	tests := []struct {
		name   string
		quirks LCPQuirks
		send   options
		code   ppp.Code
		want   options
	}{
		{"empty", LCPQuirks{}, nil, ppp.ConfigureAck, nil},
		{"Windows", LCPQuirks{AcceptsCompression: true}, options{mruOption(4091), magicOption, pfcOption, acfcOption},
			ppp.ConfigureAck, options{mruOption(4091), magicOption, pfcOption, acfcOption}},
		{"MRU too large", LCPQuirks{MaxMRU: 1400}, options{mruOption(1500)}, ppp.ConfigureNak, options{mruOption(1400)}},
		{"MRU too small", LCPQuirks{}, options{mruOption(99)}, ppp.ConfigureNak, options{mruOption(100)}},
		{"MRU rejected", LCPQuirks{RejectsMRU: true}, options{mruOption(1500)}, ppp.ConfigureReject, options{mruOption(1500)}},
		{"reject before nak", LCPQuirks{MaxMRU: 1500, RejectsMagic: true}, options{mruOption(4091), magicOption, pfcOption, acfcOption},
			ppp.ConfigureReject, options{magicOption, pfcOption, acfcOption}},
		{"ACCM", LCPQuirks{}, options{accmOption}, ppp.ConfigureAck, options{accmOption}},
		{"ACCM rejected", LCPQuirks{RejectsACCM: true}, options{accmOption}, ppp.ConfigureReject, options{accmOption}},
		{"client wants authentication", LCPQuirks{}, options{authOption}, ppp.ConfigureReject, options{authOption}},
		{"unknown", LCPQuirks{}, options{{Type: 77, Data: []byte{1}}}, ppp.ConfigureReject, options{{Type: 77, Data: []byte{1}}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{Quirks: Quirks{LCP: test.quirks}}, func(t *testing.T, c *client) {
				c.call()
				id := c.configure(ppp.ProtoLCP, test.send...)
				if f := c.wantConfigure(ppp.ProtoLCP, test.code, test.want...); f.packet.Identifier != id {
					t.Errorf("identifier %d, want %d", f.packet.Identifier, id)
				}
			})
		})
	}
}

func TestLCPRequest(t *testing.T) {
	tests := []struct {
		name   string
		quirks LCPQuirks
		want   []uint8
	}{
		{"plain", LCPQuirks{}, []uint8{3}},
		{"accel", AccelPPP().LCP, []uint8{3, 1, 5}},
		{"RRAS", RRAS().LCP, []uint8{3, 1, 5, 7, 8, 13, 17, 19}},
		{"sorz", Sorz().LCP, []uint8{3, 5, 2, 7, 8}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{Quirks: Quirks{LCP: test.quirks}}, func(t *testing.T, c *client) {
				c.call()
				f := c.want("LCP Configure-Request")
				var got []uint8
				for _, o := range f.options(t) {
					got = append(got, o.Type)
				}
				if !slices.Equal(got, test.want) {
					t.Fatalf("options %v, want %v", got, test.want)
				}
				c.reduce(f, test.want)
			})
		})
	}
}

// reduce rejects all options but the first, then naks MRU and magic number of
// the next request, if they are still there.
func (c *client) reduce(f frame, types []uint8) {
	c.t.Helper()
	if len(types) < 2 {
		return
	}
	c.answer(ppp.ProtoLCP, ppp.ConfigureReject, f, f.options(c.t)[2:]...)
	f = c.want("LCP Configure-Request")
	if got := f.options(c.t); len(got) != 2 || got[1].Type != types[1] {
		c.t.Fatalf("options after reject %v", got)
	}
	second := f.options(c.t)[1]
	nak := ppp.Option{Type: second.Type, Data: []byte{1, 2, 3, 4}[:len(second.Data)]}
	c.answer(ppp.ProtoLCP, ppp.ConfigureNak, f, nak)
	f = c.want("LCP Configure-Request")
	if got := f.options(c.t); bytes.Equal(got[1].Data, second.Data) {
		c.t.Errorf("option %v unchanged after nak", got[1])
	}
}

// TestLCPRetransmits is the restart timer: the same identifier, ten times.
func TestLCPRetransmits(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.call()
		first := c.want("LCP Configure-Request").packet.Identifier
		for range maxConfigure - 1 {
			if id := c.want("LCP Configure-Request").packet.Identifier; id != first {
				t.Errorf("identifier %d, want %d", id, first)
			}
		}
		c.want("Call Disconnect")
	})
}

// TestLCPDiscards sends answers that answer nothing.
func TestLCPDiscards(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.call()
		f := c.want("LCP Configure-Request")
		wrong := f
		wrong.packet.Identifier += 7
		c.answer(ppp.ProtoLCP, ppp.ConfigureAck, wrong)
		wrong = f
		wrong.packet.Data = nil
		c.answer(ppp.ProtoLCP, ppp.ConfigureAck, wrong)
		c.answer(ppp.ProtoLCP, ppp.ConfigureReject, f, magicOption)
		c.send(ppp.ProtoLCP, ppp.Packet{Code: ppp.ConfigureRequest, Identifier: 9, Data: []byte{1, 1}})
		c.write([]byte{0x10, 0, 0, 4})
		c.write([]byte{0x10, 0, 0, 6, 0xFF, 0x03})
		if again := c.want("LCP Configure-Request"); again.packet.Identifier != f.packet.Identifier {
			t.Errorf("request %d after answers that were none, want %d", again.packet.Identifier, f.packet.Identifier)
		}
		c.wantNoEvents(EventLCPOpened)
	})
}

func TestWaitsForClient(t *testing.T) {
	q := Quirks{SSTP: SSTPQuirks{Silence: SoftEther().SSTP.Silence, BareReasons: true}, LCP: LCPQuirks{WaitsForClient: true}}
	bubble(t, Config{Quirks: q}, func(t *testing.T, c *client) {
		c.call()
		if seen := c.wantEnd(); !slices.Equal(seen, []string{"Call Abort"}) {
			t.Errorf("a silent client got %v, want Call Abort alone", seen)
		}
	})
	bubble(t, Config{Quirks: q}, func(t *testing.T, c *client) { c.up() })
}

func TestEarlyEcho(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{LCP: LCPQuirks{EarlyEcho: true}}}, func(t *testing.T, c *client) {
		c.call()
		f := c.want("LCP Echo-Request")
		if f.packet.Identifier != 0 || binary.BigEndian.Uint32(f.packet.Data) != 0 || len(f.packet.Data) != 20 {
			t.Errorf("echo %d % x, want identifier and magic 0 and 16 octets", f.packet.Identifier, f.packet.Data)
		}
		c.login()
	})
}

func TestIdentificationAndUnknownCode(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{LCP: LCPQuirks{Identification: true, UnknownCode: true}}}, func(t *testing.T, c *client) {
		c.call()
		c.lcp()
		c.want("LCP Identification")
		f := c.want("LCP code 0x7f")
		c.send(ppp.ProtoLCP, ppp.Packet{Code: ppp.CodeReject, Identifier: 1, Data: f.info})
		c.response(c.want("CHAP Challenge"))
		c.want("CHAP Success")
		c.wantEvents(EventCodeReject)
	})
}

func TestCodeReject(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.up()
		c.send(ppp.ProtoLCP, ppp.Packet{Code: 99, Identifier: 5, Data: []byte{1}})
		if f := c.want("LCP Code-Reject"); !bytes.Equal(f.packet.Data, []byte{99, 5, 0, 5, 1}) {
			t.Errorf("code-reject of % x", f.packet.Data)
		}
		c.send(ppp.ProtoIPCP, ppp.Packet{Code: ppp.EchoRequest, Identifier: 6})
		c.want("IPCP Code-Reject")
	})
}

func TestNaksForever(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{LCP: LCPQuirks{NaksForever: true}}}, func(t *testing.T, c *client) {
		c.call()
		for range 3 * maxFailure {
			c.configure(ppp.ProtoLCP, magicOption)
			c.want("LCP Configure-Nak")
		}
	})
}

// TestMaxFailure turns Nak into Reject.
func TestMaxFailure(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.call()
		for range maxFailure {
			c.configure(ppp.ProtoLCP, mruOption(50))
			c.want("LCP Configure-Nak")
		}
		c.configure(ppp.ProtoLCP, mruOption(50))
		c.wantConfigure(ppp.ProtoLCP, ppp.ConfigureReject, mruOption(50))
	})
}

func TestNeverAnswersAndLoop(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{LCP: LCPQuirks{NeverAnswers: true}}}, func(t *testing.T, c *client) {
		c.call()
		c.configure(ppp.ProtoLCP)
		if seen := c.wantEnd(); !slices.Equal(seen, []string{"Call Abort"}) {
			t.Errorf("got %v, want only the negotiation timer's abort", seen)
		}
	})
	bubble(t, Config{Quirks: Quirks{LCP: LCPQuirks{Loop: true, WaitsForClient: true}}}, func(t *testing.T, c *client) {
		c.call()
		c.configure(ppp.ProtoLCP, magicOption)
		c.wantConfigure(ppp.ProtoLCP, ppp.ConfigureRequest, magicOption)
	})
}

// TestAcksWhenOpened is accel: a new Request in Opened is acked, LCP stays up.
func TestAcksWhenOpened(t *testing.T) {
	for _, stays := range []bool{true, false} {
		q := Quirks{LCP: LCPQuirks{AcksWhenOpened: stays}}
		bubble(t, Config{Quirks: q}, func(t *testing.T, c *client) {
			c.up()
			c.configure(ppp.ProtoLCP, mruOption(1300))
			c.want("LCP Configure-Ack")
			c.send(ppp.ProtoLCP, ppp.Packet{Code: ppp.EchoRequest, Identifier: 3, Data: make([]byte, 4)})
			f, err := c.nextAfterLCP()
			if got := err == nil && f.String() == "LCP Echo-Reply"; got != stays {
				t.Errorf("echo answered %v (%v, %v), want %v", got, f, err, stays)
			}
		})
	}
}

// TestRepeatedRequest repeats the last acked Request: nothing goes down.
func TestRepeatedRequest(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.up()
		c.send(ppp.ProtoLCP, ppp.Packet{Code: ppp.ConfigureRequest, Identifier: 1})
		c.want("LCP Configure-Ack")
		c.message(2 * 4) // Echo Request
		c.want("Echo Response")
		if n := c.server.Count(EventLCPOpened); n != 1 {
			t.Errorf("LCP opened %d times, want 1", n)
		}
	})
}

// TestRenegotiate goes back to LCP from an open tunnel, and up again.
func TestRenegotiate(t *testing.T) {
	bubble(t, Config{Attach: Reflect}, func(t *testing.T, c *client) {
		c.up()
		first := c.addr
		c.conn().Renegotiate()
		c.answer(ppp.ProtoLCP, ppp.ConfigureAck, c.want("LCP Configure-Request"))
		c.configure(ppp.ProtoLCP)
		c.want("LCP Configure-Ack")
		c.response(c.want("CHAP Challenge"))
		c.want("CHAP Success")
		c.ipcp()
		if c.addr != first {
			t.Errorf("address %v, was %v", c.addr, first)
		}
		c.sendIP(c.ping(10))
		c.want("IPv4")
		c.hangUp()
	})
}
