package ppp

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// rfcTable is the table of RFC 1661 §4.1, written down a second time in the
// RFC's notation: actions/next state, "-" for what cannot happen.
const rfcTable = `
Up    2      1:irc,scr/6   -           -             -      -      -         -           -         -
Down  -      -             0           tls/1         0      1      1         1           1         tld/1
Open  tls/1  1             irc,scr/6   3             5      5      6         7           8         9
Close 0      tlf/0         2           2             4      4      irc,str/4 irc,str/4   irc,str/4 tld,irc,str/4
TO+   -      -             -           -             str/4  str/5  scr/6     scr/6       scr/8     -
TO-   -      -             -           -             tlf/2  tlf/3  tlf/3     tlf/3       tlf/3     -
RCR+  -      -             sta/2       irc,scr,sca/8 4      5      sca/8     sca,tlu/9   sca/8     tld,scr,sca/8
RCR-  -      -             sta/2       irc,scr,scn/6 4      5      scn/6     scn/7       scn/6     tld,scr,scn/6
RCA   -      -             sta/2       sta/3         4      5      irc/7     scr/6       irc,tlu/9 tld,scr/6
RCN   -      -             sta/2       sta/3         4      5      irc,scr/6 scr/6       irc,scr/8 tld,scr/6
RTR   -      -             sta/2       sta/3         sta/4  sta/5  sta/6     sta/6       sta/6     tld,zrc,sta/5
RTA   -      -             2           3             tlf/2  tlf/3  6         6           8         tld,scr/6
RUC   -      -             scj/2       scj/3         scj/4  scj/5  scj/6     scj/7       scj/8     scj/9
RXJ+  -      -             2           3             4      5      6         6           8         9
RXJ-  -      -             tlf/2       tlf/3         tlf/2  tlf/3  tlf/3     tlf/3       tlf/3     tld,irc,str/5
RXR   -      -             2           3             4      5      6         7           8         ser/9
`

var actionNames = []string{"tld", "tls", "irc", "zrc", "scr", "sca", "scn", "str", "sta", "scj", "ser", "tlu", "tlf"}

// notation writes a cell as the RFC does.
func notation(do actions, next state) string {
	var names []string
	for i, name := range actionNames {
		if do&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return fmt.Sprint(uint8(next))
	}
	return fmt.Sprintf("%s/%d", strings.Join(names, ","), next)
}

// rfcCells splits rfcTable into rows of ten cells.
func rfcCells(t *testing.T) (names []string, rows [][]string) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(rfcTable)) {
		f := strings.Fields(strings.ReplaceAll(line, "1:", ""))
		if len(f) != 11 {
			t.Fatalf("row %q has %d columns", line, len(f))
		}
		names, rows = append(names, f[0]), append(rows, f[1:])
	}
	if len(rows) != int(numEvents) {
		t.Fatalf("%d rows, want %d", len(rows), numEvents)
	}
	return names, rows
}

func TestAutomatonTable(t *testing.T) {
	names, rows := rfcCells(t)
	for e := range numEvents {
		for s := initial; s < never; s++ {
			got := "-"
			if do, next, ok := s.on(e); ok {
				got = notation(do, next)
			}
			if want := rows[e][s]; got != want {
				t.Errorf("%s in %v: got %s, want %s", names[e], s, got, want)
			}
		}
	}
}

// TestAutomatonCells drives every cell through a Link's IPCP and holds what it
// sends and where it goes against the RFC's notation.
func TestAutomatonCells(t *testing.T) {
	names, rows := rfcCells(t)
	for e := range numEvents {
		for s := initial; s < never; s++ {
			t.Run(fmt.Sprintf("%s in %v", names[e], s), func(t *testing.T) { runCell(t, e, s, rows[e][s]) })
		}
	}
}

