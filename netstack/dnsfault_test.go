package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsFault is a DNS server that can send any octets. Each function gets the
// query; what udp returns are datagrams. tcp answers on the connection, which
// is closed when it returns; nil refuses TCP.
type dnsFault struct {
	udp func(q *dns.Msg) [][]byte
	tcp func(c net.Conn, q *dns.Msg)
}

func (f dnsFault) serve(t *testing.T, w *wires, address string) {
	t.Helper()
	pc, err := w.b.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // ends with pc
		buf := make([]byte, 2048)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			for _, reply := range f.udp(q) {
				pc.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	if f.tcp != nil {
		w.serve(t, "tcp", address, f.answerTCP)
	}
}

// answerTCP reads the query and leaves the connection to f.tcp.
func (f dnsFault) answerTCP(c net.Conn) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	wire := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, wire); err != nil {
		return
	}
	q := new(dns.Msg)
	if q.Unpack(wire) == nil {
		f.tcp(c, q)
	}
}

// reply is a right answer to q with these records, changed by edit.
func reply(q *dns.Msg, edit func(*dns.Msg), records ...string) []byte {
	m := new(dns.Msg).SetReply(q)
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	if edit != nil {
		edit(m)
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

const (
	rightRecord = "host.test. A 10.9.0.77"
	lie         = "host.test. A 6.6.6.6"
)

// lies are datagrams that are no answer to the question, or none that is to be
// believed.
var lies = map[string]func(q *dns.Msg) []byte{
	"nothing":      func(*dns.Msg) []byte { return nil },
	"one octet":    func(*dns.Msg) []byte { return []byte{0} },
	"11 octets":    func(q *dns.Msg) []byte { return reply(q, nil, lie)[:11] },
	"only header":  func(q *dns.Msg) []byte { return reply(q, nil, lie)[:12] },
	"half":         func(q *dns.Msg) []byte { b := reply(q, nil, lie); return b[:len(b)-3] },
	"text":         func(*dns.Msg) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") },
	"ones":         func(*dns.Msg) []byte { return bytes.Repeat([]byte{0xFF}, 1200) },
	"zeros":        func(*dns.Msg) []byte { return make([]byte, 1200) },
	"wrong id":     func(q *dns.Msg) []byte { return reply(q, func(m *dns.Msg) { m.Id ^= 0x8001 }, lie) },
	"query itself": func(q *dns.Msg) []byte { return reply(q, func(m *dns.Msg) { m.Response = false }, lie) },
	"update":       func(q *dns.Msg) []byte { return reply(q, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, lie) },
	"no question":  func(q *dns.Msg) []byte { return reply(q, func(m *dns.Msg) { m.Question = nil }, lie) },
	"wrong name":   func(q *dns.Msg) []byte { return reply(q, func(m *dns.Msg) { m.Question[0].Name = "other.test." }, lie) },
	"wrong type":   func(q *dns.Msg) []byte { return reply(q, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMX }, lie) },
	"wrong class": func(q *dns.Msg) []byte {
		return reply(q, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, lie)
	},
	"two questions": func(q *dns.Msg) []byte {
		return reply(q, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, lie)
	},
	"no such name, elsewhere": func(q *dns.Msg) []byte {
		return reply(q, func(m *dns.Msg) { m.Rcode, m.Question[0].Name = dns.RcodeNameError, "other.test." })
	},
	"no such name, no question": func(q *dns.Msg) []byte {
		return reply(q, func(m *dns.Msg) { m.Rcode, m.Question = dns.RcodeNameError, nil })
	},
	"65535 answers": func(q *dns.Msg) []byte {
		b := reply(q, nil, lie)
		binary.BigEndian.PutUint16(b[6:], 0xFFFF)
		return b[:len(b)-1]
	},
	"name that points to itself": func(q *dns.Msg) []byte {
		b := reply(q, nil)
		binary.BigEndian.PutUint16(b[6:], 1)
		return append(b, 0xC0, byte(len(b)), 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 6, 6, 6, 6)
	},
	"address of three octets": func(q *dns.Msg) []byte {
		b := reply(q, nil)
		binary.BigEndian.PutUint16(b[6:], 1)
		return append(b, 0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 3, 6, 6, 6)
	},
}

var right = []netip.Addr{netip.MustParseAddr("10.9.0.77")}

// TestLies: what is no answer is passed over, and the answer behind it taken.
func TestLies(t *testing.T) {
	t.Parallel()
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWires(t)
			dnsFault{udp: func(q *dns.Msg) [][]byte {
				return [][]byte{lie(q), reply(q, nil, rightRecord)}
			}}.serve(t, w, "10.9.0.2:53")
			got, err := w.a.LookupNetIP(t.Context(), "ip4", "host.test")
			if err != nil || !slices.Equal(got, right) {
				t.Errorf("lookup = %v, %v; want %v", got, err, right)
			}
		})
	}
}

// TestLiesAlone: a server that says nothing else yields an error, never an
// address or a verdict on the name, and no later than the context ends.
func TestLiesAlone(t *testing.T) {
	t.Parallel()
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWires(t)
			dnsFault{udp: func(q *dns.Msg) [][]byte { return [][]byte{lie(q)} }}.serve(t, w, "10.9.0.2:53")
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			got, err := w.a.LookupNetIP(ctx, "ip4", "host.test")
			if e, ok := errors.AsType[*net.DNSError](err); !ok || e.IsNotFound || len(got) != 0 {
				t.Errorf("lookup = %v, %v; want an error that is no verdict", got, err)
			}
		})
	}
}

