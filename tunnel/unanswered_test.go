package tunnel_test

import (
	"testing"
	"testing/synctest"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// TestUnanswered: a server that ends the session instead of answering the
// credentials has refused them, whatever its words are, and does not get them
// again. The end of TCP alone may be the network's doing.
func TestUnanswered(t *testing.T) {
	methods := map[string]struct {
		method tunneltest.Method
		answer string
	}{
		"PAP":       {tunneltest.PAP, "PAP Authenticate-Ack"},
		"CHAP-MD5":  {tunneltest.CHAPMD5, "CHAP Success"},
		"MS-CHAPv2": {tunneltest.MSCHAPv2, "CHAP Success"},
	}
	for end, row := range map[string]struct {
		do      func(*tunneltest.Conn)
		refused bool
	}{
		"Terminate-Request": {func(c *tunneltest.Conn) {
			c.SendFrame(ppp.ProtoLCP, ppp.Packet{Code: ppp.TerminateRequest, Identifier: 99})
		}, true},
		"Call Disconnect": {send(message(sstp.CallDisconnect)), true},
		"Call Abort":      {send(message(sstp.CallAbort)), true},
		"close_notify":    {(*tunneltest.Conn).Leave, true},
		"FIN":             {(*tunneltest.Conn).Cut, false},
		"RST":             {(*tunneltest.Conn).Reset, false},
	} {
		for name, m := range methods {
			t.Run(end+" after "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := &puppet{stopAt: m.answer, state: make(chan *tunneltest.Conn, 1)}
					p.pair = newFaultPair(t, tunneltest.Config{Hook: p.hook, Methods: []tunneltest.Method{m.method}})
					p.cfg.AllowPAP = true
					ended := make(chan error, 1)
					go func() { // ends with Dial
						_, err := tunnel.Dial(t.Context(), p.cfg)
						ended <- err
					}()
					conn := <-p.state
					synctest.Wait()
					row.do(conn)
					err := <-ended
					if got := as[*ppp.AuthError](err); got != row.refused || tunnel.Permanent(err) != row.refused {
						t.Errorf("Dial = %v, permanent %t; want refused %t", err, tunnel.Permanent(err), row.refused)
					}
					if o := tunnel.OriginOf(err); row.refused && o != (tunnel.Origin{By: tunnel.PartyServer, Layer: "authentication"}) {
						t.Errorf("origin %v", o)
					}
					p.end()
				})
			})
		}
	}
}

// The same ends before the credentials went out, or after they were taken, say
// nothing about them.
func TestAnsweredOrNotAsked(t *testing.T) {
	for _, stopAt := range []string{"CHAP Challenge", "IPCP Configure-Ack"} {
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet(t, stopAt)
			ended := make(chan error, 1)
			go func() { // ends with Dial
				_, err := tunnel.Dial(t.Context(), p.cfg)
				ended <- err
			}()
			conn := <-p.state
			synctest.Wait()
			conn.Send(message(sstp.CallDisconnect))
			if err := <-ended; !as[*sstp.DisconnectError](err) || as[*ppp.AuthError](err) || tunnel.Permanent(err) {
				t.Errorf("at %s: Dial = %v", stopAt, err)
			}
			p.end()
		})
	}
}
