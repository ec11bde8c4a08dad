package tunneltest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Fault is what goes wrong at a step of a script.
type Fault uint8

// The faults; those of the same name of [Line] say more.
const (
	FaultCut      Fault = iota + 1 // FIN
	FaultReset                     // RST
	FaultHalfOpen                  // the server's host vanishes: never a word again
	FaultStall                     // nothing passes for Step.For
	FaultGarbage                   // Step.Octets random octets: of TCP at an offset, inside TLS at an event or a packet
)

// String is the fault in words.
func (f Fault) String() string {
	names := [...]string{"none", "cut", "reset", "half open", "stall", "garbage"}
	if int(f) < len(names) {
		return names[f]
	}
	return fmt.Sprintf("Fault(%d)", uint8(f))
}

// Step is one fault of a script: a place in a connection, of which exactly one
// is set, and what happens there, once in each connection. What the server had
// sent before still goes out.
type Step struct {
	// Sent and Received are octets of TCP from the server and from the client:
	// the fault comes right behind so many.
	Sent, Received int
	// Event is what the server has just recorded.
	Event EventKind
	// Sending is what the server is about to send, by the name that
	// [Event.Name] gives: "HTTP reply", "Call Connect Ack". The packet is the
	// first thing that the fault hits.
	Sending string

	Do Fault
	// For is the length of a stall; 0 means for ever.
	For time.Duration
	// Octets is the amount of garbage.
	Octets int
}

func sentAt(s Step) int     { return s.Sent }
func receivedAt(s Step) int { return s.Received }

// garbage is n octets that mean nothing, the same ones each time.
func garbage(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// room is how many of n octets may pass before the next step; counted is one of
// the connection's counters and at the place of a step in its terms.
func (c *lineConn) room(n int, counted *int, at func(Step) int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.steps {
		if left := at(s) - *counted; left > 0 {
			n = min(n, left)
		}
	}
	return n
}

// count notes that n octets have passed and returns the steps that are due.
func (c *lineConn) count(n int, counted *int, at func(Step) int) []Step {
	c.mu.Lock()
	*counted += n
	total := *counted
	c.mu.Unlock()
	return c.take(func(s Step) bool { return at(s) > 0 && at(s) <= total })
}

// take removes from the script and returns what is due.
func (c *lineConn) take(due func(Step) bool) (steps []Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps = slices.DeleteFunc(c.steps, func(s Step) bool {
		if !due(s) {
			return false
		}
		steps = append(steps, s)
		return true
	})
	return steps
}

// do carries out a step below TLS.
func (c *lineConn) do(s Step) {
	switch s.Do {
	case FaultCut:
		c.cut()
	case FaultReset:
		c.reset()
	case FaultHalfOpen:
		c.vanish()
	case FaultStall:
		if s.For == 0 {
			s.For = -1
		}
		c.stallFor(s.For)
	case FaultGarbage:
		c.inBackground(func() { c.Conn.Write(garbage(s.Octets)) })
	}
}

// strike carries out the steps that are due on a session, in the order of what
// the server sends.
func (c *Conn) strike(due func(Step) bool) {
	for _, s := range c.wire.take(due) {
		switch {
		case s.Event == EventAccepted: // nobody writes yet
			c.wire.do(s)
		case s.Do == FaultGarbage:
			c.out.push(garbage(s.Octets))
		default:
			c.out.then(func() { c.wire.do(s) })
		}
	}
}
