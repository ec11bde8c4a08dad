package tunnel_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// puppet is a server that stops to act by itself at a packet, and then does
// what a test says. From there on it only notes what the client sends.
type puppet struct {
	*pair
	stopAt string                // what is held back: a packet sent, or received
	state  chan *tunneltest.Conn // yields the connection once the place is reached

	mu   sync.Mutex
	on   bool
	held []byte   // the packet, if the server was about to send it
	came []string // from the client meanwhile
}

func newPuppet(t *testing.T, stopAt string) *puppet {
	t.Helper()
	p := &puppet{stopAt: stopAt, state: make(chan *tunneltest.Conn, 1)}
	p.pair = newFaultPair(t, tunneltest.Config{Hook: p.hook})
	return p
}

func (p *puppet) hook(c *tunneltest.Conn, e tunneltest.Event) bool {
	if e.Kind != tunneltest.EventSending && e.Kind != tunneltest.EventReceived {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.on && e.Name == p.stopAt && p.held == nil {
		p.on = true
		p.held = bytes.Clone(e.Packet)
		p.state <- c
		return true
	}
	if p.on && e.Kind == tunneltest.EventReceived {
		p.came = append(p.came, describe(e))
	}
	return p.on
}

// take stops the server where it is, as at stopAt.
func (p *puppet) take() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on = true
}

// release lets the server act by itself again, beginning with what was held.
func (p *puppet) release(c *tunneltest.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on = false
	if p.held != nil {
		c.Send(p.held)
	}
}

func (p *puppet) saw() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.came)
}

// describe is a packet's name, of an abort with its status.
func describe(e tunneltest.Event) string {
	if e.Name != "Call Abort" {
		return e.Name
	}
	m, _ := sstp.ParseMessage(e.Packet[sstp.HeaderLen:])
	info, _ := m.StatusInfo()
	return fmt.Sprintf("Call Abort %d", info.Status)
}

// message is a control packet.
func message(t sstp.MessageType, attributes ...sstp.Attribute) []byte {
	return sstp.Message{Type: t, Attributes: attributes}.Append(nil)
}

var bindingRequest = sstp.CryptoBindingRequest{Hashes: sstp.HashSHA256}.Attribute()

// lyingEcho is an Echo Request that counts an attribute it does not have.
var lyingEcho = []byte{0x10, 0x01, 0x00, 0x08, 0x00, 0x08, 0x00, 0x01}

// outcome is what a cell of the table wants: what the client sends, how the
// session ends, and how long after the event.
type outcome struct {
	sends string
	ends  string // "" goes on
	after time.Duration
}

var (
	goesOn   = outcome{}
	aborts4  = outcome{"Call Abort 4", "own abort", 3 * time.Second}
	aborts5  = outcome{"Call Abort 5", "own abort", 3 * time.Second}
	aborts7  = outcome{"Call Abort 7", "own abort", 3 * time.Second}
	aborts9  = outcome{"Call Abort 9", "own abort", 3 * time.Second}
	aborted  = outcome{"Call Abort 0", "abort", time.Second}
	hungUp   = outcome{"Call Disconnect Ack", "disconnect", time.Second}
	answers  = outcome{sends: "Echo Response"}
	rejects  = outcome{sends: "LCP Code-Reject"}
	repeats  = outcome{sends: "Call Connect Request"}
	lostNow  = outcome{ends: "lost"}
	endsNow  = outcome{ends: "same"}
	passes   = outcome{ends: "same", after: -1} // the timer that runs decides
	waits1s  = outcome{ends: "same", after: time.Second}
	answers1 = outcome{"Call Abort 0", "same", time.Second}
	acks1    = outcome{"Call Disconnect Ack", "same", time.Second}
)

