//go:build !linux

package tunnel

import "time"

// sleepClock is the wall clock: it goes on in sleep on every system, though it
// can be set, too.
func sleepClock() time.Duration { return time.Duration(time.Now().UnixNano()) }