// sends tells which code an action puts on the wire.
var sends = map[string]Code{"scr": ConfigureRequest, "sca": ConfigureAck, "scn": ConfigureNak,
	"str": TerminateRequest, "sta": TerminateAck, "scj": CodeReject, "ser": EchoReply}

func runCell(t *testing.T, e event, s state, cell string) {
	l := NewLink(Config{Rand: &counting{}, Addr: netip.MustParseAddr("10.80.0.10")})
	l.Up(epoch)
	l.lcp.state, l.phase = opened, PhaseAuthenticate // so that the end of IPCP is not the link's
	l.queue = nil
	c := &l.ipcp
	c.state, c.count, c.timer = s, 7, epoch.Add(time.Second)
	in := input{pkt: Packet{Code: 42, Identifier: 77, Data: make([]byte, 8)}, verdict: verdict{code: ConfigureAck}}
	if e == evRCRMinus {
		in.verdict.code = ConfigureNak
	}
	l.step(epoch, c, e, in)

	want := s // "-" changes nothing
	var wantCodes []Code
	notes, next, slash := strings.Cut(cell, "/")
	if !slash {
		notes, next = "", cell
	}
	if cell != "-" {
		want = state(next[0] - '0')
	}
	for name := range strings.SplitSeq(notes, ",") {
		if code, ok := sends[name]; ok {
			wantCodes = append(wantCodes, code)
		}
	}
	var codes []Code
	for _, f := range l.Pending() {
		_, pkt := parse(t, f)
		codes = append(codes, pkt.Code)
	}
	if c.state != want || !bytes.Equal(codesOf(codes), codesOf(wantCodes)) {
		t.Errorf("cell %s: got state %d, codes %v", cell, c.state, codes)
	}
	if cell != "-" {
		checkTimer(t, c, notes)
	}
}

func codesOf(codes []Code) []byte {
	var b []byte
	for _, c := range codes {
		b = append(b, byte(c))
	}
	return b
}

// checkTimer: the Restart timer runs in states 4 to 8 only, is set anew by scr,
// str and zrc, and the counter is what irc and zrc make it, less what was sent.
func checkTimer(t *testing.T, c *control, notes string) {
	t.Helper()
	count := 7
	if strings.Contains(notes, "irc") {
		count = 10
	}
	if strings.Contains(notes, "irc,str") {
		count = 2
	}
	if strings.Contains(notes, "zrc") {
		count = 0
	}
	if strings.Contains(notes, "scr") || strings.Contains(notes, "str") {
		count--
	}
	if c.count != count {
		t.Errorf("restart counter: got %d, want %d", c.count, count)
	}
	if timed := c.state >= closing && c.state <= ackSent; timed != !c.timer.IsZero() {
		t.Errorf("state %v: timer %v", c.state, c.timer)
	}
	sent := strings.Contains(notes, "scr") || strings.Contains(notes, "str") || strings.Contains(notes, "zrc")
	if sent && c.timer.Equal(epoch.Add(time.Second)) {
		t.Error("timer not set anew")
	}
}

// Identifiers: what answers takes the peer's, what asks takes the next of ours.
func TestActionIdentifiers(t *testing.T) {
	s := connect(t, Config{})
	s.establish(authMSv2)
	s.authenticate(9)
	s.want(ipcp(ConfigureRequest, 2, zeroIPCP))
	s.send(ipcp(0x2A, 200, "0102"))
	s.want(ipcp(CodeReject, 3, "2ac800060102"))
	s.send(lcp(0x2A, 201))
	s.want(lcp(CodeReject, 4, "2ac90004"))
	s.send(ctl(ProtoCCP, ConfigureRequest, 202))
	s.want(lcp(ProtocolReject, 5, "80fd01ca0004"))
	s.send(lcp(EchoRequest, 203, "00000000 aa"))
	s.want(lcp(EchoReply, 203, "01020304 aa"))
	s.send(lcp(TerminateRequest, 204))
	s.want(lcp(TerminateAck, 204))
	s.wantIdle()
}
