package sstp_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"sstproxy/tunnel/sstp"
)

func addPackets(f *testing.F, add func(packet []byte)) {
	f.Helper()
	for _, p := range controlPackets(f) {
		add(p.Packet)
	}
	var negative struct {
		Cases []struct{ Input octets }
	}
	decode(f, "negative-inputs", &struct{}{}, &negative)
	for _, c := range negative.Cases {
		add(c.Input)
	}
	for _, v := range bindingVectors(f) {
		add(v.out.CallConnected)
	}
}

func FuzzParsePacket(f *testing.F) {
	addPackets(f, func(packet []byte) { f.Add(packet) })
	f.Fuzz(func(t *testing.T, b []byte) {
		p, n, err := sstp.ParsePacket(b)
		if err != nil {
			if !errors.Is(err, sstp.ErrFraming) || n != 0 {
				t.Fatalf("%d, %v", n, err)
			}
			return
		}
		if n == 0 {
			return
		}
		if n < sstp.HeaderLen || n > min(len(b), sstp.MaxPacketLen) || len(p.Payload) != n-sstp.HeaderLen {
			t.Fatalf("%d of %d octets, payload %d", n, len(b), len(p.Payload))
		}
		built := make([]byte, sstp.HeaderLen)
		sstp.PutHeader(built, p.Control, n)
		again, m, err := sstp.ParsePacket(append(built, p.Payload...))
		if err != nil || m != n || again.Control != p.Control || !bytes.Equal(again.Payload, p.Payload) {
			t.Fatalf("again: %+v, %d, %v", again, m, err)
		}
	})
}

func FuzzParseMessage(f *testing.F) {
	addPackets(f, func(packet []byte) { f.Add(packet[min(len(packet), sstp.HeaderLen):]) })
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := sstp.ParseMessage(b)
		_ = m.String()
		_, _ = m.StatusInfo()
		if err != nil {
			if !errors.Is(err, sstp.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again := parse(t, m.Append(nil))
		if again.Type != m.Type || len(again.Attributes) != len(m.Attributes) {
			t.Fatalf("%v became %v", m, again)
		}
		for i, a := range m.Attributes {
			if b := again.Attributes[i]; b.ID != a.ID || !bytes.Equal(b.Value, a.Value) {
				t.Fatalf("%v became %v", a, b)
			}
			checkTyped(t, a)
		}
	})
}

// checkTyped checks that the typed views lose nothing but reserved octets.
func checkTyped(t *testing.T, a sstp.Attribute) {
	t.Helper()
	if r, err := sstp.ParseCryptoBindingRequest(a.Value); err == nil && !bytes.Equal(r.Attribute().Value[3:], a.Value[3:]) {
		t.Fatalf("crypto binding request %x", a.Value)
	}
	if b, err := sstp.ParseCryptoBinding(a.Value); err == nil && !bytes.Equal(b.Attribute().Value[3:], a.Value[3:]) {
		t.Fatalf("crypto binding %x", a.Value)
	}
	if s, err := sstp.ParseStatusInfo(a.Value); err == nil && !bytes.HasPrefix(a.Value[3:], s.Attribute().Value[3:]) {
		t.Fatalf("status info %x", a.Value)
	}
}

func FuzzParseReply(f *testing.F) {
	for _, r := range replies {
		f.Add([]byte(r.head))
		f.Add([]byte(r.head + "\x10\x01\x00\x08"))
	}
	f.Add([]byte("HTTP/1.1 301 Moved\r\nLocation: https://x/\r\n\r\n"))
	f.Add(bytes.Repeat([]byte("HTTP/1.1 100\n\n"), 1200))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := sstp.ParseReply(b)
		more := append(bytes.Clone(b), '\n')
		r2, n2, err2 := sstp.ParseReply(more)
		switch {
		case err != nil: // what is wrong stays wrong
			if n != 0 || err2 == nil || !errors.Is(err, sstp.ErrNotHTTP) && !errors.Is(err, sstp.ErrReplyTooLarge) {
				t.Fatalf("%d, %v, then %v", n, err, err2)
			}
		case n > 0: // what is there does not depend on what follows
			if n > min(len(b), sstp.MaxHeaderLen) || err2 != nil || n2 != n || !reflect.DeepEqual(r, r2) || r.StatusCode < 200 {
				t.Fatalf("%d, %+v, then %d, %+v, %v", n, r, n2, r2, err2)
			}
			if _, early, err := sstp.ParseReply(b[:n-1]); early != 0 || err != nil {
				t.Fatalf("one octet less: %d, %v", early, err)
			}
			_, _ = r.Family(), sstp.ReplyHint(r.Err())
		}
		_, _, _ = sstp.ParseRequest(b)
	})
}

