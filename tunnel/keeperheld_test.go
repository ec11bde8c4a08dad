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

// vanish loses the session without the server's knowledge.
func (j *jealous) vanish() {
	j.server.Sessions()[0].HalfOpen()
	j.host <- slept
	j.until("the loss", func(s tunnel.State) bool { return !s.IsUp() })
}

// A server with one session per account refuses the login until it has noticed
// the loss of the session before. A refusal is final all the same, but the error
// tells what it may be where nothing else is known. Nobody's account is locked.
func TestKeeperRefusedAfterLoss(t *testing.T) {
	vanish := func(j *jealous) { j.vanish() }
	for _, tt := range []struct {
		name    string
		change  func(*tunnel.KeeperConfig)
		lose    func(*jealous)
		message string
		held    bool
	}{
		{name: "lost", lose: vanish, held: true},
		{name: "lost, refused with R=1", lose: vanish, message: "E=691 R=1 V=3", held: true},
		{name: "server ended it", lose: func(j *jealous) { j.server.Sessions()[0].Terminate("") }},
		{name: "asked for", lose: func(j *jealous) { j.keeper.Reconnect() }},
		{name: "restricted hours", lose: vanish, message: "E=646 R=0 V=3"},
		{name: "disabled", lose: vanish, message: "E=647 R=0 V=3"},
		{name: "expired", lose: vanish, message: "E=648 R=0 V=3"},
		{name: "no permission", lose: vanish, message: "E=649 R=0 V=3"},
		{name: "one-time password", change: func(c *tunnel.KeeperConfig) {
			c.Secret = func(context.Context) (string, error) { return "wonderland", nil }
		}, lose: vanish},
		{name: "long ago", lose: func(j *jealous) {
			j.refuseWith(syscall.ENETUNREACH)
			j.vanish()
			time.Sleep(noticing)
			j.refuseWith(nil)
			j.keeper.Reconnect()
		}},
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
				err := <-j.ended
				if !as[*ppp.AuthError](err) || errors.Is(err, tunnel.ErrSessionHeld) != tt.held {
					t.Errorf("Run = %v, want the refusal; by a server that may hold the session: %v", err, tt.held)
				}
				if tunnel.OriginOf(err).Layer != "authentication" {
					t.Errorf("layer %q", tunnel.OriginOf(err).Layer)
				}
				if n := j.refused.Load(); n != 1 {
					t.Errorf("%d logins refused, want 1", n)
				}
				j.stop()
				j.server.Close()
			})
		})
	}
}
