package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// KeeperConfig says what a [Keeper] keeps up.
type KeeperConfig struct {
	// Tunnel is the configuration of every session. PreviousAddress and
	// RequestInterfaceID are those of the session before.
	Tunnel Config

	// ConnectTimeout bounds each attempt; 0 means one minute.
	ConnectTimeout time.Duration

	// GiveUpAfter is how long the tunnel may be down before Run returns the
	// last cause; 0 is the first loss, negative never.
	GiveUpAfter time.Duration

	// StableAfter is how long a session must have lasted to forget the failures
	// before it; 0 means one minute. With less, a server that ends each session
	// soon is asked for the next one without a pause.
	StableAfter time.Duration

	// KeepTrying also retries the first connection. Without it that has one
	// attempt: who has just typed a wrong name wants to know.
	KeepTrying bool

	// Secret, if set, is asked for a password before each login that needs a new
	// one: passwords from it are never sent twice, so a session whose server
	// wants a login in the middle ends, for a new one. An error of it ends Run.
	Secret func(context.Context) (string, error)

	// Up is called when a session is up and says where its packets come from
	// and go to. An error of it ends Run. Down is called when packets no longer
	// move. Both are called on Run's goroutine.
	Up   func(Info) (Packets, error)
	Down func()

	// Precious, if set, tells whether something depends on the address of the
	// session before. If so, and the server gives another one, which it does
	// while it has not noticed the end of that session, the Keeper hands it
	// back and tries once more, some seconds later.
	Precious func() bool

	// Changed, if set, is told every new state, one at a time and in order. It
	// must not block.
	Changed func(State)
}

// Keeper keeps a tunnel up: it connects, and when the session is lost it
// connects again, at once, then after growing pauses, until it is told to stop
// or it would be wrong to go on (see [Permanent]). Run is called once; the
// other methods may be called from any goroutine.
type Keeper struct {
	cfg  KeeperConfig
	log  *slog.Logger
	kick chan struct{}  // capacity 1: Reconnect was called
	wg   sync.WaitGroup // what a session leaves behind when another takes its place

	// Owned by Run.
	host     <-chan hostEvent // what happened to this machine
	watch    *hostWatch       // where that comes from
	backoff  backoff
	begun    time.Time     // of the last attempt
	upset    time.Time     // when this machine last made an attempt vain
	patience time.Duration // least time from its begin to the next, if this machine is to blame
	down     time.Time     // since when the tunnel is down; the start at first
	lost     time.Time     // the same, if the server may not have noticed
	unsent   bool          // the password at hand was not shown to a server
	avoid    string        // the address of the server that failed last
	early    time.Time     // of the last session made before an announced end
	handed   bool          // a session was handed back since the tunnel was last up

	telling sync.Mutex // held while Changed is told; taken before mu
	mu      sync.Mutex
	state   State
	changed chan struct{} // closed and replaced by each change
}

// NewKeeper returns a Keeper; Run sets it to work.
func NewKeeper(cfg KeeperConfig) *Keeper {
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = time.Minute
	}
	if cfg.StableAfter <= 0 {
		cfg.StableAfter = stableAfter
	}
	now := time.Now()
	return &Keeper{
		down: now, patience: leastPause, cfg: cfg, log: cfg.Tunnel.logger(), kick: make(chan struct{}, 1),
		state: State{Since: now, Changed: now}, changed: make(chan struct{}),
	}
}

// State returns the present state and a channel that is closed when there is
// another.
func (k *Keeper) State() (State, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state, k.changed
}

// Reconnect ends the session in order, or the attempt under way, and connects
// again at once; it also ends the pause before the next attempt.
func (k *Keeper) Reconnect() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// set changes the state and tells it.
func (k *Keeper) set(change func(*State)) {
	k.telling.Lock()
	defer k.telling.Unlock()
	k.mu.Lock()
	change(&k.state)
	state := k.state
	close(k.changed)
	k.changed = make(chan struct{})
	k.mu.Unlock()
	if k.cfg.Changed != nil {
		k.cfg.Changed(state)
	}
}

// enter begins a status.
func (k *Keeper) enter(status Status, change func(*State)) {
	k.set(func(s *State) {
		now := time.Now()
		if (status == StatusUp) != (s.Status == StatusUp) {
			s.Changed = now
		}
		s.Status, s.Since, s.NextTry = status, now, time.Time{}
		if change != nil {
			change(s)
		}
	})
}

// Run keeps the tunnel up until ctx ends, which is orderly and no error, or
// until it has to give up: then it returns the last cause, see [Dial] and
// [Session.Run].
func (k *Keeper) Run(ctx context.Context) error {
	defer k.wg.Wait()
	if k.host == nil {
		k.watch = newHostWatch(thisHost())
		defer k.watch.Close()
		k.host = k.watch.events
	}
	for {
		err := k.once(ctx)
		if ctx.Err() != nil {
			err = nil
		} else if wait, again := k.again(err); again && k.pause(ctx, wait, err) {
			continue
		} else if ctx.Err() != nil {
			err = nil
		}
		k.enter(StatusEnded, func(s *State) { s.Cause = err })
		return err
	}
}

