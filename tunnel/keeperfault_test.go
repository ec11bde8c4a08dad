package tunnel_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/tunneltest"
)

// TestKeeperThroughFaults loses a session and has the next connection fail, in
// each phase and each way: the Keeper tries again until there is a session.
func TestKeeperThroughFaults(t *testing.T) {
	for _, place := range places {
		for _, do := range []tunneltest.Fault{
			tunneltest.FaultCut, tunneltest.FaultReset, tunneltest.FaultHalfOpen, tunneltest.FaultStall, tunneltest.FaultGarbage,
		} {
			t.Run(fmt.Sprint(place.name, " ", do), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					accepted := 0
					var server *tunneltest.Server
					k := newKept(t, tunneltest.Config{Hook: func(_ *tunneltest.Conn, e tunneltest.Event) bool {
						if e.Kind == tunneltest.EventAccepted {
							if accepted++; accepted == 2 {
								server.Line().Script() // this one has its faults already
							}
						}
						return false
					}})
					server = k.server
					k.start()
					k.session(1)
					step := place.step
					step.Do, step.Octets = do, 500
					server.Line().Script(step)
					start := time.Now()
					server.Line().Cut()
					k.session(2)
					if d := time.Since(start); d > 2*time.Minute {
						t.Errorf("up again after %v", d)
					}
					if n := server.Count(tunneltest.EventCredentials); n > 3 {
						t.Errorf("credentials sent %d times in three connections", n)
					}
					k.end()
				})
			})
		}
	}
}

// TestKeeperAtClosedDoors: whatever new connections meet for a minute, the
// Keeper is up again soon after, with the same address.
func TestKeeperAtClosedDoors(t *testing.T) {
	for name, welcome := range map[string]tunneltest.Welcome{
		"reset": tunneltest.WelcomeReset, "closed": tunneltest.WelcomeClosed, "silence": tunneltest.WelcomeSilence,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKept(t, tunneltest.Config{Sticky: true})
				k.start()
				before := k.session(1)
				k.server.Line().Welcome(welcome, time.Minute)
				start := time.Now()
				k.server.Line().Cut()
				after := k.session(2)
				if d := time.Since(start); d < time.Minute || d > 3*time.Minute {
					t.Errorf("up again after %v", d)
				}
				if after.Info.IPv4.Addr != before.Info.IPv4.Addr {
					t.Errorf("address %v, then %v", before.Info.IPv4.Addr, after.Info.IPv4.Addr)
				}
				k.end()
			})
		})
	}
}

// TestRefusedIsPermanent: a server that says that the binding is wrong would say
// so again; a connection that breaks behind Call Connected need not.
func TestRefusedIsPermanent(t *testing.T) {
	for name, tt := range map[string]struct {
		quirks tunneltest.Quirks
		script []tunneltest.Step
		want   bool
	}{
		"abort": {quirks: tunneltest.Quirks{SSTP: tunneltest.SSTPQuirks{NoKeys: true}}, want: true},
		"cut":   {script: []tunneltest.Step{{Event: tunneltest.EventCallConnected, Do: tunneltest.FaultCut}}},
		"reset": {script: []tunneltest.Step{{Event: tunneltest.EventCallConnected, Do: tunneltest.FaultReset}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newFaultPair(t, tunneltest.Config{Quirks: tt.quirks, Script: tt.script})
				err := p.fail()
				if !as[*tunnel.BindingError](err) || tunnel.Permanent(err) != tt.want {
					t.Errorf("Dial = %v, permanent %v, want a *BindingError, %v", err, tunnel.Permanent(err), tt.want)
				}
				p.end()
			})
		})
	}
}
