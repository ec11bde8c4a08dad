package ppp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Ends of a link that carry no data of their own.
var (
	// ErrClosed: the link ended because Close was called.
	ErrClosed = errors.New("ppp: closed")
	// ErrDown: Down was called, the lower layer is gone.
	ErrDown = errors.New("ppp: lower layer down")
	// ErrServerNotProved: an MS-CHAPv2 Success had a wrong authenticator
	// response or none (RFC 2759 §5), so the server does not know the
	// password and must not be trusted with anything.
	ErrServerNotProved = errors.New("ppp: ms-chapv2: the server did not prove that it knows the password")
	// ErrNoAuthentication: the server negotiated no authentication protocol,
	// and Config.Methods does not have PAP. It may still be the right server
	// as far as TLS tells, but it neither asked for the password nor showed
	// that it knows it.
	ErrNoAuthentication = errors.New("ppp: the server asks for no authentication")
	// ErrOnce: the server wants a password of Config.Once a second time.
	ErrOnce = errors.New("ppp: the server asks again for a password that is good for one login")
	// ErrNoAddress is wrapped by the end of a link whose IPCP never gave an
	// address, or none any more when it was negotiated again, while no other
	// network protocol was open.
	ErrNoAddress = errors.New("ppp: the server gave no address")
	// ErrEchoTimeout: nothing was heard for Config.EchoTimeout.
	ErrEchoTimeout = errors.New("ppp: nothing heard from the server, nor an answer to LCP echo")
	// ErrLoop: the peer keeps showing our own magic number (RFC 1661 §6.4).
	ErrLoop = errors.New("ppp: the link is looped back")
)

// AddressError says that IPCP gives no address of any use. It wraps
// ErrNoAddress.
type AddressError struct {
	Addr netip.Addr // what the peer assigns; the zero Addr if it rejects the option
}

func (e *AddressError) Error() string {
	if !e.Addr.IsValid() {
		return "ppp: the server does not assign an address"
	}
	return fmt.Sprintf("ppp: the server assigned %v, which no interface can have", e.Addr)
}

// Unwrap returns ErrNoAddress.
func (e *AddressError) Unwrap() error { return ErrNoAddress }

// AuthError says that the peer refused the credentials: by CHAP Failure, by
// PAP Nak, or by the end of the session right after they were sent. Trying
// again with the same ones can lock an account.
type AuthError struct {
	Method     Method
	Failure    Failure // MS-CHAPv2 only, else zero
	Text       string  // the peer's text otherwise; may be empty
	Unanswered bool    // the peer ended the session instead of answering
}

func (e *AuthError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ppp: %v: credentials refused", e.Method)
	if e.Unanswered {
		b.WriteString(": the session ended instead of an answer")
	}
	if e.Failure.Code != 0 {
		fmt.Fprintf(&b, ": error %d", e.Failure.Code)
	}
	if w := e.Failure.Words(); w != "" {
		b.WriteString(": " + w)
	}
	if t := e.Failure.Message + e.Text; t != "" {
		fmt.Fprintf(&b, ": %q", t)
	}
	return b.String()
}

// NoCommonAuthError says that LCP did not converge on an authentication
// protocol.
type NoCommonAuthError struct {
	Offered    []string // names of what the peer offered, in order, at most 16
	Acceptable []Method // Config.Methods
}

func (e *NoCommonAuthError) Error() string {
	var acceptable []string
	for _, m := range e.Acceptable {
		acceptable = append(acceptable, m.String())
	}
	return fmt.Sprintf("ppp: lcp: no common authentication protocol: the server offers %s, acceptable here: %s",
		strings.Join(e.Offered, ", "), strings.Join(acceptable, ", "))
}

// ConfigError says that a protocol did not come to an end: no answer to
// Max-Configure Requests (RFC 1661 §4.6), or answers that do not converge, or
// one renegotiation, challenge or the like after the other.
type ConfigError struct{ Protocol Protocol }

func (e *ConfigError) Error() string {
	return fmt.Sprintf("ppp: %v: negotiation does not come to an end", e.Protocol)
}

// TerminatedError says that the peer sent a Terminate-Request. Text is its
// data, often empty, or Code the error code that Windows has there; Phase is
// where the link was.
type TerminatedError struct {
	Text  string
	Code  int // of Windows' Remote Access Service; 0: not told
	Phase Phase
}

func (e *TerminatedError) Error() string {
	words := fmt.Sprintf("ppp: terminated by the server in phase %v", e.Phase)
	if r := e.Reason(); r != ReasonNone {
		words += fmt.Sprintf(", because %v", r)
	}
	switch {
	case e.Text != "":
		words += fmt.Sprintf(": %q", e.Text)
	case e.Code != 0:
		words += fmt.Sprintf(": error %d", e.Code)
	}
	return words
}

// RejectedError says that the peer refuses a protocol we cannot do without:
// by Protocol-Reject, or by Code-Reject of the code.
type RejectedError struct {
	Protocol Protocol
	Code     Code // zero: the whole protocol
}

func (e *RejectedError) Error() string {
	if e.Code == 0 {
		return fmt.Sprintf("ppp: the server rejects %v", e.Protocol)
	}
	return fmt.Sprintf("ppp: the server rejects %v of %v", e.Code, e.Protocol)
}