// once connects and stays with the session until it ends.
func (k *Keeper) once(ctx context.Context) error {
	if err := k.secret(ctx); err != nil {
		return err
	}
	s, err := k.connect(ctx)
	if err == nil && k.moved(s) {
		if !k.handBack(ctx, s) {
			return context.Cause(ctx)
		}
		s, err = k.connect(ctx)
	}
	if err != nil {
		return err
	}
	for s != nil && err == nil {
		s, err = k.stay(ctx, s)
	}
	return err
}

// secret asks for a password if the last one may be known to a server.
func (k *Keeper) secret(ctx context.Context) error {
	if k.cfg.Secret == nil || k.unsent {
		return nil
	}
	password, err := k.cfg.Secret(ctx)
	if err != nil {
		return &hookError{err}
	}
	k.cfg.Tunnel.Password, k.unsent = password, true
	return nil
}

// hookError is an error of one of the user's functions: it ends Run.
type hookError struct{ err error }

func (e *hookError) Error() string { return e.err.Error() }

func (e *hookError) Unwrap() error { return e.err }

// connect makes one attempt.
func (k *Keeper) connect(ctx context.Context) (*Session, error) {
	k.forget()
	k.begun = time.Now()
	k.enter(StatusConnecting, func(s *State) { s.Phase, s.Timings, s.Attempt = PhaseResolve, nil, s.Attempt+1 })
	cfg := k.next()
	cfg.Progress = func(p Progress) {
		k.set(func(s *State) { s.Phase, s.Timings = p.Phase+1, append(s.Timings[:len(s.Timings):len(s.Timings)], p) })
		if k.cfg.Tunnel.Progress != nil {
			k.cfg.Tunnel.Progress(p)
		}
	}
	cfg.avoid = k.avoid
	timeout := k.cfg.ConnectTimeout
	if left, bounded := k.left(); bounded && left > 0 {
		timeout = min(timeout, left)
	}
	s, err := newAttempt(k.patience).dial(ctx, timeout, cfg, k.kick, k.host)
	failed, ok := errors.AsType[*Error](err)
	if !ok || failed.Phase >= PhaseAuth {
		k.unsent = false
	}
	k.avoid = ""
	if ok && !isA[*abandonedError](err) {
		k.avoid = failed.Peer // of several addresses, another may lead to a server that works
	}
	if k.mayBeHeld(err) {
		err = fmt.Errorf("%w: %w", ErrSessionHeld, err)
	}
	return s, err
}

// forget passes over what an attempt that begins now answers already.
func (k *Keeper) forget() {
	select {
	case <-k.kick:
	default:
	}
	if k.watch != nil {
		k.watch.look()
	}
	select {
	case <-k.host:
	default:
	}
}

// heldTime is how long a server is given to notice the end of a session.
// SoftEther takes 1.2 s after a reset.
const heldTime = 2 * time.Second

// moved tells whether it is worth another attempt that s has another address
// than the session before. That is so once: a server may have reasons.
func (k *Keeper) moved(s *Session) bool {
	state, _ := k.State()
	return !k.handed && state.Up > 0 && s.Info().IPv4.Addr != state.Info.IPv4.Addr &&
		k.cfg.Secret == nil && k.cfg.Precious != nil && k.cfg.Precious()
}

// handBack ends s and gives its server time to notice the end of the session
// before. It returns false if ctx has ended.
func (k *Keeper) handBack(ctx context.Context, s *Session) bool {
	k.handed = true
	left := make(chan struct{})
	go func() { defer close(left); s.leave(ctx) }() // ends with s
	for {
		select {
		case <-left:
			return k.pause(ctx, heldTime, ErrAddressHeld)
		case e := <-k.host:
			heed(s, e, true)
		}
	}
}

// heed has s find out what e means to it. An end that was under way when this
// machine slept has had its time.
func heed(s *Session, e hostEvent, ending bool) {
	switch {
	case localAddressGone(s.raw.Conn):
		s.Break(ErrNetworkChanged)
	case ending && e.Slept > 0:
		s.Break(ErrSlept)
	default:
		s.Probe(probeTime) // the way to the server may be another
	}
}

// next is the configuration of the next session: with the address of the last.
func (k *Keeper) next() Config {
	cfg := k.cfg.Tunnel
	cfg.Progress = nil
	cfg.once = k.cfg.Secret != nil
	state, _ := k.State()
	cfg.PreviousAddress = state.Info.IPv4.Addr
	cfg.RequestInterfaceID = state.Info.IPv6.InterfaceID
	return cfg
}

