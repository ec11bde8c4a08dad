package tunneltest

import (
	"sync"
	"time"
)

// alarm names one timer of a connection; each is set at most once at a time.
type alarm uint8

const (
	alarmNegotiation alarm = iota // 3.3.2: Call Connect Request, then Call Connected, in 60 s
	alarmEnd                      // 3.1.2: abort and disconnect timers
	alarmEcho                     // 3.1.2.3: hello timer
	alarmSilence                  // Quirks.SSTP.Silence
	alarmSession                  // Quirks.SSTP.SessionLimit
	alarmAck                      // Quirks.SSTP.AckDelay
	alarmStall                    // Quirks.NCP.IPv6Stall
	alarmRelease                  // Quirks.Wire.ReplyDelay
	alarmBeacon                   // Quirks.Wire.Beacon
	alarmLCP                      // Restart timers (RFC 1661 §4.6)
	alarmIPCP
	alarmIPV6CP
	alarmCCP
	alarmMPLSCP
	alarmAuth        // the challenge goes unanswered
	alarmRechallenge // Quirks.Auth.Rechallenge, RepeatsChallenge
	alarmLCPEcho     // Quirks.LCP.EchoInterval
	alarmTerminate   // the client's answer to Terminate-Request, or its Call Disconnect
	numAlarms
)

// alarmClock is when and what; zero is not set.
type alarmClock struct {
	at   time.Time
	ring func()
}

// after sets an alarm, in place of what was set before.
func (c *Conn) after(a alarm, d time.Duration, ring func()) {
	c.alarms[a] = alarmClock{at: time.Now().Add(d), ring: ring}
}

// stop unsets alarms.
func (c *Conn) stop(alarms ...alarm) {
	for _, a := range alarms {
		c.alarms[a] = alarmClock{}
	}
}

// untilAlarm is the time to the next alarm, or an hour.
func (c *Conn) untilAlarm() time.Duration {
	wait := time.Hour
	for _, a := range c.alarms {
		if a.ring != nil {
			wait = min(wait, time.Until(a.at))
		}
	}
	return wait
}

// fireAlarms rings what is due by now.
func (c *Conn) fireAlarms(now time.Time) {
	for i := range c.alarms {
		if a := c.alarms[i]; a.ring != nil && !a.at.After(now) && !c.over {
			c.alarms[i] = alarmClock{}
			a.ring()
		}
	}
}

// posts are functions that other goroutines want run on the loop.
type posts struct {
	mu    sync.Mutex
	queue []func()
	wake  chan struct{} // capacity 1
}

func newPosts() *posts { return &posts{wake: make(chan struct{}, 1)} }

func (p *posts) add(f func()) {
	p.mu.Lock()
	p.queue = append(p.queue, f)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *posts) run() {
	p.mu.Lock()
	queue := p.queue
	p.queue = nil
	p.mu.Unlock()
	for _, f := range queue {
		f()
	}
}
