package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

const (
	// A timer that fires lateAfter too late tells that the process, or the whole
	// machine, slept. What the server has sent meanwhile is read within
	// lateGrace, and only then may its silence count.
	lateAfter = time.Second
	lateGrace = 200 * time.Millisecond
	// More than maxFrames frames that are no IP packets within frameWindow are
	// a flood: a session has some in a second at its beginning, and one in
	// several seconds later.
	maxFrames   = 2000
	frameWindow = 10 * time.Second
)

// Session is an SSTP session. Run is called once; the other methods may be
// called from any goroutine.
type Session struct {
	log *slog.Logger
	mtu int // the user's bound

	infoMu sync.Mutex // the loop alone writes, and reads without it
	info   Info

	raw     *batchConn
	conn    *tls.Conn
	out     sendQueue
	capture func(sent bool, frames [][]byte) // Config.Capture

	// Owned by the loop.
	call      *sstp.Call
	link      *ppp.Link
	linkUp    bool      // the link was told that its lower layer is up
	connected time.Time // when Call Connected went out
	timer     *time.Timer
	due       time.Time // when it should fire
	graced    bool      // it fired late and was set again
	linger    bool      // wait for the server to be done with the session
	announced time.Time // the end of the session, by the server's word
	window    time.Time // when the counting of frames began anew
	frames    int       // received since
	cause     error     // why the session ends; the first one counts

	// What reader and writer share with the loop.
	base     time.Time               // heard and sent count from here
	heard    atomic.Int64            // nanoseconds from base to the last read
	sent     atomic.Int64            // and to the last write
	open     atomic.Bool             // IP packets may travel
	packets  atomic.Pointer[Packets] // nil until Run
	inbound  chan frame              // from the reader; closed by it
	readErr  error                   // why the reader ended; valid after inbound is closed
	writeErr chan error              // capacity 1
	stop     chan struct{}           // ends the writer
	wg       sync.WaitGroup          // reader and writer

	probes chan time.Duration // from Probe; capacity 1
	asks   chan struct{}      // from ask; capacity 1
	breaks chan error         // from Break; capacity 1
	ends   chan time.Time     // to whom it concerns; capacity 1

	quit    chan struct{} // closed by Close
	quitted sync.Once
	running atomic.Bool   // Run or Close has taken the loop
	ended   chan struct{} // closed when all is over
}

// frame is what the reader leaves to the loop: the payload of an SSTP packet.
type frame struct {
	control bool
	payload []byte // owned by the receiver
}

// newSession starts reader and writer. rest holds octets already read.
func newSession(cfg Config, raw *batchConn, conn *tls.Conn, family sstp.Family, rest []byte, rtt time.Duration) *Session {
	s := &Session{
		log: cfg.logger(), mtu: cfg.MTU, raw: raw, conn: conn, capture: cfg.Capture,
		call: sstp.NewCall(sstp.CallConfig{Certificate: conn.ConnectionState().PeerCertificates[0].Raw}),
		link: ppp.NewLink(ppp.Config{
			User: cfg.User, Password: cfg.Password, Once: cfg.once, Methods: cfg.methods(),
			Addr: cfg.address(family), IPv6: cfg.IPv6.with(family), InterfaceID: cfg.RequestInterfaceID,
			FirstRestart: firstRestart(rtt), EchoInterval: cfg.echoInterval(), EchoTimeout: cfg.echoTimeout(),
		}),
		timer: time.NewTimer(time.Hour), base: time.Now(),
		inbound: make(chan frame, 16), writeErr: make(chan error, 1),
		probes: make(chan time.Duration, 1), asks: make(chan struct{}, 1), breaks: make(chan error, 1), ends: make(chan time.Time, 1),
		stop: make(chan struct{}), quit: make(chan struct{}), ended: make(chan struct{}),
	}
	s.out.init()
	s.wg.Go(func() { s.read(rest) }) // ends when the connection is closed
	s.wg.Go(s.write)                 // ends with s.stop, or with the connection
	return s
}

// firstRestart is how long to wait before the first retransmission of a
// Configure-Request: soon, because accel-ppp loses the first one of IPCP in a
// third of all connects, but not before a slow path can have brought the answer.
func firstRestart(rtt time.Duration) time.Duration {
	return min(max(4*rtt, 250*time.Millisecond), 3*time.Second)
}

