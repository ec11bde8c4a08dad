package tunnel

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"sstproxy/tunnel/ppp"
)

// backoff is how long to wait before another attempt.
type backoff struct{ failures int }

// The first attempt after a loss comes at once, the following ones after these
// times, less up to a quarter of it by chance, so that the clients of a server
// that restarts don't return all at once.
const (
	firstDelay = time.Second
	maxDelay   = time.Minute
)

// stableAfter is the default of KeeperConfig.StableAfter.
const stableAfter = time.Minute

// next returns the time to wait. chance is in [0, 1).
func (b *backoff) next(chance float64) time.Duration {
	b.failures++
	if b.failures == 1 {
		return 0
	}
	d := maxDelay
	if shift := b.failures - 2; shift < 6 {
		d = min(firstDelay<<shift, maxDelay)
	}
	return d - time.Duration(chance*float64(d)/4)
}

// again tells whether to try once more after err, and how long to wait before.
func (k *Keeper) again(err error) (wait time.Duration, ok bool) {
	state, _ := k.State()
	switch {
	case Permanent(err), isA[*hookError](err):
		return 0, false
	case errors.Is(err, ErrReconnect): // no loss, and no failure
		return 0, true
	case isA[*abandonedError](err): // neither
		k.upset = time.Now()
		wait = max(0, time.Until(k.begun.Add(k.patience)))
		k.patience = min(2*k.patience, maxDelay)
		if k.cfg.GiveUpAfter == 0 {
			return wait, true
		}
	case state.Up == 0 && !k.cfg.KeepTrying && !k.unsettled(err):
		return 0, false
	default:
		wait = k.backoff.next(rand.Float64())
	}
	left, bounded := k.left()
	return wait, !bounded || wait < left
}

// unsettledTime is how long a machine that woke up, or changes its network, may
// be without one.
const unsettledTime = 30 * time.Second

// unsettled tells whether an attempt failed only because this machine has not
// yet found its new network.
func (k *Keeper) unsettled(err error) bool {
	return OriginOf(err).By == PartyHost && !k.upset.IsZero() && time.Since(k.upset) < unsettledTime
}

// noticeTime is how long a server may take to notice that a client is gone:
// two hello intervals ([MS-SSTP] 3.1.2.3), and some time to tell others. It is
// 20 s for SoftEther and 61 s for accel-ppp.
const noticeTime = 150 * time.Second

// mayBeHeld tells whether a server that refuses the login may do so because it
// holds the session that was lost, and allows one: it took the same password
// before. It is not tried again all the same, for what else it may mean leads
// towards a locked account.
func (k *Keeper) mayBeHeld(err error) bool {
	auth, ok := errors.AsType[*ppp.AuthError](err)
	return ok && (auth.Failure.Code == 0 || auth.Failure.Code == wrongCredentials) &&
		k.cfg.Secret == nil && !k.lost.IsZero() && time.Since(k.lost) < noticeTime
}

// wrongCredentials is the error code of MS-CHAPv2 for all that servers do not
// want to tell (RFC 2759 §6).
const wrongCredentials = 691

// left is how long the tunnel may still be down.
func (k *Keeper) left() (d time.Duration, bounded bool) {
	if k.cfg.GiveUpAfter < 0 {
		return 0, false
	}
	return k.cfg.GiveUpAfter - time.Since(k.down), true
}

// leastPause keeps attempts apart when the network comes and goes.
const leastPause = time.Second

// pause waits before the next attempt, unless there is a reason to make it
// sooner. It returns false if ctx has ended.
func (k *Keeper) pause(ctx context.Context, wait time.Duration, cause error) bool {
	next := time.Now().Add(wait)
	k.enter(StatusWaiting, func(s *State) { s.Cause, s.NextTry = cause, next })
	if wait == 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-k.kick:
			return true
		case e := <-k.host:
			if errors.Is(cause, ErrAddressHeld) && e.Slept == 0 {
				continue // the server needs its time all the same
			}
			k.backoff.failures = min(k.backoff.failures, 1)
			next = k.begun.Add(leastPause)
			timer.Reset(time.Until(next))
		}
	}
}
