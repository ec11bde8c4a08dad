package ppp

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"
)

// Phase is a phase of the link (RFC 1661 §3.2).
type Phase uint8

// The phases, in the RFC's order.
const (
	PhaseDead         Phase = iota // not up yet, or over
	PhaseEstablish                 // LCP negotiates (§3.4)
	PhaseAuthenticate              // the peer checks who we are (§3.5)
	PhaseNetwork                   // NCPs negotiate, then packets may flow (§3.6)
	PhaseTerminate                 // LCP says goodbye (§3.7)
)

var phaseNames = [...]string{"Dead", "Establish", "Authenticate", "Network", "Terminate"}

// String is the RFC's name of the phase.
func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return fmt.Sprintf("phase %d", uint8(p))
}

// Config is what a Link needs to know. The zero value of every field but User
// and Password is useful.
type Config struct {
	// User goes to the peer as it stands, in UTF-8. "DOMAIN\user" loses its
	// domain in the MS-CHAPv2 hash only.
	User     string
	Password string
	// Once says that Password is good for one login: a peer that wants it
	// proved, or sent, a second time ends the link with ErrOnce.
	Once bool
	// Methods are the acceptable ways to authenticate, strongest first; nil
	// means MSCHAPv2 alone. Having PAP in it also permits a peer that asks
	// for no authentication at all, since it permits to trust the peer as
	// far as TLS proves who it is.
	Methods []Method
	// MRU is the largest packet to ask the peer for, in octets, 68 to 65535.
	// 0 and 1500 are the default, which is not sent.
	MRU int
	// Addr is the IPv4 address to ask for; the zero Addr asks for any. It is
	// used as it is if the peer rejects the address option.
	Addr netip.Addr
	// IPv6 asks for IPV6CP, once IPCP is open or refused.
	IPv6 bool
	// InterfaceID is the interface identifier to ask for in IPV6CP; zero asks
	// for a random one.
	InterfaceID [8]byte
	// FirstRestart is how long the first Configure-Request of a protocol
	// waits before it is repeated; 0 means 250 ms. From then on it is 3 s
	// (RFC 1661 §4.6). accel-ppp drops an IPCP Request that comes within
	// some milliseconds of its CHAP Success.
	FirstRestart time.Duration
	// EchoInterval: an LCP Echo-Request goes out when nothing was sent, or
	// nothing heard, for so long. 0 means 5 s, negative means never.
	EchoInterval time.Duration
	// EchoTimeout ends the link with ErrEchoTimeout when nothing was heard
	// for so long. 0 means 45 s. It needs EchoInterval.
	EchoTimeout time.Duration
	// Rand is the source of magic numbers, challenges and interface
	// identifiers; nil means crypto/rand.Reader.
	Rand io.Reader
}

const (
	defaultFirstRestart = 250 * time.Millisecond
	defaultEchoInterval = 5 * time.Second
	defaultEchoTimeout  = 45 * time.Second
)

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	c.Methods = slices.DeleteFunc(slices.Clone(c.Methods), func(m Method) bool { return m.protocol() == 0 })
	if len(c.Methods) == 0 {
		c.Methods = []Method{MSCHAPv2}
	}
	if c.FirstRestart <= 0 {
		c.FirstRestart = defaultFirstRestart
	}
	if c.EchoInterval == 0 {
		c.EchoInterval = defaultEchoInterval
	}
	if c.EchoTimeout <= 0 {
		c.EchoTimeout = defaultEchoTimeout
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return c
}

// IPv4 is what IPCP agreed on.
type IPv4 struct {
	Addr netip.Addr   // ours
	Peer netip.Addr   // the peer's, informational; the zero Addr if not told
	DNS  []netip.Addr // none, one or two servers
}

// IPv6 is what IPV6CP agreed on: the lower halves of both link-local
// addresses. PeerInterfaceID is zero if the peer told none.
type IPv6 struct {
	InterfaceID, PeerInterfaceID [8]byte
}

