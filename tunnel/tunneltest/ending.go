package tunneltest

import (
	"encoding/binary"
	"time"

	"sstproxy/tunnel/sstp"
)

// abort sends a Call Abort and waits for the client's (3.1.5.3.1).
func (c *Conn) abort(info sstp.StatusInfo) {
	if !c.alive() {
		return
	}
	c.why = "aborted: " + info.String()
	c.enter(abortPending)
	c.sendMessage(sstp.Message{Type: sstp.CallAbort, Attributes: c.reasonAttribute(sstp.CallAbort, info)})
	c.endAfter(abortTimer1)
}

// disconnect sends a Call Disconnect and waits for its Ack (3.1.5.3.3).
func (c *Conn) disconnect(info sstp.StatusInfo) {
	if !c.alive() {
		return
	}
	c.why = "disconnected: " + info.String()
	c.enter(disconnectAckPending)
	c.sendMessage(sstp.Message{Type: sstp.CallDisconnect, Attributes: c.reasonAttribute(sstp.CallDisconnect, info)})
	c.after(alarmEnd, disconnectTimer1, c.endNow)
}

func (c *Conn) reasonAttribute(t sstp.MessageType, info sstp.StatusInfo) []sstp.Attribute {
	switch q := &c.quirks.SSTP; {
	case q.BareReasons:
		return nil
	case q.ShortReasons:
		id := sstp.AttrStatusInfo
		if t == sstp.CallDisconnect {
			id = sstp.AttrNoError
		}
		return []sstp.Attribute{{ID: id, Value: binary.BigEndian.AppendUint32(nil, uint32(info.Status))}}
	}
	return []sstp.Attribute{info.Attribute()}
}

// abortReceived answers the client's Call Abort, or takes it for the answer.
func (c *Conn) abortReceived() {
	switch {
	case c.call.state == abortTimeoutPending || c.call.state == disconnectTimeoutPending:
		return
	case c.quirks.SSTP.IgnoresDisconnect:
		c.enter(abortTimeoutPending)
		return
	case c.call.state != abortPending:
		c.sendMessage(sstp.Message{
			Type: sstp.CallAbort, Attributes: c.reasonAttribute(sstp.CallAbort, sstp.StatusInfo{}),
		})
	}
	c.enter(abortTimeoutPending)
	c.endAfter(abortTimer2)
}

// disconnectReceived acks the client's Call Disconnect.
func (c *Conn) disconnectReceived() {
	if !c.alive() && c.call.state != disconnectAckPending {
		return
	}
	c.enter(disconnectTimeoutPending)
	if c.quirks.SSTP.IgnoresDisconnect {
		return
	}
	c.sendMessage(sstp.Message{Type: sstp.CallDisconnectAck})
	c.endAfter(disconnectTimer2)
}

func (c *Conn) disconnectAckReceived() {
	c.record(EventCallDisconnectAck, "")
	if c.call.state == disconnectAckPending {
		c.endNow()
	}
}

// enter takes up one of the last states: everything else stops.
func (c *Conn) enter(s callState) {
	c.releaseHeld()
	c.call.state = s
	c.data.close()
	for a := range numAlarms {
		c.stop(a)
	}
}

// endAfter ends the connection after a timer of the specification, or after
// the time the server at hand takes.
func (c *Conn) endAfter(timer time.Duration) {
	if d := c.quirks.SSTP.CloseDelay; d > 0 {
		timer = d
	}
	c.after(alarmEnd, timer, c.endNow)
}

func (c *Conn) endNow() { c.end("the call is over") }

// armEcho starts the hello timer (3.1.2.3).
func (c *Conn) armEcho() {
	c.call.echoing = false
	c.after(alarmEcho, c.echoInterval(), c.echoDue)
}

func (c *Conn) echoInterval() time.Duration {
	if d := c.quirks.SSTP.EchoInterval; d > 0 {
		return d
	}
	return helloTimer
}

// echoDue runs when the hello timer expires: an echo if nothing was heard for
// that long, the end if nothing was heard since the last one either.
func (c *Conn) echoDue() {
	q := &c.quirks.SSTP
	interval, timeout := c.echoInterval(), q.EchoTimeout
	if timeout == 0 {
		timeout = interval
	}
	silence := c.data.silence()
	switch {
	case q.EchoAlways:
		c.sendMessage(sstp.Message{Type: sstp.EchoRequest})
		c.after(alarmEcho, interval, c.echoDue)
	case silence < interval:
		c.call.echoing = false
		c.after(alarmEcho, interval-silence, c.echoDue)
	case !c.call.echoing || silence < interval+timeout:
		c.call.echoing = true
		c.sendMessage(sstp.Message{Type: sstp.EchoRequest})
		c.after(alarmEcho, timeout, c.echoDue)
	case q.EchoAborts:
		c.abort(sstp.StatusInfo{AttribID: sstp.AttrStatusInfo, Status: sstp.StatusInvalidFrameReceived})
	default:
		// "… the TLS connection is closed" (3.1.2.3): no Abort.
		c.end("hello timer: the client is silent")
	}
}
