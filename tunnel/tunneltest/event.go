package tunneltest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// EventKind says what happened on a connection.
type EventKind uint8

// The events in the order a good session has them. Those that name a message
// without "Sent" tell that the client sent it.
const (
	EventAccepted             EventKind = iota + 1 // a TCP connection was given to the server
	EventTLS                                       // the TLS handshake is done
	EventHTTPRequest                               // the HTTPS request was accepted and answered with 200
	EventHTTPRefused                               // the HTTPS request was refused; Detail says why
	EventCallConnectRequest                        // an acceptable Call Connect Request
	EventCallConnectNak                            // a Call Connect Request was refused; Detail says why
	EventLCPOpened                                 // LCP reached Opened
	EventCredentials                               // the client sent a CHAP Response or a PAP Authenticate-Request, right or wrong; Detail is the method
	EventAuthenticated                             // the client proved its password; Detail is the method
	EventAuthenticationFailed                      // it did not; Detail says why
	EventCallConnected                             // Call Connected was taken; the call is up
	EventBindingVerified                           // nonce, certificate hash and compound MAC were right; Detail is the hash protocol
	EventBindingRefused                            // they were not, or missing; Detail says which. Also recorded by servers that do not care
	EventIPCPOpened                                // IPCP reached Opened; Detail is the address
	EventIPV6CPOpened                              // IPV6CP reached Opened; Detail is the client's interface identifier
	EventFirstPacket                               // the first IP packet the server took
	EventEarlyPacket                               // the first IP packet that came before the network was up, and was dropped
	EventEchoRequest                               // SSTP Echo Request
	EventEchoResponse                              // SSTP Echo Response
	EventLCPEchoRequest                            // LCP Echo-Request
	EventLCPEchoReply                              // LCP Echo-Reply
	EventProtocolReject                            // LCP Protocol-Reject; Detail is the protocol
	EventCodeReject                                // LCP Code-Reject
	EventNoCommonMethod                            // the client took none of the server's methods
	EventTerminateRequest                          // LCP Terminate-Request
	EventTerminateAck                              // LCP Terminate-Ack
	EventCallDisconnect                            // Call Disconnect; Detail is its reason
	EventCallDisconnectAck                         // Call Disconnect Ack
	EventCallAbort                                 // Call Abort; Detail is its reason
	EventCloseNotify                               // TLS ended with close_notify
	EventLost                                      // TLS ended otherwise; Detail is the error
	EventEnded                                     // the session is over; Detail says why. Always the last one
)

// Two kinds that go to [Config.Hook] only and are not recorded. Name says what
// the packet is, Packet has its octets.
const (
	EventSending  EventKind = 100 + iota // the server is about to send Packet
	EventReceived                        // the server has received Packet
)

var eventNames = map[EventKind]string{
	EventAccepted: "accepted", EventTLS: "TLS", EventHTTPRequest: "HTTP request",
	EventHTTPRefused: "HTTP refused", EventCallConnectRequest: "Call Connect Request",
	EventCallConnectNak: "Call Connect Nak", EventLCPOpened: "LCP opened",
	EventCredentials: "credentials", EventAuthenticated: "authenticated", EventAuthenticationFailed: "authentication failed",
	EventCallConnected: "Call Connected", EventBindingVerified: "binding verified",
	EventBindingRefused: "binding refused", EventIPCPOpened: "IPCP opened",
	EventIPV6CPOpened: "IPV6CP opened", EventFirstPacket: "first packet",
	EventEarlyPacket: "early packet", EventEchoRequest: "Echo Request",
	EventEchoResponse: "Echo Response", EventLCPEchoRequest: "LCP Echo-Request",
	EventLCPEchoReply: "LCP Echo-Reply", EventProtocolReject: "Protocol-Reject",
	EventCodeReject: "Code-Reject", EventNoCommonMethod: "no common method",
	EventTerminateRequest: "Terminate-Request", EventTerminateAck: "Terminate-Ack",
	EventCallDisconnect: "Call Disconnect", EventCallDisconnectAck: "Call Disconnect Ack",
	EventCallAbort: "Call Abort", EventCloseNotify: "close_notify", EventLost: "lost",
	EventEnded: "ended", EventSending: "sending", EventReceived: "received",
}

// String is the event in words.
func (k EventKind) String() string {
	if s, ok := eventNames[k]; ok {
		return s
	}
	return fmt.Sprintf("EventKind(%d)", uint8(k))
}

// Event is one thing that happened.
type Event struct {
	Kind EventKind
	// Conn is the connection it happened on.
	Conn *Conn
	// Time is when, by the clock of the time package.
	Time time.Time
	// Detail says more in words; never a password, a key or a response.
	Detail string
	// Name and Packet describe the packet of an EventSending or EventReceived:
	// "HTTP reply", "Call Connect Ack", "LCP Configure-Request" and so on, and
	// its octets as on the wire, borrowed until the hook returns.
	Name   string
	Packet []byte
}

// String is the event on one line.
func (e Event) String() string {
	s := e.Kind.String()
	if e.Name != "" {
		s += " " + e.Name
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// eventsKept bounds the memory of a server that runs for long: the oldest
// events give way.
const eventsKept = 4096

// eventLog is a list one can wait on.
type eventLog struct {
	mu      sync.Mutex
	events  []Event
	counts  map[EventKind]int
	changed chan struct{} // closed and replaced by every event
}

func newEventLog() *eventLog {
	return &eventLog{counts: make(map[EventKind]int), changed: make(chan struct{})}
}

func (l *eventLog) record(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == eventsKept {
		l.events = slices.Delete(l.events, 0, eventsKept/4)
	}
	l.events = append(l.events, e)
	l.counts[e.Kind]++
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *eventLog) all() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

func (l *eventLog) count(k EventKind) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[k]
}

// wait returns the first kept event that match accepts, once there is one.
func (l *eventLog) wait(ctx context.Context, match func(Event) bool) (Event, error) {
	for {
		l.mu.Lock()
		i := slices.IndexFunc(l.events, match)
		changed := l.changed
		if i >= 0 {
			e := l.events[i]
			l.mu.Unlock()
			return e, nil
		}
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// waitCount waits until there have been n events of kind k.
func (l *eventLog) waitCount(ctx context.Context, k EventKind, n int) error {
	for {
		l.mu.Lock()
		enough, changed := l.counts[k] >= n, l.changed
		l.mu.Unlock()
		if enough {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
