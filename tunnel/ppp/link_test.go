package ppp

import (
	"bytes"
	"errors"
	"go/build"
	"slices"
	"strings"
	"testing"
	"time"
)

// errorAs reports whether err is a *T, and returns it.
func errorAs[T error](t *testing.T, err error) T {
	t.Helper()
	got, ok := errors.AsType[T](err)
	if !ok {
		t.Fatalf("got error %v, want a %T", err, got)
	}
	return got
}

func TestBeforeUp(t *testing.T) {
	l := NewLink(Config{})
	l.Receive(epoch, lcp(ConfigureRequest, 1, authMSv2))
	l.Advance(epoch.Add(time.Hour))
	if l.Pending() != nil || !l.NextTimeout().IsZero() || l.Done() || l.Err() != nil || l.Phase() != PhaseDead {
		t.Errorf("a link that is not up did something: phase %v, error %v", l.Phase(), l.Err())
	}
	l.Close(epoch)
	l.Up(epoch)
	if !l.Done() || !errors.Is(l.Err(), ErrClosed) || l.Pending() != nil {
		t.Errorf("closed before Up: done %v, error %v", l.Done(), l.Err())
	}
	if l.MTU() != 1500 || l.Method() != 0 {
		t.Errorf("MTU %d, method %v", l.MTU(), l.Method())
	}
}

func TestClose(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	s.l.Close(s.now)
	s.collect()
	s.want(lcp(TerminateRequest, 4))
	s.wantPhase(PhaseTerminate)
	if s.l.Opened() || s.l.Done() || !errors.Is(s.l.Err(), ErrClosed) {
		t.Errorf("opened %v, done %v, error %v", s.l.Opened(), s.l.Done(), s.l.Err())
	}
	s.send(ipcp(ConfigureRequest, 9, gateway)) // out of phase
	s.send(lcp(EchoRequest, 9, "00000000"))
	s.wantIdle()
	s.send(lcp(TerminateAck, 4))
	s.bye()
}

// Max-Terminate: two Terminate-Requests, 3 s apart, and an end 6 s later.
func TestMaxTerminate(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	s.l.Close(s.now)
	s.collect()
	s.wait(2999 * time.Millisecond)
	s.want(lcp(TerminateRequest, 4))
	s.wantIdle()
	s.wait(time.Millisecond)
	s.want(lcp(TerminateRequest, 5))
	s.wait(2999 * time.Millisecond)
	s.wantPhase(PhaseTerminate)
	s.wait(time.Millisecond)
	s.bye()
	if !errors.Is(s.l.Err(), ErrClosed) {
		t.Errorf("got %v", s.l.Err())
	}
}

func TestDown(t *testing.T) {
	for name, s := range inEveryPhase(t) {
		s.l.Down(s.now)
		s.collect()
		s.wantIdle()
		s.bye()
		if want := map[string]error{"Terminate": ErrClosed}[name]; want == nil && !errors.Is(s.l.Err(), ErrDown) ||
			want != nil && !errors.Is(s.l.Err(), want) {
			t.Errorf("%s: got %v", name, s.l.Err())
		}
		if s.l.Opened() {
			t.Errorf("%s: still opened", name)
		}
	}
}

// Max-Configure: ten Requests, the second early, then nothing but the error.
func TestMaxConfigure(t *testing.T) {
	s := connect(t, Config{})
	var at []time.Duration
	for range 10 {
		at = append(at, s.now.Sub(epoch))
		s.want(lcp(ConfigureRequest, 1, ourMagic))
		s.wantIdle()
		next := s.l.NextTimeout()
		s.wait(next.Sub(s.now))
	}
	if at[1] != 250*time.Millisecond || at[9] != 250*time.Millisecond+8*3*time.Second {
		t.Errorf("sent at %v", at)
	}
	if e := errorAs[*ConfigError](t, s.l.Err()); e.Protocol != ProtoLCP {
		t.Errorf("got %v", e)
	}
	s.bye()
}

func TestTerminatedByPeer(t *testing.T) {
	for name, s := range inEveryPhase(t) {
		if name == "Dead" || name == "Terminate" {
			continue
		}
		s.send(lcp(TerminateRequest, 77, text("bye")))
		s.want(lcp(TerminateAck, 77))
		if e := errorAs[*TerminatedError](t, s.l.Err()); e.Text != "bye" {
			t.Errorf("%s: got %v", name, e)
		}
		s.wantPhase(PhaseTerminate)
		s.wait(6 * time.Second)
		s.got = nil
		s.bye()
	}
}

