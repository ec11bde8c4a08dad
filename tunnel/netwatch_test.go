package tunnel

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// bubbleClock goes on like the bubble's own, and further by what it slept.
type bubbleClock struct {
	start time.Time
	slept atomic.Int64
}

func (c *bubbleClock) now() time.Duration {
	return time.Since(c.start) + time.Duration(c.slept.Load())
}

// wantEvent takes the next event.
func wantEvent(t *testing.T, w *hostWatch, want hostEvent) {
	t.Helper()
	if got := <-w.events; got != want {
		t.Errorf("event: got %+v, want %+v", got, want)
	}
}

// wantQuiet lets d pass and wants no event in it.
func wantQuiet(t *testing.T, w *hostWatch, d time.Duration) {
	t.Helper()
	select {
	case e := <-w.events:
		t.Errorf("event without cause: %+v", e)
	case <-time.After(d):
	}
}

// TestHostWatchSuspend checks the time that Go's clock does not count.
func TestHostWatchSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &bubbleClock{start: time.Now()}
		w := newHostWatch(hostSource{clock: clock.now})
		defer w.Close()
		wantQuiet(t, w, time.Hour)

		woken := time.Now()
		clock.slept.Add(int64(90 * time.Second))
		wantEvent(t, w, hostEvent{Slept: 90 * time.Second})
		if d := time.Since(woken); d > hostTick {
			t.Errorf("told %v after waking, want %v at most", d, hostTick)
		}
		clock.slept.Add(-int64(time.Hour)) // a wall clock set back
		wantQuiet(t, w, time.Minute)
		clock.slept.Add(int64(time.Second)) // and forward by a little
		wantQuiet(t, w, time.Minute)
	})
}

// TestHostWatchLook checks that what look reports comes at once, and once.
func TestHostWatchLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &bubbleClock{start: time.Now()}
		w := newHostWatch(hostSource{clock: clock.now})
		defer w.Close()
		time.Sleep(hostTick + time.Second)
		clock.slept.Add(int64(90 * time.Second))
		start := time.Now()
		w.look()
		wantEvent(t, w, hostEvent{Slept: 90 * time.Second})
		if d := time.Since(start); d != 0 {
			t.Errorf("told %v after the question", d)
		}
		w.look()
		wantQuiet(t, w, time.Hour)
	})
}

// TestHostWatchHeld checks a process that was held while Go's clock went on.
func TestHostWatchHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hold atomic.Bool
		w := newHostWatch(hostSource{network: func() string {
			if hold.Swap(false) {
				time.Sleep(time.Minute)
			}
			return ""
		}})
		defer w.Close()
		wantQuiet(t, w, time.Hour)
		hold.Store(true)
		wantEvent(t, w, hostEvent{Slept: time.Minute})
		wantQuiet(t, w, time.Hour)
	})
}

// TestHostWatchNotices checks that a burst of notices is one event, and that
// events nobody takes add up to one.
func TestHostWatchNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &bubbleClock{start: time.Now()}
		notices, kernel := io.Pipe()
		w := newHostWatch(hostSource{notices: notices, clock: clock.now})
		defer w.Close()

		start := time.Now()
		for range 50 {
			kernel.Write([]byte("link up"))
			time.Sleep(settleTime / 100)
		}
		wantEvent(t, w, hostEvent{Network: true})
		if d := time.Since(start); d != settleTime {
			t.Errorf("told %v after the first notice, want %v", d, settleTime)
		}
		wantQuiet(t, w, time.Hour)

		for range 3 {
			kernel.Write([]byte("route gone"))
			clock.slept.Add(int64(10 * time.Second))
			time.Sleep(time.Minute)
		}
		wantEvent(t, w, hostEvent{Network: true, Slept: 30 * time.Second})
		wantQuiet(t, w, time.Hour)
	})
}

// TestHostWatchLooks checks the network that has to be looked at, from the start
// or when the notices have ended.
func TestHostWatchLooks(t *testing.T) {
	for name, broken := range map[string]bool{"no notices": false, "notices ended": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var network atomic.Value
				network.Store("192.0.2.7/24")
				src := hostSource{network: func() string { return network.Load().(string) }}
				if broken {
					notices, kernel := io.Pipe()
					kernel.CloseWithError(errors.New("no such thing here"))
					src.notices = notices
				}
				w := newHostWatch(src)
				defer w.Close()
				wantQuiet(t, w, time.Hour)
				network.Store("198.51.100.7/24")
				start := time.Now()
				wantEvent(t, w, hostEvent{Network: true})
				if d := time.Since(start); d > hostTick {
					t.Errorf("told after %v, want %v at most", d, hostTick)
				}
				wantQuiet(t, w, time.Hour)
			})
		})
	}
}

// TestThisHost checks the real source as far as any host allows.
func TestThisHost(t *testing.T) {
	src := thisHost()
	w := newHostWatch(src)
	w.Close()
	before := src.clock()
	if after := src.clock(); after < before || after == 0 {
		t.Errorf("clock: %v, then %v", before, after)
	}
	if src.network() == "" {
		t.Error("a network without any description")
	}
}

// endpoints is a connection that has only addresses.
type endpoints struct {
	net.Conn
	local, remote net.Addr
}

func (e endpoints) LocalAddr() net.Addr  { return e.local }
func (e endpoints) RemoteAddr() net.Addr { return e.remote }

func TestLocalAddressGone(t *testing.T) {
	for local, want := range map[string]bool{
		"127.0.0.1:4000":    false,
		"127.99.3.1:4000":   false,
		"[::1]:4000":        false,
		"192.0.2.44:4000":   true, // RFC 5737: nobody's
		"[2001:db8::7]:400": true,
	} {
		addr, err := net.ResolveTCPAddr("tcp", local)
		if err != nil {
			t.Fatal(err)
		}
		if got := localAddressGone(endpoints{local: addr}); got != want {
			t.Errorf("local address %s gone: got %v, want %v", local, got, want)
		}
	}
	pipe, _ := net.Pipe()
	if localAddressGone(pipe) {
		t.Error("a pipe has no address, and lost one")
	}
}
