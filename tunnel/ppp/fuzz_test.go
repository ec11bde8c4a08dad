package ppp

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"
)

// seedFrames are the frames of the vectors and of negative-inputs.
func seedFrames(f *testing.F) [][]byte {
	f.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		f.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			ID  string
			Out struct {
				Frames []vectorFrame
				Cases  []struct{ Input string }
			}
		}
	}
	// Other vectors have other fields in Out; those do not matter here.
	if err := json.Unmarshal(raw, &file); err != nil {
		f.Fatal(err)
	}
	var frames [][]byte
	for _, v := range file.Vectors {
		for _, fr := range v.Out.Frames {
			frames = append(frames, octets(fr.PPPFrame))
		}
		for _, c := range v.Out.Cases {
			frames = append(frames, octets(c.Input))
		}
	}
	if len(frames) < 40 {
		f.Fatalf("%d seeds", len(frames))
	}
	return frames
}

func FuzzParseFrame(f *testing.F) {
	for _, frame := range seedFrames(f) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		_ = Describe(frame)
		p, info, err := ParseFrame(frame)
		if err != nil {
			return
		}
		full := AppendFrame(nil, p, info)
		if p&0x0100 == 0 { // an odd first octet would read as a compressed protocol field
			if q, again, err := ParseFrame(full); err != nil || q != p || !bytes.Equal(again, info) {
				t.Errorf("%x: again %v %x, error %v", frame, q, again, err)
			}
		}
		pkt, err := ParsePacket(info)
		if err != nil {
			return
		}
		if got := pkt.Append(nil); !bytes.Equal(got, info[:len(got)]) {
			t.Errorf("%x: packet again %x", info, got)
		}
	})
}

func FuzzParseOptions(f *testing.F) {
	for _, frame := range seedFrames(f) {
		if len(frame) > HeaderLen+packetHeaderLen {
			f.Add(frame[HeaderLen+packetHeaderLen:])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		opts, err := ParseOptions(data)
		if err != nil {
			return
		}
		if got := AppendOptions(nil, opts); !bytes.Equal(got, data) {
			t.Errorf("%x: again %x", data, got)
		}
		if again := cloneOptions(opts); !EqualOptions(opts, again) {
			t.Errorf("%x: clone differs", data)
		}
		rand := func(b []byte) { _, _ = (&counting{}).Read(b) }
		for _, n := range []negotiator{newLCPOptions([]Method{MSCHAPv2}, 1400, rand),
			newIPCPOptions(NewLink(Config{}).cfg.Addr), &ipv6cpOptions{rand: rand}} {
			checkVerdict(t, n, opts)
		}
	})
}

// checkVerdict holds a verdict against RFC 1661 §5.2 to §5.4: an Ack repeats
// everything, a Reject repeats some of it, and a Nak says something.
func checkVerdict(t *testing.T, n negotiator, opts []Option) {
	t.Helper()
	v, err := n.judge(opts, true)
	switch {
	case err != nil:
	case v.code == ConfigureAck:
		if !EqualOptions(v.opts, opts) {
			t.Errorf("ack of %v with %v", opts, v.opts)
		}
		n.acked(v.opts)
	case v.code == ConfigureReject:
		for _, o := range v.opts {
			if !containsOption(opts, o) {
				t.Errorf("reject of %v has %v", opts, o)
			}
		}
		fallthrough
	default:
		if len(v.opts) == 0 {
			t.Errorf("%v of %v is empty", v.code, opts)
		}
	}
	_ = n.nak(opts)
	n.reject(opts)
	if _, err := ParseOptions(AppendOptions(nil, n.request())); err != nil {
		t.Errorf("request: %v", err)
	}
}

