package sstp

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrNegotiationTimeout: the server did not answer the Call Connect
	// Request, or the authentication did not succeed, within 60 s (3.2.2.1).
	ErrNegotiationTimeout = errors.New("sstp: negotiation timer expired")

	// ErrHelloTimeout: nothing at all was received for two hello intervals,
	// an Echo Request between them (3.1.2.3).
	ErrHelloTimeout = errors.New("sstp: hello timer expired, the server is silent")

	// ErrClosed: the call ended because [Call.Disconnect] asked for it.
	ErrClosed = errors.New("sstp: call closed")

	// ErrLinkLost: the TLS connection ended under the call. Errors that wrap
	// it wrap the transport's error too.
	ErrLinkLost = errors.New("sstp: connection lost")
)

// bindingJudged is how soon after our Call Connected a server that verifies
// the crypto binding has refused it.
const bindingJudged = 5 * time.Second

// AbortError ends a call that the server or we aborted (2.2.13, 3.2.5.3.4).
type AbortError struct {
	// ByPeer: the server sent the first Call Abort, not we.
	ByPeer bool

	// Info is the reason in that Call Abort, if HasInfo is set; SoftEther
	// gives none. It owns its Value.
	Info    StatusInfo
	HasInfo bool

	// State is that of the call when the Call Abort was received or sent.
	State State

	// AfterConnected means that State is ClientCallConnected; SinceConnected
	// is the time since our Call Connected then, else zero.
	AfterConnected bool
	SinceConnected time.Duration

	// Cause is what of the server's made us abort; nil if ByPeer is set.
	Cause error
}

// Error is who aborted in which state and why.
func (e *AbortError) Error() string {
	if e.ByPeer {
		return fmt.Sprintf("sstp: call aborted by the server in state %v: %s", e.State, reason(e.Info, e.HasInfo))
	}
	s := fmt.Sprintf("sstp: call aborted in state %v: %s", e.State, reason(e.Info, e.HasInfo))
	if e.Cause != nil {
		s += ": " + strings.TrimPrefix(e.Cause.Error(), "sstp: ")
	}
	return s
}

// Unwrap is Cause.
func (e *AbortError) Unwrap() error { return e.Cause }

// BindingRefused reports whether this is how a server refuses the crypto
// binding. Windows blames the Crypto Binding attribute, or says that it is
// missing (3.3.5.2.3); accel-ppp says INVALID_FRAME_RECEIVED, which means it
// only right after Call Connected.
func (e *AbortError) BindingRefused() bool {
	if !e.ByPeer || !e.HasInfo || !e.AfterConnected {
		return false
	}
	if e.Info.AttribID == AttrCryptoBinding {
		return true
	}
	switch e.Info.Status {
	case StatusValueNotSupported, StatusInvalidFrameReceived, StatusAttribNotSupportedInMsg:
		return e.SinceConnected <= bindingJudged
	}
	return false
}

// DisconnectError ends a call that the server disconnected, for example when
// a session or idle limit was reached (2.2.14).
type DisconnectError struct {
	Info    StatusInfo // the reason, if HasInfo is set; owns its Value
	HasInfo bool
	State   State // of the call when the Call Disconnect was received
}

// Error is in which state the server disconnected and why.
func (e *DisconnectError) Error() string {
	return fmt.Sprintf("sstp: call disconnected by the server in state %v: %s", e.State, reason(e.Info, e.HasInfo))
}

// NakError ends a call whose Call Connect Request the server refused once more
// than it is repeated (3.2.5.3.3).
type NakError struct {
	// Infos are the reasons in the last Call Connect Nak; they own their
	// values. There may be none.
	Infos []StatusInfo
}

// Error is the list of the reasons.
func (e *NakError) Error() string {
	reasons := make([]string, len(e.Infos))
	for i, info := range e.Infos {
		reasons[i] = reason(info, true)
	}
	if len(reasons) == 0 {
		reasons = []string{reason(StatusInfo{}, false)}
	}
	return "sstp: call connect request refused by the server: " + strings.Join(reasons, ", ")
}

func reason(info StatusInfo, given bool) string {
	if !given {
		return "no reason given"
	}
	return fmt.Sprintf("%v (%s)", info, info.Words())
}