// Link is the client's end of a PPP link over a lower layer that neither loses
// nor reorders frames. It does no I/O, starts no goroutine and reads no clock;
// its methods must not be called concurrently. Outcomes show as state: after
// any call, send what Pending returns, look at Err and Done, and call Advance
// when NextTimeout comes.
//
// Once Err is not nil the link is of no more use. It may still be about to say
// goodbye; that is over when Done reports true.
type Link struct {
	cfg   Config
	phase Phase
	up    bool // Up was called
	err   error
	id    uint8 // the last identifier used, over all protocols
	queue [][]byte

	lcp, ipcp, ipv6cp control
	lcpOpts           *lcpOptions
	ipcpOpts          *ipcpOptions
	ipv6cpOpts        *ipv6cpOptions
	heldIPv6          []byte // an IPV6CP Request that came before we start
	hadAddress        bool   // IPCP was open once

	auth auth
	live liveness
	info information
}

// NewLink returns a link in PhaseDead. It does nothing until Up.
func NewLink(cfg Config) *Link {
	l := &Link{cfg: cfg.withDefaults()}
	l.lcpOpts = newLCPOptions(l.cfg.Methods, l.cfg.MRU, l.random)
	l.ipcpOpts = newIPCPOptions(l.cfg.Addr)
	l.ipv6cpOpts = &ipv6cpOptions{rand: l.random, ours: cfg.InterfaceID}
	l.lcp = control{proto: ProtoLCP, opts: l.lcpOpts}
	l.ipcp = control{proto: ProtoIPCP, opts: l.ipcpOpts}
	l.ipv6cp = control{proto: ProtoIPV6CP, opts: l.ipv6cpOpts}
	return l
}

// random fills b. A source that fails leaves zeros and ends the link.
func (l *Link) random(b []byte) {
	if _, err := io.ReadFull(l.cfg.Rand, b); err != nil {
		clear(b)
		l.setErr(fmt.Errorf("ppp: random source: %w", err))
	}
}

// Up tells the link that frames can be sent. It queues the first LCP
// Configure-Request at once: some servers say nothing before it. A second
// call, or one after Close, does nothing.
func (l *Link) Up(now time.Time) {
	if l.up || l.err != nil {
		return
	}
	l.up, l.phase = true, PhaseEstablish
	l.live.start(now)
	l.lcpOpts.magic = l.lcpOpts.newMagic()
	l.event(now, &l.lcp, evOpen)
	l.event(now, &l.lcp, evUp)
	l.settle(now)
}

// Receive takes a whole PPP frame from the peer; frame is borrowed until it
// returns. What breaks the layout or does not belong into the phase is
// discarded silently, as the standards ask. IP packets are ignored: they go to
// the stack without passing here.
func (l *Link) Receive(now time.Time, frame []byte) {
	if !l.up || l.Done() {
		return
	}
	l.Heard(now)
	if p, info, err := ParseFrame(frame); err == nil {
		l.dispatch(now, p, info)
	}
	l.settle(now)
}

// Advance does what is due at now. It must be called when NextTimeout has
// come; calling it earlier does no harm.
func (l *Link) Advance(now time.Time) {
	if !l.up || l.Done() {
		return
	}
	for _, c := range []*control{&l.lcp, &l.ipcp, &l.ipv6cp} {
		l.expire(now, c)
	}
	l.advanceAuth(now)
	l.keepalive(now)
	l.settle(now)
}