func FuzzCHAP(f *testing.F) {
	for _, s := range []string{"E=691 R=0 V=3 M=Authentication failure", "E=691 R=1 C=6D947EA4DDC51141C8C63E0B3A3B94A4 V=3",
		"E=691", "garbage", "", "M=", "S=407A5589115FD0D6209F510FE9C04566932CDA56 M=Welcome", "E=-1 R=1 C= V= M= M=x"} {
		f.Add([]byte(s))
	}
	for _, frame := range seedFrames(f) {
		if len(frame) > HeaderLen+packetHeaderLen {
			f.Add(frame[HeaderLen+packetHeaderLen:])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c := ParseFailure(data); c.Code < 0 || c.Version < 0 || c.Challenge != nil && len(c.Challenge) != 16 {
			t.Errorf("%q: %+v", data, c)
		}
		if s, ok := parseAuthenticatorResponse(data); ok && len(s) != 42 {
			t.Errorf("%q: %q", data, s)
		}
		if value, name, err := ParseCHAPValue(data); err == nil {
			if got := AppendCHAPValue(nil, value, string(name)); !bytes.Equal(got, data) {
				t.Errorf("%x: again %x", data, got)
			}
			_, _, _ = ParseMSCHAPv2Response(value)
		}
		if id, password, err := ParsePAPRequest(data); err == nil {
			got, err := AppendPAPRequest(nil, string(id), string(password))
			if err != nil || !bytes.HasPrefix(data, got) {
				t.Errorf("%x: again %x, error %v", data, got, err)
			}
		}
		_ = ParsePAPMessage(data)
	})
}

// FuzzLink feeds a Link in some phase a script: an octet n below 200 stands for
// a frame of the next n octets, any other for a wait until the next timeout.
// Whatever comes: nothing panics, each frame causes a bounded number of
// answers, time moves on, nobody gets past authentication without the password,
// and a peer that falls silent is found out.
func FuzzLink(f *testing.F) {
	for phase := range phasesUnderTest {
		var script []byte
		for i, frame := range seedFrames(f) {
			script = append(append(script, byte(len(frame))), frame...)
			if i%4 == 3 {
				script = append(script, 255)
			}
			f.Add(phase, append(append([]byte{byte(len(frame))}, frame...), 255))
		}
		f.Add(phase, script)
	}
	f.Fuzz(func(t *testing.T, phase int, script []byte) {
		name := phasesUnderTest[int(uint(phase)%uint(len(phasesUnderTest)))]
		s := inPhase(t, name)
		_, before := s.l.Authenticated()
		for len(script) > 0 {
			n := int(script[0])
			script = script[1:]
			if n >= 200 {
				s.turn(name)
				continue
			}
			n = min(n, len(script))
			over := s.l.Done()
			s.l.Receive(s.now, script[:n])
			script = script[n:]
			s.checkPending(over)
		}
		if _, after := s.l.Authenticated(); after && !before {
			t.Error("authenticated without the password")
		}
		for end := s.now.Add(10 * time.Minute); !s.l.Done(); {
			if s.now.After(end) {
				t.Fatalf("alive after ten minutes of silence, phase %v, error %v", s.l.Phase(), s.l.Err())
			}
			s.turn(name)
		}
		if s.l.Err() == nil {
			t.Error("over without an error")
		}
	})
}

// turn lets time pass up to the next timeout, which must lie ahead, and after
// which another one must.
func (s *server) turn(name string) {
	s.t.Helper()
	next := s.l.NextTimeout()
	if next.IsZero() {
		if !s.l.Done() {
			s.t.Fatalf("%s: alive without a timeout", name)
		}
		return
	}
	if next.Before(s.now) {
		s.t.Fatalf("%s: timeout %v ago", name, s.now.Sub(next))
	}
	s.now = next
	s.l.Advance(s.now)
	if again := s.l.NextTimeout(); !again.IsZero() && !again.After(s.now) {
		s.t.Fatalf("%s: no progress at %v", name, s.now.Sub(epoch))
	}
	s.checkPending(false)
}

// checkPending bounds what one call may send, and reads each frame.
func (s *server) checkPending(over bool) {
	s.t.Helper()
	frames := s.l.Pending()
	if len(frames) > 8 || over && len(frames) > 0 {
		s.t.Fatalf("%d frames at once, over %v", len(frames), over)
	}
	for _, f := range frames {
		if p, pkt := parse(s.t, f); p == ProtoLCP && len(pkt.Data)+packetHeaderLen > max(68, s.l.MTU()) {
			s.t.Errorf("%s: longer than the peer's MRU", Describe(f))
		}
	}
	if s.l.MTU() < minMRU || s.l.Opened() && s.l.Phase() != PhaseNetwork {
		s.t.Errorf("MTU %d, opened %v in phase %v", s.l.MTU(), s.l.Opened(), s.l.Phase())
	}
}