// FuzzCall takes its input for a script: an octet says what happens, for a
// message the next octet says how many octets it has.
func FuzzCall(f *testing.F) {
	msg := func(m sstp.Message) []byte {
		b := payload(m)
		return append([]byte{0, byte(len(b))}, b...)
	}
	f.Add(bytes.Join([][]byte{msg(ack(3)), {2}, msg(with(sstp.EchoRequest)), {6, 5, 5}}, nil))
	f.Add(bytes.Join([][]byte{msg(ack(1)), {2, 1, 5, 5}}, nil))
	f.Add(bytes.Join([][]byte{msg(ack(2)), {2}, msg(with(sstp.CallAbort)), {5}}, nil))
	f.Add(bytes.Join([][]byte{msg(ack(2)), {3}, msg(with(sstp.CallDisconnectAck))}, nil))
	f.Add(bytes.Repeat(msg(with(sstp.CallConnectNak)), 5))
	f.Add(append(msg(ack(2)), bytes.Repeat(msg(with(sstp.EchoRequest)), 40)...))
	for _, p := range controlPackets(f) {
		f.Add(append([]byte{0, byte(len(p.Packet) - 4)}, p.Packet[4:]...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &run{t: t, c: sstp.NewCall(sstp.CallConfig{}), now: epoch}
		r.c.Start(r.now)
		for len(b) > 0 {
			b = r.step(b)
			r.check()
		}
		r.finish()
	})
}

// run is one script of FuzzCall.
type run struct {
	t       *testing.T
	c       *sstp.Call
	now     time.Time
	cause   error
	proved  bool // Call Connected was sent
	aborted int
}

func (r *run) step(b []byte) (rest []byte) {
	op, b := b[0], b[1:]
	r.now = r.now.Add(time.Duration(op) * time.Millisecond)
	switch op % 7 {
	case 0:
		n := 0
		if len(b) > 0 {
			n, b = min(int(b[0]), len(b)-1), b[1:]
		}
		r.c.Receive(r.now, b[:n])
		return b[n:]
	case 1:
		r.c.Heard(r.now)
	case 2:
		r.c.Authenticated(r.now, [32]byte{op})
	case 3:
		r.c.Disconnect(r.now)
	case 4:
		if op == 4 {
			r.c.LowerDown(r.now, io.EOF)
		}
	case 5:
		if next := r.c.NextTimeout(); next.After(r.now) {
			r.now = next
		}
		r.c.Advance(r.now)
	case 6:
		r.drain()
	}
	return b
}

func (r *run) drain() {
	r.t.Helper()
	packets := r.c.Pending()
	if len(packets) > 24 {
		r.t.Fatalf("%d packets pending", len(packets))
	}
	for _, packet := range packets {
		switch m := parse(r.t, packet); m.Type {
		case sstp.CallConnected:
			r.proved = true
		case sstp.EchoRequest:
			if !r.proved {
				r.t.Fatal("Echo Request before Call Connected")
			}
		case sstp.CallAbort:
			if r.aborted++; r.aborted > 1 {
				r.t.Fatal("two Call Aborts")
			}
		}
	}
}

func (r *run) check() {
	r.t.Helper()
	c := r.c
	if r.cause != nil && c.Err() != r.cause {
		r.t.Fatalf("cause changed from %v to %v", r.cause, c.Err())
	}
	r.cause = c.Err()
	alive := c.State() >= sstp.ClientConnectRequestSent && c.State() <= sstp.ClientCallConnected
	if alive != (c.Err() == nil) || c.Done() != (c.State() == sstp.ClientCallDisconnected) {
		r.t.Fatalf("%v, cause %v, done %v", c.State(), c.Err(), c.Done())
	}
	if c.NextTimeout().IsZero() != c.Done() {
		r.t.Fatalf("%v with timer %v", c.State(), c.NextTimeout())
	}
}

// finish lets the timers run until the call is over, which must not take long.
func (r *run) finish() {
	r.t.Helper()
	for range 6 {
		r.drain()
		if r.c.Done() {
			if r.c.Err().Error() == "" {
				r.t.Fatal("cause without a text")
			}
			return
		}
		r.c.Advance(r.c.NextTimeout())
	}
	r.t.Fatalf("still in %v", r.c.State())
}
