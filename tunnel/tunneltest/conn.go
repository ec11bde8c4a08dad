package tunneltest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// Conn is one connection to the server, from TCP to IP packets. Its methods
// may be called from any goroutine and from [Config.Hook]; they return at once
// and their effect follows. After the connection has ended they do nothing.
type Conn struct {
	server *Server
	quirks *Quirks
	wire   *lineConn // below raw
	raw    *rawConn
	pool   *pool
	tls    *tls.Conn
	out    *outbox
	data   dataPath

	hands  handoff // what the reader gives to the loop
	posted *posts  // what other goroutines want done on it

	// State of the loop's own.
	alarms [numAlarms]alarmClock
	call   call
	link   link
	over   bool
	why    string

	mu   sync.Mutex
	info Info
	hlak [32]byte
}

// handoff gives the loop one thing at a time.
type handoff struct {
	in      chan inbound
	handled chan struct{} // the loop is done with it
	ended   chan struct{} // closed when the loop has ended
}

// Info is what a session has agreed on so far. Zero fields are still open.
type Info struct {
	// RemoteAddr is the client's address outside the tunnel.
	RemoteAddr net.Addr
	// User is the name the client gave.
	User string
	// Method is how it authenticated, once it has.
	Method Method
	// Hash is the hash protocol of the Call Connected.
	Hash sstp.HashProtocol
	// Addr is the client's IPv4 address.
	Addr netip.Addr
	// MTU is the largest IP packet the client takes, in octets.
	MTU int
	// InterfaceID is the client's IPv6 interface identifier.
	InterfaceID [8]byte
}

// inbound is one thing the reader hands to the loop. The payload is borrowed
// until the loop is done with it.
type inbound struct {
	kind    inboundKind
	payload []byte
	err     error
}

type inboundKind uint8

const (
	inboundControl inboundKind = iota // payload of an SSTP control packet
	inboundFrame                      // PPP frame that is no IP packet
	inboundFirst                      // the first IP packet was taken
	inboundEarly                      // the first IP packet that was dropped
	inboundFraming                    // the octets are no SSTP packet
	inboundEnd                        // nothing more will come: err says why
)

// flushTimeout bounds how long a client that does not read may hold up the end.
const flushTimeout = 3 * time.Second

func newConn(s *Server, wire *lineConn) *Conn {
	raw := newRawConn(wire)
	c := &Conn{
		server: s, quirks: &s.cfg.Quirks, wire: wire, raw: raw, pool: s.pool, tls: tls.Server(raw, s.tls),
		out: newOutbox(), hands: newHandoff(), posted: newPosts(),
	}
	c.info.RemoteAddr = wire.RemoteAddr()
	c.data.start = time.Now()
	return c
}

func newHandoff() handoff {
	return handoff{in: make(chan inbound), handled: make(chan struct{}), ended: make(chan struct{})}
}

// HLAK returns the key of the crypto binding as the server has it, for tests
// to compare: a secret, zero before authentication and after PAP or CHAP-MD5.
func (c *Conn) HLAK() [32]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hlak
}

// Info returns what is agreed so far.
func (c *Conn) Info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info
}

func (c *Conn) setInfo(set func(*Info)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set(&c.info)
}

// serve runs the connection to its end and leaves nothing behind.
func (c *Conn) serve() {
	c.record(EventAccepted, "")
	var goroutines sync.WaitGroup
	if c.handshake() {
		goroutines.Go(c.writer) // ends when out is finished or a write fails
		if rest, ok := c.exchange(); ok {
			c.raw.SetDeadline(time.Time{})
			goroutines.Go(func() { c.reader(rest) }) // ends when TLS or the loop has
			c.loop()
		}
	}
	close(c.hands.ended)
	c.raw.SetWriteDeadline(time.Now().Add(flushTimeout))
	c.out.finish()
	goroutines.Wait()
	c.raw.Close()
	c.raw.release()
	if n := c.data.network.Load(); n != nil && n.Detach != nil {
		n.Detach()
	}
	c.server.logout(c)
	if c.link.lease.IsValid() {
		c.pool.release(c.link.lease)
	}
	c.record(EventEnded, c.why)
}

func (c *Conn) handshake() bool {
	c.raw.SetDeadline(time.Now().Add(httpTimeout))
	if err := c.tls.HandshakeContext(context.Background()); err != nil {
		c.why = "TLS: " + err.Error()
		return false
	}
	c.record(EventTLS, tls.VersionName(c.tls.ConnectionState().Version))
	return true
}

// loop owns all state. A turn waits for one thing and handles it.
func (c *Conn) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	c.beginCall()
	for !c.over {
		timer.Reset(c.untilAlarm())
		select {
		case m := <-c.hands.in:
			c.receive(m)
			c.hands.handled <- struct{}{}
		case <-timer.C:
			c.fireAlarms(time.Now())
		case <-c.posted.wake:
			c.posted.run()
		case err := <-c.out.failed:
			c.end("write: " + err.Error())
		}
	}
}

func (c *Conn) receive(m inbound) {
	switch m.kind {
	case inboundControl:
		c.receiveControl(m.payload)
	case inboundFrame:
		c.receiveFrame(m.payload)
	case inboundFirst:
		c.record(EventFirstPacket, "")
	case inboundEarly:
		c.record(EventEarlyPacket, "")
	case inboundFraming:
		// "… the TLS connection is dropped without any message" (3.1.5.1)
		c.end(m.err.Error())
	case inboundEnd:
		c.receiveEnd(m.err)
	}
}

