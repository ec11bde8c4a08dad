package tunnel_test

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/tunneltest"
)

// jealous is a server that refuses logins, once it is told to, with a message.
type jealous struct {
	*kept
	message atomic.Value // string; empty: takes the login
	refused atomic.Int32
}

func newJealous(t *testing.T) *jealous {
	j := &jealous{}
	j.kept = newKept(t, tunneltest.Config{Hook: func(c *tunneltest.Conn, e tunneltest.Event) bool {
		message, _ := j.message.Load().(string)
		if message == "" || e.Kind != tunneltest.EventReceived || e.Name != "CHAP Response" {
			return false
		}
		j.refused.Add(1)
		c.SendFrame(ppp.ProtoCHAP, ppp.Packet{Code: ppp.CHAPFailure, Identifier: e.Packet[6+4+1], Data: []byte(message)})
		return true
	}})
	return j
}

const (
	credentials = "E=691 R=0 V=3 M=Authentication failure"
	noticing    = 150 * time.Second
)

// vanish loses the session without the server's knowledge and returns when.
func (j *jealous) vanish() time.Time {
	j.server.Sessions()[0].HalfOpen()
	j.host <- slept
	s := j.until("the loss", func(s tunnel.State) bool { return !s.IsUp() })
	return s.Since
}

// A server with one session per account refuses the login until it has noticed
// the loss of the session before. It is asked once more when it must have, not
// sooner, and the state tells what is waited for.
func TestKeeperSessionHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJealous(t)
		j.cfg.GiveUpAfter = 10 * time.Minute
		j.start()
		for n := 1; n <= 3; n++ { // each loss has an attempt of its own
			j.session(n)
			j.message.Store(credentials)
			j.refused.Store(0)
			lost := j.vanish()
			s := j.until("the refusal", func(s tunnel.State) bool { return errors.Is(s.Cause, tunnel.ErrSessionHeld) })
			if d := s.NextTry.Sub(lost); d != noticing || !as[*ppp.AuthError](s.Cause) || tunnel.OriginOf(s.Cause).Layer != "authentication" {
				t.Errorf("next try %v after the loss, cause %v", d, s.Cause)
			}
			j.host <- changed // no reason to hurry
			time.Sleep(noticing - 10*time.Second)
			if n := j.refused.Load(); n != 1 {
				t.Errorf("%d logins refused in that time, want 1", n)
			}
			j.message.Store("")
		}
		j.session(4)
		j.end()
	})
}

// Whatever else a refusal may mean ends Run with the first one, or with the one
// after the pause: nobody's account is locked by this.
func TestKeeperRefusedForGood(t *testing.T) {
	vanish := func(j *jealous) { j.vanish() }
	for _, tt := range []struct {
		name    string
		change  func(*tunnel.KeeperConfig)
		lose    func(*jealous)
		message string
		refused int
		after   time.Duration
	}{
		{name: "refused again", lose: vanish, refused: 2, after: noticing},
		{name: "refused with R=1", lose: vanish, message: "E=691 R=1 V=3", refused: 2, after: noticing},
		{name: "server ended it", lose: func(j *jealous) { j.server.Sessions()[0].Terminate("") }, refused: 1},
		{name: "asked for", lose: func(j *jealous) { j.keeper.Reconnect() }, refused: 1},
		{name: "restricted hours", lose: vanish, message: "E=646 R=0 V=3", refused: 1},
		{name: "disabled", lose: vanish, message: "E=647 R=0 V=3", refused: 1},
		{name: "expired", lose: vanish, message: "E=648 R=0 V=3", refused: 1},
		{name: "no permission", lose: vanish, message: "E=649 R=0 V=3", refused: 1},
		{name: "no time", change: func(c *tunnel.KeeperConfig) { c.GiveUpAfter = time.Minute }, lose: vanish, refused: 1},
		{name: "one-time password", change: func(c *tunnel.KeeperConfig) {
			c.Secret = func(context.Context) (string, error) { return "wonderland", nil }
		}, lose: vanish, refused: 1},
		{name: "long ago", lose: func(j *jealous) {
			j.refuseWith(syscall.ENETUNREACH)
			j.vanish()
			time.Sleep(noticing)
			j.refuseWith(nil)
			j.keeper.Reconnect()
		}, refused: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJealous(t)
				if tt.change != nil {
					tt.change(&j.cfg)
				}
				j.start()
				j.session(1)
				synctest.Wait()
				j.message.Store(cmp.Or(tt.message, credentials))
				tt.lose(j)
				start := time.Now()
				err := <-j.ended
				if !as[*ppp.AuthError](err) || errors.Is(err, tunnel.ErrSessionHeld) {
					t.Errorf("Run = %v, want the refusal", err)
				}
				if d := time.Since(start); int(j.refused.Load()) != tt.refused || d < tt.after || d > tt.after+10*time.Second {
					t.Errorf("%d logins refused within %v, want %d within %v", j.refused.Load(), d, tt.refused, tt.after)
				}
				j.stop()
				j.server.Close()
			})
		})
	}
}
