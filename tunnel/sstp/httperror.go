package sstp

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoReply is for the caller whose connection ended before a reply to the
// HTTPS request was there; see [ReplyHint].
var ErrNoReply = errors.New("sstp: https reply: the server closed the connection without one")

// HTTPError is a reply to the HTTPS request other than 200. What it quotes
// comes from the network; Error shows it with escapes.
type HTTPError struct {
	StatusCode int
	Reason     string // reason phrase, may be empty
	Location   string // where a redirect points; it is never followed
	Server     string // the Server field, may be empty
}

// Err is nil for 200, the only status that opens a call (2.1), and an
// [*HTTPError] for every other.
func (r Reply) Err() error {
	if r.StatusCode == 200 {
		return nil
	}
	return &HTTPError{r.StatusCode, r.Reason, r.Get("Location"), r.Get("Server")}
}

// Error is the status with what the server says about it.
func (e *HTTPError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "sstp: https reply: status %d", e.StatusCode)
	for _, part := range []Field{{"", e.Reason}, {" from", e.Server}, {" to", e.Location}} {
		if part.Value != "" {
			fmt.Fprintf(&s, "%s %.200q", part.Name, part.Value)
		}
	}
	return s.String()
}

// Hint says in plain words what the status usually means for SSTP and what to
// look at.
func (e *HTTPError) Hint() string {
	switch {
	case e.StatusCode >= 300 && e.StatusCode < 400:
		return "a web site answered, or accel-ppp with http-error set: check server name and port; the redirect is not followed"
	case e.StatusCode == 401:
		return "a gateway in front of the server wants a login, which is no part of SSTP"
	case e.StatusCode == 403:
		return "a gateway or web application firewall refuses the request"
	case e.StatusCode == 404:
		return "the name reaches a host, but SSTP is not registered there under it: check the server name (accel-ppp compares its host-name; Keenetic may want a secret path)"
	case e.StatusCode == 407:
		return "an HTTP proxy on the way wants credentials"
	case e.StatusCode >= 502 && e.StatusCode <= 504:
		return "the SSTP service is stopped, all its ports are in use, or a front end has no server behind it"
	case e.isNoEndpoint():
		return "not an SSTP endpoint: SSTP is switched off (SoftEther: 501), or a reverse proxy works in HTTP mode; nginx or HAProxy must pass the TCP stream through"
	}
	return "the server speaks HTTP but does not accept SSTP calls at this name and port"
}

// isNoEndpoint tells the answers of an ordinary web server to a method it does
// not know and a body of 2⁶⁴−1 octets.
func (e *HTTPError) isNoEndpoint() bool {
	switch e.StatusCode {
	case 400, 405, 411, 413, 501:
		return true
	}
	return false
}

// ReplyHint says in plain words what an error of the HTTPS exchange usually
// means: an [*HTTPError], [ErrNoReply], [ErrNotHTTP] or [ErrReplyTooLarge]. For
// any other error it is empty.
func ReplyHint(err error) string {
	var refused *HTTPError
	switch {
	case errors.As(err, &refused):
		return refused.Hint()
	case errors.Is(err, ErrNoReply):
		return "the server took the TLS connection and closed it: accel-ppp refuses so (http-error=deny, session or address limits), other servers when they want a different request; or what ends TLS here is no SSTP server"
	case errors.Is(err, ErrNotHTTP):
		return "the port speaks TLS but not HTTP: check the port"
	case errors.Is(err, ErrReplyTooLarge):
		return "the reply is no SSTP server's: check server name and port"
	}
	return ""
}

// Family is a guess at the server's software; empty if there is none. It is
// for display and must decide nothing.
type Family string

// The families that can be told by their reply.
const (
	FamilySoftEther Family = "SoftEther"
	FamilyRRAS      Family = "Windows RRAS"
	FamilyAccelPPP  Family = "accel-ppp"
	FamilySorz      Family = "sorz/sstp-server"
	FamilyMikroTik  Family = "MikroTik"
)

// Family guesses at the server by the header fields of its 200 and their
// order: SoftEther sends those of Windows, but Date before Server; accel-ppp
// has no Server but a Connection: keep-alive; the others name themselves.
func (r Reply) Family() Family {
	server := r.Get("Server")
	switch {
	case r.StatusCode != 200:
		return ""
	case strings.HasPrefix(server, "SSTP-Server/"):
		return FamilySorz
	case strings.HasPrefix(server, "MikroTik"):
		return FamilyMikroTik
	case strings.HasPrefix(server, "Microsoft-HTTPAPI/"):
		if date := r.index("Date"); date >= 0 && date < r.index("Server") {
			return FamilySoftEther
		}
		return FamilyRRAS
	case server == "" && strings.EqualFold(r.Get("Connection"), "keep-alive") && r.Get("Content-Length") == ContentLength:
		return FamilyAccelPPP
	}
	return ""
}

// index is the place of the first header field of that name, or -1.
func (r Reply) index(name string) int {
	for i, f := range r.Header {
		if strings.EqualFold(f.Name, name) {
			return i
		}
	}
	return -1
}