// NextTimeout is when Advance has something to do; the zero Time means that
// nothing is waited for.
func (l *Link) NextTimeout() time.Time {
	if !l.up || l.Done() {
		return time.Time{}
	}
	var next time.Time
	for _, t := range []time.Time{l.lcp.timer, l.ipcp.timer, l.ipv6cp.timer,
		l.auth.next(), l.nextKeepalive()} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// Pending returns the frames to send, in order, each with the full header, and
// forgets them: the slices are the caller's.
func (l *Link) Pending() [][]byte {
	q := l.queue
	l.queue = nil
	return q
}

// Phase is the phase the link is in.
func (l *Link) Phase() Phase {
	if l.Done() {
		return PhaseDead
	}
	return l.phase
}

// Authenticated reports whether the peer accepted who we are, and the key
// material for the crypto binding ([MS-SSTP] 3.2.5.2.2): that of the exchange
// that succeeded first, all zeros for methods without keys. It stays true.
func (l *Link) Authenticated() (hlak [32]byte, ok bool) {
	return l.auth.hlak, l.auth.done
}

// Unanswered is what it means if the peer ends the session now: an error if the
// credentials, or a proof of them, went out and have no answer yet, else nil.
// SoftEther answers wrong PAP credentials with nothing but the end.
func (l *Link) Unanswered() *AuthError {
	if l.phase != PhaseAuthenticate || !l.auth.answered {
		return nil
	}
	return &AuthError{Method: l.auth.method, Unanswered: true}
}

// ForgetKey clears the HLAK, which is needed once, wherever it is.
func (l *Link) ForgetKey() {
	clear(l.auth.hlak[:])
	for i := range l.auth.exchanges {
		clear(l.auth.exchanges[i].hlak[:])
	}
}

// Method is the method by which the peer accepted us first; before that, the
// one under way. It is zero if the peer asks for none.
func (l *Link) Method() Method {
	if l.auth.done {
		return l.auth.by
	}
	return l.auth.method
}

// MTU is the largest packet the peer takes, in octets: its MRU (RFC 1661
// §6.1), 1500 unless it asked for another.
func (l *Link) MTU() int { return l.lcpOpts.peerMRU }

// IPv4 returns what IPCP agreed on; ok reports whether IPCP is open. DNS is the
// caller's.
func (l *Link) IPv4() (v IPv4, ok bool) {
	if l.ipcp.state != opened {
		return IPv4{}, false
	}
	return l.ipcpOpts.result(), true
}

// IPv6 returns what IPV6CP agreed on; ok reports whether IPV6CP is open.
func (l *Link) IPv6() (v IPv6, ok bool) {
	if l.ipv6cp.state != opened {
		return IPv6{}, false
	}
	return IPv6{InterfaceID: l.ipv6cpOpts.ours, PeerInterfaceID: l.ipv6cpOpts.peer}, true
}

// Opened reports whether IP packets of at least one family may flow.
func (l *Link) Opened() bool { return l.ipcp.state == opened || l.ipv6cp.state == opened }

// Close ends the link in order: an LCP Terminate-Request goes out, and Done
// follows the peer's answer or 6 s of silence. Err is ErrClosed from now on,
// unless the link had failed before.
func (l *Link) Close(now time.Time) {
	l.fail(now, ErrClosed)
	l.settle(now)
}

// Down tells the link that the lower layer is gone. The link is over at once;
// Err is ErrDown unless there is a better cause.
func (l *Link) Down(now time.Time) {
	if l.lcpOpts.refused && l.phase == PhaseEstablish {
		l.setErr(l.lcpOpts.noCommonAuth())
	}
	l.setErr(ErrDown)
	l.phase = PhaseTerminate
	l.event(now, &l.lcp, evDown)
	l.event(now, &l.lcp, evClose)
	l.queue = nil
	l.settle(now)
}

// Done reports whether the link is over: nothing will be sent or taken any
// more.
func (l *Link) Done() bool {
	if !l.up && l.err == nil {
		return false
	}
	s := l.lcp.state
	return s == initial || s == closed || s == stopped
}

// Err is why the link ends or ended; nil while it lives. See the errors and
// error types of this package.
func (l *Link) Err() error { return l.err }

// setErr keeps the first cause.
func (l *Link) setErr(err error) {
	if l.err == nil {
		l.err = err
	}
}

// fail ends the link for the given cause: LCP closes.
func (l *Link) fail(now time.Time, err error) {
	l.setErr(err)
	l.phase = PhaseTerminate
	l.event(now, &l.lcp, evClose)
}

// settle is the end of every turn: a failure that was only noted on the way
// closes the link, and a link that is over holds no timer.
func (l *Link) settle(now time.Time) {
	if l.err != nil && l.phase != PhaseTerminate {
		l.fail(now, l.err)
	}
	if l.Done() {
		l.auth.stop()
	}
}
