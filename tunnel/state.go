package tunnel

import "time"

// Status is what a [Keeper] is doing.
type Status uint8

// The states.
const (
	StatusConnecting Status = iota // State.Phase says how far it is
	StatusUp                       // packets move
	StatusWaiting                  // for State.NextTry
	StatusEnded                    // Run has returned
)

func (s Status) String() string {
	return [...]string{"connecting", "up", "waiting", "ended"}[s]
}

// State is all that can be known of a [Keeper] at one time. What shows or tells
// the state of the tunnel reads this and nothing else.
type State struct {
	Status  Status
	Phase   Phase      // while connecting: the one under way
	Since   time.Time  // when Status began
	Changed time.Time  // since when the tunnel is up, or down: at first, the start
	Cause   error      // why it is down, or why the last session ended; nil if none has, and when all is over on request
	NextTry time.Time  // while waiting
	Attempt int        // to connect since the tunnel was last up, with the one under way
	Up      int        // sessions that came up, in all
	Info    Info       // of the session that is up, or was last
	Timings []Progress // of the connection under way, or the last one made
}

// IsUp tells whether packets move.
func (s State) IsUp() bool { return s.Status == StatusUp }

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