// receiveEnd tells close_notify from a bare end of TCP. crypto/tls takes both
// for io.EOF when the latter falls between two records.
func (c *Conn) receiveEnd(err error) {
	if errors.Is(err, io.EOF) && !c.raw.eof.Load() {
		c.record(EventCloseNotify, "")
	} else {
		c.record(EventLost, err.Error())
	}
	c.end("the client ended the connection")
}

// end leaves the loop after this turn.
func (c *Conn) end(why string) {
	if !c.over {
		c.over, c.why = true, why
	}
	c.data.close()
}

// record notes an event and shows it to the hook.
func (c *Conn) record(k EventKind, detail string) {
	e := Event{Kind: k, Conn: c, Time: time.Now(), Detail: detail}
	c.server.cfg.Logger.Debug("event", "peer", c.info.RemoteAddr, "event", k, "detail", detail)
	c.server.log.record(e)
	if hook := c.server.cfg.Hook; hook != nil {
		hook(c, e)
	}
	c.strike(func(s Step) bool { return s.Event == k })
}

// hooked shows a packet to the hook and reports whether it took it.
func (c *Conn) hooked(k EventKind, name string, packet []byte) bool {
	hook := c.server.cfg.Hook
	return hook != nil && hook(c, Event{Kind: k, Conn: c, Time: time.Now(), Name: name, Packet: packet})
}

// emit sends octets of the server's own, unless the hook takes them.
func (c *Conn) emit(name string, packet []byte) {
	c.strike(func(s Step) bool { return s.Sending == name })
	c.server.cfg.Logger.Debug("sent", "peer", c.info.RemoteAddr, "proto", name)
	if !c.hooked(EventSending, name, packet) {
		c.out.push(packet)
	}
}

// Send sends octets as they are, into the TLS stream.
func (c *Conn) Send(octets []byte) { c.out.push(octets) }

// SendMessage sends an SSTP control message.
func (c *Conn) SendMessage(m sstp.Message) { c.out.push(m.Append(nil)) }

// SendFrame sends a PPP control packet in a frame with the full header.
func (c *Conn) SendFrame(p ppp.Protocol, packet ppp.Packet) {
	c.out.push(sstp.AppendData(nil, ppp.AppendFrame(nil, p, packet.Append(nil))))
}

// Disconnect ends the call with a Call Disconnect that gives status.
func (c *Conn) Disconnect(status sstp.Status) {
	c.posted.add(func() { c.disconnect(sstp.StatusInfo{Status: status}) })
}

// Abort ends the call with a Call Abort that gives info.
func (c *Conn) Abort(info sstp.StatusInfo) { c.posted.add(func() { c.abort(info) }) }

// Terminate ends the link with an LCP Terminate-Request that carries text, and
// then the call.
func (c *Conn) Terminate(text string) { c.posted.add(func() { c.terminate(text) }) }

// Renegotiate begins LCP anew, and with it authentication and the network
// protocols (RFC 1661 §4.1, Opened).
func (c *Conn) Renegotiate() {
	c.posted.add(func() {
		if c.alive() && c.link.lcp != nil && !c.link.terminating {
			c.link.lcp.restart()
		}
	})
}

// ChangeAddress negotiates IPCP anew and gives the client another address of
// the pool.
func (c *Conn) ChangeAddress() { c.posted.add(c.changeAddress) }

// Challenge challenges the client again (RFC 1994 §2).
func (c *Conn) Challenge() { c.posted.add(c.challengeAgain) }

// Echo sends an SSTP Echo Request.
func (c *Conn) Echo() {
	c.posted.add(func() { c.sendMessage(sstp.Message{Type: sstp.EchoRequest}) })
}

// LCPEcho sends an LCP Echo-Request with the magic number agreed on.
func (c *Conn) LCPEcho() { c.posted.add(c.sendLCPEcho) }

// TimeRemaining tells the client, by LCP Time-Remaining (RFC 1570 §1.2), how
// long the session will last, in whole seconds. Nothing is done about it.
func (c *Conn) TimeRemaining(d time.Duration, text string) {
	c.posted.add(func() { c.sendTimeRemaining(d, text) })
}

// Leave ends TLS with a close_notify, without a word of SSTP.
func (c *Conn) Leave() { c.posted.add(func() { c.end("left") }) }

// Kill closes TCP without a word to the client.
func (c *Conn) Kill() { c.wire.Close() }

// Cut, Reset, HalfOpen and Stall do to this connection what those of [Line] do
// to all.
func (c *Conn) Cut() { c.wire.cut() }

// Reset ends the connection by RST.
func (c *Conn) Reset() { c.wire.reset() }

// HalfOpen makes the server's host vanish.
func (c *Conn) HalfOpen() { c.wire.vanish() }

// Stall lets nothing pass for d, whose special values are those of [Line.Stall].
func (c *Conn) Stall(d time.Duration) { c.wire.stallFor(d) }

// String names the connection.
func (c *Conn) String() string { return fmt.Sprintf("session from %v", c.Info().RemoteAddr) }
