package ppp

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// epoch is when every test begins.
var epoch = time.Date(2026, 11, 22, 4, 43, 8, 0, time.UTC)

// counting is a source of "random" octets: 1, 2, 3 … without zero.
type counting struct{ n byte }

func (c *counting) Read(b []byte) (int, error) {
	for i := range b {
		c.n++
		if c.n == 0 {
			c.n = 1
		}
		b[i] = c.n
	}
	return len(b), nil
}

// server plays the peer of a Link in virtual time: it sends frames, and wants
// the Link's in order.
type server struct {
	t   *testing.T
	l   *Link
	now time.Time
	got [][]byte
}

// connect brings a Link up. The zero Config logs on as alice; magic number,
// then challenges, come from counting octets.
func connect(t *testing.T, cfg Config) *server {
	t.Helper()
	if cfg.User == "" {
		cfg.User, cfg.Password = "alice", "wonderland"
	}
	if cfg.Rand == nil {
		cfg.Rand = &counting{}
	}
	s := &server{t: t, l: NewLink(cfg), now: epoch}
	s.l.Up(s.now)
	s.collect()
	return s
}

func (s *server) collect() { s.got = append(s.got, s.l.Pending()...) }

// send delivers a frame to the Link.
func (s *server) send(frame []byte) {
	s.t.Helper()
	s.l.Receive(s.now, frame)
	s.collect()
}

// probe asks for a sign of life within d.
func (s *server) probe(d time.Duration) { s.l.Probe(s.now, d); s.collect() }

func (s *server) echo() { s.l.Echo(s.now); s.collect() }

// next takes the Link's next frame.
func (s *server) next() []byte {
	s.t.Helper()
	if len(s.got) == 0 {
		s.t.Fatalf("no frame, want one (phase %v, error %v)", s.l.Phase(), s.l.Err())
	}
	f := s.got[0]
	s.got = s.got[1:]
	return f
}

// want takes the Link's next frame and compares it.
func (s *server) want(frame []byte) {
	s.t.Helper()
	if len(s.got) == 0 {
		s.t.Fatalf("no frame, want %s", Describe(frame))
	}
	if got := s.next(); !bytes.Equal(got, frame) {
		s.t.Fatalf("got %s (%x), want %s (%x)", Describe(got), got, Describe(frame), frame)
	}
}

func (s *server) wantIdle() {
	s.t.Helper()
	for _, f := range s.got {
		s.t.Errorf("unexpected frame %s", Describe(f))
	}
	if len(s.got) > 0 {
		s.t.FailNow()
	}
}

// wait lets d pass, turning the Link at each of its timeouts.
func (s *server) wait(d time.Duration) {
	s.t.Helper()
	end := s.now.Add(d)
	for turns := 0; ; turns++ {
		next := s.l.NextTimeout()
		if next.IsZero() || next.After(end) {
			break
		}
		if turns > 10000 {
			s.t.Fatalf("NextTimeout does not move on from %v", next.Sub(epoch))
		}
		if next.After(s.now) {
			s.now = next
		}
		s.l.Advance(s.now)
		s.collect()
	}
	s.now = end
}

func (s *server) wantPhase(p Phase) {
	s.t.Helper()
	if got := s.l.Phase(); got != p {
		s.t.Fatalf("phase: got %v, want %v (error %v)", got, p, s.l.Err())
	}
}

func (s *server) wantAlive() {
	s.t.Helper()
	if err := s.l.Err(); err != nil || s.l.Done() {
		s.t.Fatalf("got done=%v, error %v, want a link alive", s.l.Done(), err)
	}
}

// bye ends the Link's goodbye from our side, and checks that it is over.
func (s *server) bye() {
	s.t.Helper()
	for s.l.Phase() == PhaseTerminate && len(s.got) > 0 {
		f := s.next()
		if p, pkt := parse(s.t, f); p == ProtoLCP && pkt.Code == TerminateRequest {
			s.send(ctl(ProtoLCP, TerminateAck, pkt.Identifier))
		}
	}
	if !s.l.Done() {
		s.t.Fatalf("not done, error %v", s.l.Err())
	}
	if s.l.Phase() != PhaseDead || !s.l.NextTimeout().IsZero() {
		s.t.Errorf("after the end: phase %v, timeout %v", s.l.Phase(), s.l.NextTimeout())
	}
	s.wait(time.Hour)
	s.send(lcp(ConfigureRequest, 99, "05061badcafe"))
	s.wantIdle()
}

