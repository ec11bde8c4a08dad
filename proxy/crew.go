package proxy

import "time"

// crew does things in goroutines that outlive them. A handshake with a dial, and
// the end of a connection, need deep stacks, and growing them anew took a tenth
// of what a connection costs.
type crew struct {
	next  chan func()     // to one that rests
	ended <-chan struct{} // none rests any more
}

// crewRest is how long a goroutine of a crew waits for more to do.
const crewRest = 250 * time.Millisecond

func newCrew(ended <-chan struct{}) *crew { return &crew{make(chan func()), ended} }

// do has f called in a goroutine, and waits for nothing.
func (c *crew) do(f func()) {
	select {
	case c.next <- f:
	default:
		go c.work(f) // ends after a rest, or with the crew
	}
}

func (c *crew) work(f func()) {
	timer := time.NewTimer(crewRest)
	defer timer.Stop()
	for {
		f()
		f = nil // with all that it holds
		timer.Reset(crewRest)
		select {
		case f = <-c.next:
		case <-timer.C:
			return
		case <-c.ended:
			return
		}
	}
}