// establish turns the loop until the first network protocol is open. If that
// fails it ends the session.
func (s *Session) establish(ctx context.Context, d *dialer) error {
	s.call.Start(time.Now())
	for {
		s.report(d)
		if s.link.Opened() {
			return s.opened()
		}
		if s.over() {
			break
		}
		if err := s.turn(ctx, s.quit); err != nil {
			s.end(cancelTimeout)
			return err
		}
	}
	s.end(closeTimeout)
	return s.cause
}

// report tells d which phases are done by now.
func (s *Session) report(d *dialer) {
	if d.phase == PhaseSSTP && s.call.PassesPPP() {
		d.done("Call Connect Ack, " + s.call.Hash().String())
	}
	if d.phase == PhaseLCP && s.link.Phase() >= ppp.PhaseAuthenticate && s.link.Phase() != ppp.PhaseTerminate {
		d.done(fmt.Sprintf("MRU %d, %v", s.link.MTU(), s.link.Method()))
	}
	if _, ok := s.link.Authenticated(); ok && d.phase == PhaseAuth {
		d.done(s.link.Method().String())
	}
	if d.phase == PhaseIPCP && s.link.Opened() {
		v4, _ := s.link.IPv4()
		d.done(v4.Addr.String())
	}
}

// opened fills in what was negotiated.
func (s *Session) opened() error {
	s.info.IPv4, _ = s.link.IPv4()
	s.info.IPv6, _ = s.link.IPv6()
	s.info.MTU = min(s.link.MTU(), 1500)
	if s.mtu != 0 {
		s.info.MTU = min(s.info.MTU, s.mtu)
	}
	s.info.Method, s.info.Hash = s.link.Method(), s.call.Hash()
	return nil
}

// Run moves packets between p and the server until the session ends. It
// returns nil if that was asked for, by ctx or by Close: the session has then
// ended in order (LCP Terminate, SSTP Call Disconnect, TLS close_notify), each
// wait bounded. Otherwise it returns an [*Error] with the cause.
func (s *Session) Run(ctx context.Context, p Packets) error {
	if !s.running.CompareAndSwap(false, true) {
		return &Error{Phase: PhaseUp, Err: ErrRunning}
	}
	s.packets.Store(&p)
	if p.Stalled != nil {
		s.raw.watch.tell(listener{report: p.Stalled, awaits: p.Awaits, ask: s.ask, rtt: s.info.RTT})
	}
	s.out.wake()
	for !s.over() {
		if err := s.turn(ctx, s.quit); err != nil {
			s.linger = errors.Is(err, ErrReconnect)
			s.end(closeTimeout)
			return nil
		}
	}
	s.end(closeTimeout)
	return &Error{Phase: PhaseUp, Err: s.cause}
}

// Probe asks the server for a sign of life. If nothing at all comes from it
// within the given time, the session ends with [ppp.ErrEchoTimeout].
func (s *Session) Probe(within time.Duration) {
	select {
	case s.probes <- within:
	default: // one is under way
	}
}

// ask has the server send something at once, if it lives.
func (s *Session) ask() {
	select {
	case s.asks <- struct{}{}:
	default: // is asked already
	}
}

// Ends is told, by the server's LCP Time-Remaining (RFC 1570 1.2), when the
// session will end. The channel holds the last word and is never closed.
func (s *Session) Ends() <-chan time.Time { return s.ends }

// errQuit is what a turn returns after Close.
var errQuit = errors.New("session closed")

// turn sends what is pending, waits for one event and handles it. It returns
// an error only if ctx or quit ended the wait.
func (s *Session) turn(ctx context.Context, quit <-chan struct{}) error {
	s.flush()
	s.arm()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-quit:
		return errQuit
	case f, ok := <-s.inbound:
		s.catchUp()
		if !ok {
			s.hungUp()
		} else if s.floods() {
			s.cut(ErrFlood)
		} else {
			s.receive(f)
		}
	case err := <-s.writeErr:
		s.hearLastWords()
		s.lost(err)
	case within := <-s.probes:
		s.catchUp()
		s.link.Probe(time.Now(), within)
	case <-s.asks:
		s.catchUp()
		s.link.Echo(time.Now())
	case err := <-s.breaks:
		s.cut(err)
	case <-s.timer.C:
		if s.wasLate() {
			return nil
		}
		s.catchUp()
		now := time.Now()
		s.call.Advance(now)
		s.link.Advance(now)
	}
	s.settle()
	return nil
}

