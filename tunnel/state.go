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