// The peer refuses what we cannot do without.
func TestRejected(t *testing.T) {
	for name, c := range map[string]struct {
		frame []byte
		want  RejectedError
	}{
		"LCP":               {lcp(ProtocolReject, 1, "c021"), RejectedError{ProtoLCP, 0}},
		"CHAP":              {lcp(ProtocolReject, 1, "c223 02"), RejectedError{ProtoCHAP, 0}},
		"Configure-Request": {lcp(CodeReject, 1, "01010004"), RejectedError{ProtoLCP, ConfigureRequest}},
	} {
		s := connect(t, Config{})
		s.establish(authMSv2)
		s.send(c.frame)
		if e := errorAs[*RejectedError](t, s.l.Err()); *e != c.want || e.Error() == "" {
			t.Errorf("%s: got %v", name, e)
		}
		s.want(lcp(TerminateRequest, 2))
		s.wantPhase(PhaseTerminate)
	}
	s := connect(t, Config{})
	s.want(lcp(ConfigureRequest, 1, ourMagic))
	s.send(lcp(ProtocolReject, 1, "c021")) // not in Opened
	s.wantAlive()
	s.send(lcp(CodeReject, 1, "01010004"))
	errorAs[*RejectedError](t, s.l.Err())
	s.bye()
}

// What may be rejected without harm.
func TestTolerableRejects(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	for _, f := range [][]byte{
		lcp(ProtocolReject, 1), lcp(ProtocolReject, 1, "80"), lcp(ProtocolReject, 1, "8057"),
		lcp(ProtocolReject, 1, "0021 45"), lcp(ProtocolReject, 1, "c223"), lcp(ProtocolReject, 1, "80fd"),
		lcp(CodeReject, 1), lcp(CodeReject, 1, "09010008"), ipcp(CodeReject, 1, "0c"),
		lcp(DiscardRequest, 1, "00000000"), lcp(EchoReply, 1, "00000000"), lcp(EchoRequest, 1, "000000"),
		lcp(Identification, 1), lcp(TimeRemaining, 1, "00000000"), ipcp(TerminateAck, 1)[:7],
		AppendFrame(nil, ProtoIPv4, []byte{0x45}), AppendFrame(nil, ProtoIPv6, []byte{0x60}), nil, {0x80},
	} {
		s.send(f)
	}
	s.wantIdle()
	s.wantAlive()
	if !s.l.Opened() {
		t.Error("not opened any more")
	}
}

func TestTimeRemaining(t *testing.T) {
	s := connect(t, Config{})
	s.network()
	if !s.l.Ends().IsZero() {
		t.Error("told before it was")
	}
	s.send(lcp(TimeRemaining, 1, "00000000 ffffffff"))
	if !s.l.Ends().IsZero() {
		t.Error("no limit taken for one")
	}
	s.send(lcp(TimeRemaining, 1, "00000000 0000003c", text("soon")))
	if got, want := s.l.Ends(), s.now.Add(time.Minute); !got.Equal(want) {
		t.Errorf("ends at %v, want %v", got, want)
	}
	s.send(lcp(Identification, 1, "00000000", strings.Repeat("41", 1000)))
	if n := len(s.l.Identification()); n != maxText {
		t.Errorf("%d octets kept", n)
	}
}

// The default source is the system's: two links differ.
func TestDefaults(t *testing.T) {
	a, b := NewLink(Config{Methods: []Method{0, 77}}), NewLink(Config{})
	a.Up(epoch)
	b.Up(epoch)
	a.Up(epoch) // does nothing
	fa, fb := a.Pending(), b.Pending()
	if len(fa) != 1 || len(fb) != 1 || bytes.Equal(fa[0], fb[0]) {
		t.Errorf("got %x and %x", fa, fb)
	}
	if !slices.Equal(a.cfg.Methods, []Method{MSCHAPv2}) {
		t.Errorf("methods: %v", a.cfg.Methods)
	}
}

func TestErrorTexts(t *testing.T) {
	for _, err := range []error{
		&AuthError{Method: MSCHAPv2, Failure: Failure{Code: 691, Message: "m"}}, &AuthError{Method: PAP},
		&NoCommonAuthError{Offered: []string{"EAP"}, Acceptable: []Method{MSCHAPv2, PAP}},
		&ConfigError{ProtoIPCP}, &TerminatedError{Phase: PhaseNetwork}, &TerminatedError{Text: "t"},
		&RejectedError{ProtoCHAP, 0}, &RejectedError{ProtoLCP, ConfigureAck},
		ErrClosed, ErrDown, ErrServerNotProved, ErrNoAuthentication, ErrNoAddress, ErrEchoTimeout, ErrLoop,
	} {
		if !strings.HasPrefix(err.Error(), "ppp: ") {
			t.Errorf("%q", err)
		}
	}
}

// The package is pure: no I/O, no timers, and of our own code mschap alone.
func TestImports(t *testing.T) {
	p, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"bytes", "crypto/md5", "crypto/rand", "crypto/subtle", "encoding/binary",
		"encoding/hex", "errors", "fmt", "io", "net/netip", "slices", "sstproxy/tunnel/ppp/mschap",
		"strconv", "strings", "time", "unicode", "unicode/utf8"}
	if !slices.Equal(p.Imports, want) {
		t.Errorf("imports: got %v, want %v", p.Imports, want)
	}
}
