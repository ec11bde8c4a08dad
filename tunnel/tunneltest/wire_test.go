package tunneltest

import (
	"bytes"
	"testing"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// TestWireQuirks runs a whole session under each of the quirks that change
// only the looks: the scripted client must not notice.
func TestWireQuirks(t *testing.T) {
	for name, q := range map[string]WireQuirks{
		"split":         {SplitRecords: true},
		"one each":      {RecordPerPacket: true},
		"reserved bits": {ReservedBits: true},
		"compressed":    {Compressed: true},
		"padding":       {Padding: true},
		"delay":         {ReplyDelay: 300 * time.Millisecond},
		"all": {SplitRecords: true, ReservedBits: true, Compressed: true, Padding: true,
			ReplyDelay: time.Second, NeedsAddress: true, NeedsFullProtocol: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Config{Quirks: Quirks{Wire: q}, Attach: Reflect}, func(t *testing.T, c *client) {
				c.up()
				for n := range 30 {
					c.sendIP(c.ping(n * 40))
				}
				for n := range 30 {
					if got := c.want("IPv4").info; !bytes.Equal(got[20:], c.ping(n * 40)[20:]) {
						t.Fatalf("packet %d came back as % x", n, got)
					}
				}
				c.hangUp()
			})
		})
	}
}

func TestRecords(t *testing.T) {
	echo := sstp.Message{Type: sstp.EchoRequest}.Append(nil)
	stream := bytes.Repeat(echo, 400)
	for _, q := range []WireQuirks{{}, {SplitRecords: true}, {RecordPerPacket: true}} {
		var joined []byte
		n := 0
		err := q.records(stream, func(b []byte) error {
			joined = append(joined, b...)
			n++
			return nil
		})
		if err != nil || !bytes.Equal(joined, stream) {
			t.Errorf("%+v: %v, stream changed", q, err)
		}
		if q.RecordPerPacket && n != 400 || q == (WireQuirks{}) && n != 1 || q.SplitRecords && n < 20 {
			t.Errorf("%+v: %d records", q, n)
		}
	}
}

// TestFrameForms sends an LCP echo in the four forms of 5.1 of RFC 1661.
func TestFrameForms(t *testing.T) {
	echo := ppp.Packet{Code: ppp.EchoRequest, Identifier: 1, Data: make([]byte, 4)}.Append(nil)
	tests := []struct {
		name   string
		quirks WireQuirks
		header []byte
		want   string
	}{
		{"full", WireQuirks{NeedsAddress: true, NeedsFullProtocol: true}, []byte{0xFF, 3, 0xC0, 0x21}, "LCP Echo-Reply"},
		{"ACFC", WireQuirks{}, []byte{0xC0, 0x21}, "LCP Echo-Reply"},
		{"ACFC dropped", WireQuirks{NeedsAddress: true}, []byte{0xC0, 0x21}, "Echo Response"},
		{"PFC rejected", WireQuirks{NeedsFullProtocol: true}, []byte{0xFF, 3, 0x2D}, "LCP Protocol-Reject"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{Quirks: Quirks{Wire: test.quirks}}, func(t *testing.T, c *client) {
				c.up()
				c.write(sstp.AppendData(nil, append(bytes.Clone(test.header), echo...)))
				c.message(sstp.EchoRequest)
				if f, err := c.next(); err != nil || f.String() != test.want {
					t.Errorf("got %v, %v, want %s", f, err, test.want)
				}
			})
		})
	}
}

// TestCompressedPacket is the octets of a data frame with ACFC and PFC.
func TestCompressedPacket(t *testing.T) {
	full := sstp.AppendData(nil, []byte{0xFF, 3, 0, 0x21, 0x45})
	if got, want := (&WireQuirks{Compressed: true}).rewrite(full), []byte{0x10, 0, 0, 6, 0x21, 0x45}; !bytes.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
	if got, want := (&WireQuirks{ReservedBits: true}).rewrite(full), append([]byte{0x10, 0xFE, 0xF0, 9}, full[4:]...); !bytes.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
}

func TestReplyDelay(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{Wire: WireQuirks{ReplyDelay: 600 * time.Millisecond}}}, func(t *testing.T, c *client) {
		c.call()
		begin := time.Now()
		c.configure(ppp.ProtoLCP)
		c.want("LCP Configure-Request")
		c.want("LCP Configure-Ack")
		if got := time.Since(begin); got != 600*time.Millisecond {
			t.Errorf("both after %v, want one batch after 600ms", got)
		}
	})
}

func TestBeacon(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{Wire: WireQuirks{Beacon: 5 * time.Second}}}, func(t *testing.T, c *client) {
		c.up()
		for range 2 {
			b := c.want("IPv4").info
			if !bytes.Equal(b[12:20], []byte{10, 66, 0, 1, 10, 66, 255, 255}) || checksum(b[:20]) != 0 {
				t.Errorf("beacon % x", b)
			}
		}
	})
}

// TestHoldsData attaches a network that always has a packet: it comes only
// after the client's first.
func TestHoldsData(t *testing.T) {
	ready := make(chan struct{}, 1)
	frame := append(make([]byte, Headroom), 0x45)
	frame = append(frame, make([]byte, 19)...)
	PutHeader(frame)
	attach := func(Client) Network {
		left := 1
		return Network{Ready: ready, Fill: func(b []byte) int {
			if left == 0 {
				return 0
			}
			left--
			return copy(b, frame)
		}}
	}
	for _, holds := range []bool{true, false} {
		bubble(t, Config{Attach: attach, Quirks: Quirks{Wire: WireQuirks{HoldsData: holds}}}, func(t *testing.T, c *client) {
			c.up()
			if holds {
				c.want("Echo Request") // 60 s later: nothing came before
				c.sendIP(c.ping(1))
			}
			if f, err := c.next(); err != nil || f.String() != "IPv4" {
				t.Errorf("got %v, %v, want IPv4", f, err)
			}
		})
	}
}

func TestEarlyPackets(t *testing.T) {
	bubble(t, Config{Attach: Reflect}, func(t *testing.T, c *client) {
		c.call()
		c.login()
		c.addr = c.server.pool.gateway
		c.sendIP(c.ping(1))
		c.connected(sstp.HashSHA256, nil)
		c.ipcp()
		c.await(EventEarlyPacket)
		c.sendIP(c.ping(2))
		if got := c.want("IPv4").info; len(got) != 22 {
			t.Errorf("reflected %d octets, want the second packet", len(got))
		}
	})
}

func TestNoCloseNotify(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{Wire: WireQuirks{NoCloseNotify: true}}}, func(t *testing.T, c *client) {
		c.up()
		c.message(sstp.CallDisconnect)
		c.want("Call Disconnect Ack")
		c.wantEnd()
		c.await(EventEnded)
	})
}