// stay carries the packets of s until it ends. If another session has taken its
// place before, that is returned, without an error.
func (k *Keeper) stay(ctx context.Context, s *Session) (*Session, error) {
	packets, err := k.cfg.Up(s.Info())
	if err != nil {
		s.Close()
		return nil, &hookError{err}
	}
	changed := packets.Changed
	packets.Changed = func(info Info) {
		k.set(func(st *State) { st.Info = info })
		if changed != nil {
			changed(info)
		}
	}
	begun := time.Now()
	k.handed, k.patience = false, leastPause
	defer context.AfterFunc(ctx, s.hasten)() // an end to connect again may be under way
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, packets) }() // ends with the session
	k.enter(StatusUp, func(st *State) { st.Info, st.Attempt, st.Up = s.Info(), 0, st.Up+1 })

	heir, err := k.attend(ctx, s, ended, cancel)
	if time.Since(begun) >= k.cfg.StableAfter {
		k.backoff.failures = 0
	}
	if heir == nil {
		k.down, k.lost = time.Now(), time.Time{}
		if by := OriginOf(err).By; by == PartyNetwork || by == PartyHost {
			k.lost = k.down
		}
		k.cfg.Down()
	}
	return heir, err
}

// What a session is given to show that it is alive, how long before its
// announced end the next one is made, and the least time between two such.
const (
	probeTime  = 3 * time.Second
	breakLead  = 15 * time.Second
	earlyPause = time.Minute
)

// attend waits for the end of a running session and for what calls for one.
func (k *Keeper) attend(ctx context.Context, s *Session, ended <-chan error, end context.CancelCauseFunc) (heir *Session, err error) {
	dialing, stop := context.WithCancel(ctx)
	defer stop()
	heirs, host := make(chan *Session), make(chan hostEvent, 1)
	var early <-chan time.Time
	refused := false // another session, for good
	for {
		select {
		case err := <-ended:
			if err == nil {
				err = context.Cause(ctx)
			}
			return nil, err
		case <-k.kick:
			end(ErrReconnect)
		case e := <-k.host:
			heed(s, e, ctx.Err() != nil)
			e.post(host)
		case at := <-s.Ends():
			early = k.before(at)
		case <-early:
			k.early = time.Now()
			if refused {
				continue
			}
			k.log.Info("making the next session before the announced end of this one")
			k.wg.Go(func() { k.dialHeir(dialing, s, heirs, host) }) // ends with dialing
		case heir := <-heirs:
			if refused = heir == nil; refused {
				continue
			}
			s.raw.watch.stop() // whom it told has another session from now on
			end(ErrReplaced)
			k.wg.Go(func() { // ends with the session
				<-ended
				heir.out.wake() // the old writer may have taken a signal from Ready
			})
			return heir, nil
		}
	}
}

// before is when to make the next session of one that ends at the given time;
// never if that needs another password. Not before the last one made so has had
// its time: each is a login, and the server may announce what it likes.
func (k *Keeper) before(end time.Time) <-chan time.Time {
	if end.IsZero() || k.cfg.Secret != nil {
		return nil
	}
	at := end.Add(-breakLead)
	if soonest := k.early.Add(max(earlyPause, k.cfg.ConnectTimeout)); at.Before(soonest) {
		at = soonest
	}
	return time.After(time.Until(at))
}

// dialHeir makes the session that takes the place of s. It must have the same
// address, or connections would be cut that a quick break lets live: the server
// may have to see the end of s before it gives that address again. It sends
// nil if that must not be tried again.
func (k *Keeper) dialHeir(ctx context.Context, s *Session, heirs chan<- *Session, host <-chan hostEvent) {
	heir, err := k.dialAside(ctx, host)
	if err != nil {
		k.log.Info("no second session before the end of the first", "err", err)
		if Permanent(err) {
			select {
			case heirs <- nil:
			case <-ctx.Done():
			}
		}
		return
	}
	if heir.Info().IPv4.Addr == s.Info().IPv4.Addr {
		select {
		case heirs <- heir:
			return
		case <-ctx.Done():
		}
	}
	heir.Close()
}

// dialAside makes a session beside another one. It begins again when this machine
// slept meanwhile, as long as ctx lasts.
func (k *Keeper) dialAside(ctx context.Context, host <-chan hostEvent) (*Session, error) {
	for patience := leastPause; ; patience *= 2 {
		select {
		case <-host: // before the attempt
		default:
		}
		a := newAttempt(patience)
		s, err := a.dial(ctx, k.cfg.ConnectTimeout, k.next(), nil, host)
		if !isA[*abandonedError](err) {
			return s, err
		}
		select {
		case <-time.After(time.Until(a.begun.Add(patience))):
		case <-ctx.Done():
			return nil, err
		}
	}
}
