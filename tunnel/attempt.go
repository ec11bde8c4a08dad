package tunnel

import (
	"context"
	"net"
	"time"
)

// attempt is a session in the making, and what befalls this machine meanwhile.
type attempt struct {
	begun     time.Time
	patience  time.Duration // how long a changed network leaves it to reach the server
	connected chan net.Conn // capacity 1: the connection to the server, once there is one

	conn net.Conn
	late <-chan time.Time // when it should have been connected, on a changed network
	shut <-chan time.Time // when to close conn, whatever is still to be said
	end  context.CancelCauseFunc
}

// abandonedError is the end of an attempt that this machine's sleep or a change
// of its network made vain: no failure of the server's.
type abandonedError struct{ err error }

func (e *abandonedError) Error() string { return e.err.Error() }

func (e *abandonedError) Unwrap() error { return e.err }

func newAttempt(patience time.Duration) *attempt {
	return &attempt{begun: time.Now(), patience: patience, connected: make(chan net.Conn, 1)}
}

// dial is Dial within timeout that kick ends, and host if it concerns the attempt.
func (a *attempt) dial(ctx context.Context, timeout time.Duration, cfg Config, kick <-chan struct{}, host <-chan hostEvent) (s *Session, err error) {
	ctx, a.end = context.WithCancelCause(ctx)
	defer a.end(nil)
	cfg.connected = a.connected
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		s, err = dialWithin(ctx, timeout, cfg)
	}()
	for {
		select {
		case <-done:
			return s, err
		case <-kick:
			a.end(ErrReconnect)
			kick = nil
		case e := <-host:
			a.heed(e)
		case <-a.late:
			a.learn()
			if a.conn == nil {
				a.abandon(ErrNetworkChanged, 0)
			}
		case <-a.shut:
			a.conn.Close()
		}
	}
}

// heed ends the attempt if it has no hope after e. Until it is connected a changed
// network may have left it looking for the server in the wrong place, or may not;
// later only the loss of its address matters. What was shut out by sleep the server
// has given up, or soon will.
func (a *attempt) heed(e hostEvent) {
	a.learn()
	switch {
	case e.Slept > 0:
		a.abandon(ErrSlept, cancelTimeout)
	case a.conn == nil && a.late == nil:
		a.late = time.After(time.Until(a.begun.Add(a.patience)))
	case a.conn != nil && localAddressGone(a.conn):
		a.abandon(ErrNetworkChanged, 0) // nothing would arrive
	}
}

// learn takes note of the connection, if there is one by now.
func (a *attempt) learn() {
	select {
	case a.conn = <-a.connected:
	default:
	}
}

// abandon ends the attempt. An orderly end may take up to farewell.
func (a *attempt) abandon(cause error, farewell time.Duration) {
	a.end(&abandonedError{cause})
	if a.conn != nil && a.shut == nil {
		a.shut = time.After(farewell)
	}
}

func dialWithin(ctx context.Context, timeout time.Duration, cfg Config) (*Session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrConnectTimeout)
	defer cancel()
	return Dial(ctx, cfg)
}