// catchUp tells the state machines what passed them by on the data path.
func (s *Session) catchUp() {
	s.graced = false
	heard := s.base.Add(time.Duration(s.heard.Load()))
	s.call.Heard(heard)
	s.link.Heard(heard)
	s.link.Sent(s.base.Add(time.Duration(s.sent.Load())))
}

// arm sets the timer to the earlier of the two deadlines.
func (s *Session) arm() {
	next := s.call.NextTimeout()
	if t := s.link.NextTimeout(); next.IsZero() || !t.IsZero() && t.Before(next) {
		next = t
	}
	if next.IsZero() {
		s.timer.Stop()
		return
	}
	wait := time.Until(next)
	if s.graced {
		wait = max(wait, lateGrace)
	}
	s.due = time.Now().Add(wait)
	s.timer.Reset(wait)
}

// wasLate tells, once, whether the timer fired much later than it was set for.
func (s *Session) wasLate() bool {
	s.graced = !s.graced && time.Since(s.due) > lateAfter
	return s.graced
}

// floods counts a frame, and tells whether there were too many of late.
func (s *Session) floods() bool {
	if now := time.Now(); now.Sub(s.window) > frameWindow {
		s.window, s.frames = now, 0
	}
	s.frames++
	return s.frames > maxFrames
}

// receive hands a frame to the layer it is for.
func (s *Session) receive(f frame) {
	now := time.Now()
	if f.control {
		s.logMessage("control packet received", f.payload)
		s.call.Receive(now, f.payload)
		return
	}
	// "data packet before Ack: drop", and PPP is over once the call is ending.
	if s.call.PassesPPP() {
		s.logFrame("ppp frame received", f.payload)
		s.link.Receive(now, f.payload)
	}
}

// settle carries the outcomes of one layer to the other.
func (s *Session) settle() {
	now := time.Now()
	if s.call.PassesPPP() && !s.linkUp {
		s.linkUp = true
		s.link.Up(now) // SoftEther says nothing until it has seen a PPP frame
	}
	if hlak, ok := s.link.Authenticated(); ok && s.call.State() == sstp.ClientConnectAckReceived {
		s.call.Authenticated(now, hlak)
		s.link.ForgetKey()
		s.connected = now
	}
	s.note()
	open := s.link.Opened() && s.call.State() == sstp.ClientCallConnected && s.cause == nil
	if open {
		s.cause = s.outdated()
		open = s.cause == nil
		s.learnIPv6()
		s.learnEnd()
		s.flush() // the Ack that opened the protocol goes before its first packet
	}
	if s.open.Swap(open) != open {
		s.out.wake()
	}
}

// learnIPv6 takes up the interface identifier, which IPV6CP yields only after
// IPCP has opened the session.
func (s *Session) learnIPv6() {
	v6, ok := s.link.IPv6()
	to := s.packets.Load()
	if !ok || v6 == s.info.IPv6 || to == nil {
		return
	}
	s.infoMu.Lock()
	s.info.IPv6 = v6
	s.infoMu.Unlock()
	s.log.Info("IPv6 up", "interface", fmt.Sprintf("%x", v6.InterfaceID))
	if to.Changed != nil {
		to.Changed(s.info)
	}
}

// learnEnd passes on what the server said about the end of the session. It may
// say the same every second, give or take the time on the way.
func (s *Session) learnEnd() {
	end := s.link.Ends()
	if end.Sub(s.announced).Abs() < time.Second {
		return
	}
	s.announced = end
	s.log.Debug("the server announces the end of the session", "at", end) // as often as it likes
	select {
	case <-s.ends: // an older word
	default:
	}
	s.ends <- end
}

// flush queues what the state machines have to send. Call Connected stands
// before the first network protocol packet because the call comes first.
func (s *Session) flush() {
	for _, p := range s.call.Pending() {
		s.logMessage("control packet sent", p[sstp.HeaderLen:])
		s.queue(p)
	}
	for _, f := range s.link.Pending() {
		if s.call.PassesPPP() {
			s.logFrame("ppp frame sent", f)
			p := sstp.AppendData(nil, f)
			s.queue(p)
			clear(p) // a login may be in it
		}
		clear(f)
	}
}

// queue leaves a packet to the writer.
func (s *Session) queue(packet []byte) {
	if err := s.out.add(packet); err != nil && s.cause == nil {
		s.cause = err
	}
}