// TestForeignAnswers: of an answer that matches, only what belongs to the name
// and the type counts; what comes from elsewhere counts for nothing.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*dns.Msg){
		"another name": func(m *dns.Msg) { m.Answer = append(m.Answer, record("other.test. A 6.6.6.6")) },
		"before it": func(m *dns.Msg) {
			m.Answer = append([]dns.RR{record("other.test. A 6.6.6.6")}, m.Answer...)
		},
		"another type":  func(m *dns.Msg) { m.Answer = append(m.Answer, record("host.test. AAAA fd00::6")) },
		"in additional": func(m *dns.Msg) { m.Extra = append(m.Extra, record(lie)) },
		"in authority":  func(m *dns.Msg) { m.Ns = append(m.Ns, record("host.test. NS evil.test.")) },
		"alias of another": func(m *dns.Msg) {
			m.Answer = append(m.Answer, record("other.test. CNAME evil.test."), record("evil.test. A 6.6.6.6"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWires(t)
			dnsFault{udp: func(q *dns.Msg) [][]byte { return [][]byte{reply(q, edit, rightRecord)} }}.serve(t, w, "10.9.0.2:53")
			got, err := w.a.LookupNetIP(t.Context(), "ip4", "host.test")
			if err != nil || !slices.Equal(got, right) {
				t.Errorf("lookup = %v, %v; want %v", got, err, right)
			}
		})
	}
	t.Run("another server", func(t *testing.T) {
		t.Parallel()
		w := newWires(t)
		setLink(t, w.b, Link{Addrs: hosts(addrB, netip.MustParseAddr("10.9.0.3"))})
		forger, err := w.b.ListenPacket("udp", "10.9.0.3:53")
		if err != nil {
			t.Fatal(err)
		}
		defer forger.Close()
		pc, err := w.b.ListenPacket("udp", "10.9.0.2:53")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() { // ends with pc
			defer close(served)
			buf := make([]byte, 2048)
			n, from, err := pc.ReadFrom(buf)
			if q := new(dns.Msg); err == nil && q.Unpack(buf[:n]) == nil {
				forger.WriteTo(reply(q, nil, lie), from)
				pc.WriteTo(reply(q, nil, rightRecord), from)
			}
		}()
		got, err := w.a.LookupNetIP(t.Context(), "ip4", "host.test")
		if err != nil || !slices.Equal(got, right) {
			t.Errorf("lookup = %v, %v; want %v", got, err, right)
		}
		pc.Close()
		<-served
	})
}

func record(s string) dns.RR {
	rr, err := dns.NewRR(s)
	if err != nil {
		panic(err)
	}
	return rr
}

// TestTruncatedThenTCP: a truncated answer is not used; what TCP gives is, if it
// gives anything.
func TestTruncatedThenTCP(t *testing.T) {
	t.Parallel()
	truncated := func(q *dns.Msg) [][]byte {
		return [][]byte{reply(q, func(m *dns.Msg) { m.Truncated = true }, lie)}
	}
	sized := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
	for name, tt := range map[string]struct {
		tcp func(net.Conn, *dns.Msg)
		ok  bool
	}{
		"answers": {func(c net.Conn, q *dns.Msg) { c.Write(sized(reply(q, nil, rightRecord))) }, true},
		"in two pieces": {func(c net.Conn, q *dns.Msg) {
			b := sized(reply(q, nil, rightRecord))
			c.Write(b[:1])
			c.Write(b[1:])
		}, true},
		"still truncated": {func(c net.Conn, q *dns.Msg) {
			c.Write(sized(reply(q, func(m *dns.Msg) { m.Truncated = true }, rightRecord)))
		}, true},
		"refuses":      {nil, false},
		"closes":       {func(net.Conn, *dns.Msg) {}, false},
		"silent":       {func(c net.Conn, _ *dns.Msg) { io.Copy(io.Discard, c) }, false},
		"length 0":     {func(c net.Conn, _ *dns.Msg) { c.Write([]byte{0, 0}) }, false},
		"length lies":  {func(c net.Conn, q *dns.Msg) { c.Write(append([]byte{0xFF, 0xFF}, reply(q, nil, lie)...)) }, false},
		"half":         {func(c net.Conn, q *dns.Msg) { c.Write(sized(reply(q, nil, lie))[:20]) }, false},
		"garbage":      {func(c net.Conn, _ *dns.Msg) { c.Write(sized(bytes.Repeat([]byte{0xAA}, 300))) }, false},
		"text":         {func(c net.Conn, _ *dns.Msg) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, false},
		"wrong id":     {func(c net.Conn, q *dns.Msg) { c.Write(sized(reply(q, func(m *dns.Msg) { m.Id++ }, lie))) }, false},
		"wrong answer": {func(c net.Conn, q *dns.Msg) { c.Write(sized(reply(q, nil, "other.test. A 6.6.6.6"))) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWires(t)
			dnsFault{udp: truncated, tcp: tt.tcp}.serve(t, w, "10.9.0.2:53")
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if !tt.ok {
				ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
			}
			defer cancel()
			got, err := w.a.LookupNetIP(ctx, "ip4", "host.test")
			if tt.ok && (err != nil || !slices.Equal(got, right)) {
				t.Errorf("lookup = %v, %v; want %v", got, err, right)
			}
			if _, is := errors.AsType[*net.DNSError](err); !tt.ok && (!is || len(got) != 0) {
				t.Errorf("lookup = %v, %v; want a *net.DNSError", got, err)
			}
		})
	}
}