// states are the columns of protocol table 3.2, how a session gets there, what
// ends it anyway, and when: that is the timer of the state.
var states = []struct {
	name   string
	stopAt string
	enter  func(*tunneltest.Conn, *tunnel.Session) // from a session that is up
	ends   string
	timer  time.Duration
}{
	{name: "request sent", stopAt: "Call Connect Ack"},
	{name: "ack received", stopAt: "CHAP Challenge"},
	{name: "connected", enter: func(*tunneltest.Conn, *tunnel.Session) {}},
	{"abort pending", "Call Abort", func(c *tunneltest.Conn, _ *tunnel.Session) { c.Send(message(sstp.CallConnectNak)) },
		"own abort", 3 * time.Second},
	{"abort timeout pending", "Call Abort", func(c *tunneltest.Conn, _ *tunnel.Session) { c.Send(message(sstp.CallAbort)) },
		"abort", time.Second},
	{"disconnect ack pending", "Call Disconnect", func(_ *tunneltest.Conn, s *tunnel.Session) { go s.Close() },
		"closed", 5 * time.Second},
	{"disconnect timeout pending", "Call Disconnect Ack", func(c *tunneltest.Conn, _ *tunnel.Session) { c.Send(message(sstp.CallDisconnect)) },
		"disconnect", time.Second},
}

// table is section 3.2.5 of [MS-SSTP], a row for each thing a server can send
// or do, a column for each state. Two cells are milder than the specification;
// see package sstp.
var table = []struct {
	name  string
	do    func(*tunneltest.Conn)
	cells [7]outcome
}{
	{"ack", send(message(sstp.CallConnectAck, bindingRequest)),
		[7]outcome{{sends: "LCP Configure-Request", ends: "auth"}, aborts5, aborts5, passes, passes, passes, passes}},
	{"ack without binding", send(message(sstp.CallConnectAck)),
		[7]outcome{aborts9, aborts5, aborts5, passes, passes, passes, passes}},
	{"ack with unknown hash", send(message(sstp.CallConnectAck, sstp.CryptoBindingRequest{Hashes: 0x40}.Attribute())),
		[7]outcome{aborts4, aborts5, aborts5, passes, passes, passes, passes}},
	{"nak", send(message(sstp.CallConnectNak)),
		[7]outcome{repeats, aborts5, aborts5, passes, passes, passes, passes}},
	{"abort", send(message(sstp.CallAbort)),
		[7]outcome{aborted, aborted, aborted, waits1s, passes, answers1, passes}},
	{"disconnect", send(message(sstp.CallDisconnect)),
		[7]outcome{hungUp, hungUp, hungUp, passes, passes, acks1, passes}},
	{"disconnect ack", send(message(sstp.CallDisconnectAck)),
		[7]outcome{aborts5, aborts5, aborts5, passes, passes, endsNow, passes}},
	{"echo request", send(message(sstp.EchoRequest)),
		[7]outcome{aborts5, answers, answers, passes, passes, passes, passes}},
	{"echo response", send(message(sstp.EchoResponse)),
		[7]outcome{aborts5, aborts5, goesOn, passes, passes, passes, passes}},
	{"connect request", send(message(sstp.CallConnectRequest)),
		[7]outcome{aborts5, aborts5, aborts5, passes, passes, passes, passes}},
	{"connected", send(message(sstp.CallConnected)),
		[7]outcome{aborts5, aborts5, aborts5, passes, passes, passes, passes}},
	{"unknown message", send(message(0x77)),
		[7]outcome{aborts7, aborts7, goesOn, passes, passes, passes, passes}},
	{"malformed message", send(lyingEcho),
		[7]outcome{aborts7, aborts7, aborts7, passes, passes, passes, passes}},
	{"ppp control frame", send(sstp.AppendData(nil, ppp.AppendFrame(nil, ppp.ProtoLCP, []byte{0x7F, 1, 0, 4}))),
		[7]outcome{goesOn, rejects, rejects, passes, passes, passes, passes}},
	{"ip frame", send(framed(ipPacket(4, 40, 1))),
		[7]outcome{goesOn, goesOn, goesOn, passes, passes, passes, passes}},
	{"no packet", send([]byte("HTTP/1.1 400\r\n")),
		[7]outcome{lostNow, lostNow, lostNow, endsNow, endsNow, endsNow, endsNow}},
	{"end of TLS", (*tunneltest.Conn).Cut,
		[7]outcome{lostNow, lostNow, lostNow, endsNow, endsNow, endsNow, endsNow}},
	{"reset", (*tunneltest.Conn).Reset,
		[7]outcome{lostNow, lostNow, lostNow, endsNow, endsNow, endsNow, endsNow}},
}

