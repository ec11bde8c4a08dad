package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// ErrBlocked is what a [DialFunc] returns, possibly wrapped, when a rule
// forbids the destination. The client sees SOCKS reply 2 or HTTP status 403.
var ErrBlocked = errors.New("proxy: destination blocked by rule")

// ErrClosed is returned by [Server.Serve] after [Server.Shutdown].
var ErrClosed = errors.New("proxy: server closed")

// errClientGone cancels a dial whose client closed its connection.
var errClientGone = errors.New("proxy: client closed its connection")

// dialError marks an error of the DialFunc, to tell it from an error of a
// connection that had been opened.
type dialError struct {
	address string
	err     error
}

func (e *dialError) Error() string { return "proxy: dial " + e.address + ": " + e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// Reply codes of RFC 1928, section 6.
const (
	replySucceeded            = 0
	replyGeneralFailure       = 1
	replyNotAllowed           = 2
	replyNetworkUnreachable   = 3
	replyHostUnreachable      = 4
	replyConnectionRefused    = 5
	replyTTLExpired           = 6
	replyCommandNotSupported  = 7
	replyAddrTypeNotSupported = 8
)

// failure is one row of the table: how an error looks to each kind of client.
type failure struct {
	is     func(error) bool
	reply  byte   // RFC 1928, section 6
	status int    // RFC 9110, section 15
	kind   string // proxy error type of RFC 9209, section 2.3
	words  string
}

// failures is the table. The first row that fits decides, so what says most
// comes first: of an IPv6 attempt that was unreachable and an IPv4 attempt that
// was refused, joined in one error, "refused" is reported.
//
// RFC 1928 has no code for a timeout. 6, "TTL expired", is used for it, so that
// it stays apart from 4 (an answer: no such host, no route to it); Tor's SOCKS
// port does the same. A tunnel that is down is a network that can't be reached
// at present: 3.
var failures = []failure{
	{isLocal, replyNotAllowed, 403, "destination_ip_prohibited", "the proxy reaches only the tunnel's network"},
	{anyOf(ErrBlocked), replyNotAllowed, 403, "http_request_denied", "blocked by a rule of this proxy"},
	{anyOf(syscall.ENETDOWN, net.ErrClosed), replyNetworkUnreachable, 503, "destination_unavailable", "the tunnel is down"},
	{anyOf(syscall.ECONNREFUSED), replyConnectionRefused, 502, "connection_refused", "the destination refused the connection"},
	{isNoSuchHost, replyHostUnreachable, 502, "dns_error", "no such host"},
	{isDNSTimeout, replyTTLExpired, 504, "dns_timeout", "no name server answered"},
	{isDNS, replyHostUnreachable, 502, "dns_error", "the name could not be looked up"},
	{anyOf(io.EOF, io.ErrUnexpectedEOF), replyGeneralFailure, 502, "http_response_incomplete", "the destination closed the connection without a complete answer"},
	{anyOf(syscall.ECONNRESET, syscall.EPIPE), replyGeneralFailure, 502, "connection_terminated", "the destination reset the connection"},
	{anyOf(syscall.EHOSTUNREACH), replyHostUnreachable, 502, "destination_ip_unroutable", "the destination host is unreachable"},
	{isTimeout, replyTTLExpired, 504, "connection_timeout", "the destination did not answer in time"},
	{anyOf(syscall.ENETUNREACH), replyNetworkUnreachable, 502, "destination_ip_unroutable", "the destination network is unreachable"},
	{anyOf(syscall.EAFNOSUPPORT), replyAddrTypeNotSupported, 502, "destination_ip_unroutable", "the tunnel does not carry this kind of address"},
	{isDial, replyGeneralFailure, 502, "proxy_internal_error", "the destination could not be reached"},
	{func(error) bool { return true }, replyGeneralFailure, 502, "http_protocol_error", "the destination's answer could not be understood"},
}

// classify finds the table's row for an error.
func classify(err error) failure {
	for _, f := range failures {
		if f.is(err) {
			return f
		}
	}
	panic("proxy: the last row of failures fits every error")
}

// Reason says in words, without a full stop, why a destination could not be
// dialled, as the table has it. err is what a [DialFunc] returned.
func Reason(err error) string { return problemOf("", &dialError{err: err}).words }

func anyOf(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
}

func isLocal(err error) bool {
	_, ok := errors.AsType[localError](err)
	return ok
}

func isDNS(err error) bool {
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

func isNoSuchHost(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsNotFound
}

func isDNSTimeout(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsTimeout
}

func isDial(err error) bool {
	_, ok := errors.AsType[*dialError](err)
	return ok
}

func isTimeout(err error) bool {
	if errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// printable makes text fit for a header field: printable ASCII on one line, at
// most 256 octets.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), 256)]
}