func parse(t *testing.T, frame []byte) (Protocol, Packet) {
	t.Helper()
	p, info, err := ParseFrame(frame)
	if err != nil {
		t.Fatal(err)
	}
	pkt, err := ParsePacket(info)
	if err != nil {
		t.Fatal(err)
	}
	return p, pkt
}

// octets reads hex with spaces.
func octets(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// ctl is a control packet's frame; its data are given in hex.
func ctl(p Protocol, code Code, id uint8, data ...string) []byte {
	pkt := Packet{Code: code, Identifier: id, Data: octets(strings.Join(data, ""))}
	return AppendFrame(nil, p, pkt.Append(nil))
}

func lcp(code Code, id uint8, data ...string) []byte    { return ctl(ProtoLCP, code, id, data...) }
func ipcp(code Code, id uint8, data ...string) []byte   { return ctl(ProtoIPCP, code, id, data...) }
func ipv6cp(code Code, id uint8, data ...string) []byte { return ctl(ProtoIPV6CP, code, id, data...) }
func pap(code Code, id uint8, data ...string) []byte    { return ctl(ProtoPAP, code, id, data...) }
func chap(code Code, id uint8, data ...string) []byte   { return ctl(ProtoCHAP, code, id, data...) }

// text is a string as hex.
func text(s string) string { return hex.EncodeToString([]byte(s)) }

// Options as they stand in the transcripts.
const (
	ourMagic   = "050601020304" // the first four octets of counting
	authEAP    = "0304c227"
	authMSv2   = "0305c22381"
	authMSv1   = "0305c22380"
	authMD5    = "0305c22305"
	authPAP    = "0304c023"
	zeroIPCP   = "030600000000 810600000000 830600000000"
	gateway    = "03060a500001"
	leaseIPCP  = "03060a50000a 81060a4d0002 83060a500001"
	challenge1 = "10 05bd62fb1b9ad0e46a57e22a733adab8 766d"
)

// establish leads LCP to Opened as a plain server would, with the given
// authentication option; our magic number stays.
func (s *server) establish(auth string) {
	s.t.Helper()
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ConfigureAck, 1, ourMagic))
	s.send(lcp(ConfigureRequest, 1, auth))
	s.want(lcp(ConfigureAck, 1, auth))
}

// authenticate answers the Link's MS-CHAPv2 Response to a challenge with the
// Success it wants.
func (s *server) authenticate(id uint8) {
	s.t.Helper()
	s.send(chap(CHAPChallenge, id, challenge1))
	s.success(id)
}

// success takes a Response to challenge1 and proves that we know the password.
func (s *server) success(id uint8) {
	s.t.Helper()
	s.send(chap(CHAPSuccess, id, text(s.proof(id))))
}

// proof takes a Response to challenge1 and computes our authenticator response.
func (s *server) proof(id uint8) string {
	s.t.Helper()
	p, pkt := parse(s.t, s.next())
	if p != ProtoCHAP || pkt.Code != CHAPResponse || pkt.Identifier != id {
		s.t.Fatalf("got %v code %d id %d, want a CHAP Response with id %d", p, pkt.Code, pkt.Identifier, id)
	}
	return proofOf(s.t, pkt, challenge1, s.l.cfg.User, s.l.cfg.Password)
}

// network leads a Link to IPCP Opened, from the start.
func (s *server) network() {
	s.t.Helper()
	s.establish(authMSv2)
	s.authenticate(1)
	s.lease(2)
}

// lease plays the server's side of IPCP; the Link's first Request has that id.
func (s *server) lease(id uint8) {
	s.t.Helper()
	s.want(ipcp(ConfigureRequest, id, zeroIPCP))
	s.send(ipcp(ConfigureNak, id, leaseIPCP))
	s.want(ipcp(ConfigureRequest, id+1, leaseIPCP))
	s.send(ipcp(ConfigureAck, id+1, leaseIPCP))
	s.send(ipcp(ConfigureRequest, 1, gateway))
	s.want(ipcp(ConfigureAck, 1, gateway))
	if v, ok := s.l.IPv4(); !ok || v.Addr.String() != "10.80.0.10" {
		s.t.Fatalf("IPv4: got %v, %v", v, ok)
	}
}