func send(packet []byte) func(*tunneltest.Conn) {
	return func(c *tunneltest.Conn) { c.Send(packet) }
}

// TestEveryMessageInEveryState holds every cell against the wire and the error.
func TestEveryMessageInEveryState(t *testing.T) {
	for _, row := range table {
		for column, state := range states {
			t.Run(row.name+" in "+state.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					c := newCell(t, state.stopAt, state.enter)
					want := row.cells[column]
					const pause = 500 * time.Millisecond // within every timer
					<-time.After(pause)                  // of the bubble's clock
					row.do(c.conn)
					c.judge(want, state.ends, state.timer-pause)
				})
			})
		}
	}
}

// cell is a client in one state of the table.
type cell struct {
	*puppet
	conn    *tunneltest.Conn
	session *tunnel.Session
	dialing bool       // session is not there yet
	ended   chan error // of Dial, or of Run once Dial is done
}

func newCell(t *testing.T, stopAt string, enter func(*tunneltest.Conn, *tunnel.Session)) *cell {
	t.Helper()
	c := &cell{puppet: newPuppet(t, stopAt), ended: make(chan error, 1)}
	if enter == nil {
		c.dialing = true
		go func() { // ends with Dial
			var err error
			c.session, err = tunnel.Dial(t.Context(), c.cfg)
			c.ended <- err
		}()
		c.conn = <-c.state
		synctest.Wait()
		return c
	}
	c.session = c.dial()
	go func() { c.ended <- c.session.Run(t.Context(), newNear().packets()) }() // ends with the session
	synctest.Wait()
	c.conn = c.server.Sessions()[0]
	if stopAt == "" {
		c.take()
	}
	enter(c.conn, c.session)
	synctest.Wait()
	return c
}

// judge waits for the end, if there is to be one, and compares.
func (c *cell) judge(want outcome, stateEnds string, left time.Duration) {
	c.t.Helper()
	if want.after < 0 {
		want.after = left
	}
	if want.ends == "same" {
		want.ends = stateEnds
	}
	start := time.Now()
	synctest.Wait()
	if want.ends == "" || want.ends == "auth" {
		c.goOn(want)
		return
	}
	err := <-c.ended
	if !endsAs(err, want.ends) {
		c.t.Errorf("ended with %v, want %q", err, want.ends)
	}
	if d := time.Since(start); d != want.after {
		c.t.Errorf("ended %v after the event, want %v", d, want.after)
	}
	if want.sends == "" {
		c.wantSent()
	} else {
		c.wantSent(want.sends)
	}
	c.end()
}

// goOn wants a session that was not disturbed: released, the server and the
// client come to an end in order.
func (c *cell) goOn(want outcome) {
	c.t.Helper()
	if want.sends == "" {
		c.wantSent()
	} else {
		c.wantSent(want.sends)
	}
	if want.ends == "auth" {
		c.end() // the server's own call knows nothing of the Ack
		<-c.ended
		return
	}
	c.release(c.conn)
	if c.dialing {
		if err := <-c.ended; err != nil {
			c.t.Fatalf("Dial = %v, want it to go on", err)
		}
		c.session.Close()
	} else {
		c.session.Close()
		if err := <-c.ended; err != nil {
			c.t.Errorf("Run = %v, want it to go on", err)
		}
	}
	synctest.Wait()
	c.want(tunneltest.EventCallDisconnect, tunneltest.EventCloseNotify)
	c.end()
}

// wantSent compares what the client has sent since the event.
func (c *cell) wantSent(want ...string) {
	c.t.Helper()
	if got := c.saw(); !slices.Equal(got, want) {
		c.t.Errorf("client sent %v, want %v", got, want)
	}
}

// endsAs tells whether an error is the one for a kind of end.
func endsAs(err error, kind string) bool {
	abort, _ := errors.AsType[*sstp.AbortError](err)
	switch kind {
	case "own abort":
		return abort != nil && !abort.ByPeer
	case "abort":
		return abort != nil && abort.ByPeer
	case "disconnect":
		return as[*sstp.DisconnectError](err)
	case "lost":
		return errors.Is(err, sstp.ErrLinkLost)
	}
	return kind == "closed" && err == nil
}
