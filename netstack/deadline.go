package netstack

import (
	"sync"
	"sync/atomic"
	"time"
)

// deadline is one direction's deadline of a socket. It needs no channel of its
// own: when it passes or changes it posts to the channel its waiter waits on,
// and the waiter looks again. The zero deadline never passes.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	setting uint64 // counts set, so that a late timer knows it is stale
	expired atomic.Bool
}

// set moves the deadline; the zero time takes it away. wake has capacity 1.
func (d *deadline) set(t time.Time, wake chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.setting++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	left := time.Until(t)
	d.expired.Store(!t.IsZero() && left <= 0)
	if !t.IsZero() && left > 0 {
		setting := d.setting
		d.timer = time.AfterFunc(left, func() { d.pass(setting, wake) })
	}
	post(wake)
}

func (d *deadline) pass(setting uint64, wake chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.setting == setting {
		d.expired.Store(true)
		post(wake)
	}
}

// passed tells whether the deadline is in the past.
func (d *deadline) passed() bool { return d.expired.Load() }

// post wakes the waiter of a channel of capacity 1.
func post(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
