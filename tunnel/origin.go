package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/ppp/mschap"
	"sstproxy/tunnel/sstp"
)

// Party is who ended a session, or an attempt to open one.
type Party string

// The parties.
const (
	PartyServer  Party = "server"
	PartyNetwork Party = "network"      // between here and the server
	PartyHost    Party = "this machine" // its network, its clock, its resolver
	PartyClient  Party = "client"       // this program, because of what it saw
	PartyUser    Party = "user"
)

// Origin says who ended a session and at which layer.
type Origin struct {
	By    Party
	Layer string // "DNS", "TCP", "TLS", "HTTP", "SSTP", "PPP", "LCP", "authentication", "IPCP", "host"
}

// OriginOf names the one origin of an error of [Dial], [Session.Run] or
// [Keeper.Run].
func OriginOf(err error) Origin {
	for _, o := range origins {
		if o.is(err) {
			return o.Origin
		}
	}
	return Origin{PartyNetwork, layerOf(err)}
}

// origins tells errors apart; the first that fits counts, so what wraps another
// stands before it.
var origins = []struct {
	is func(error) bool
	Origin
}{
	{isAny(ErrNetworkChanged, ErrSlept), Origin{PartyHost, "host"}},
	{isAny(ErrReconnect, context.Canceled), Origin{PartyUser, "host"}},
	{isA[*hookError], Origin{PartyClient, "host"}},
	{isAny(ErrReplaced), Origin{PartyServer, "LCP"}},
	{isAny(ErrAddressHeld), Origin{PartyServer, "IPCP"}},
	{isA[*CertificateError], Origin{PartyClient, "TLS"}},
	{isA[*BindingError], Origin{PartyServer, "SSTP"}},
	{isA[*sstp.HTTPError], Origin{PartyServer, "HTTP"}},
	{isAny(sstp.ErrNotHTTP, sstp.ErrReplyTooLarge), Origin{PartyClient, "HTTP"}},
	{isA[*ppp.AuthError], Origin{PartyServer, "authentication"}},
	{isA[*ppp.NoCommonAuthError], Origin{PartyClient, "authentication"}},
	{isAny(ppp.ErrOnce), Origin{PartyServer, "authentication"}},
	{isAny(ppp.ErrServerNotProved, ppp.ErrNoAuthentication, mschap.ErrNotUTF8), Origin{PartyClient, "authentication"}},
	{isA[*ppp.TerminatedError], Origin{PartyServer, "LCP"}},
	{isA[*ppp.RejectedError], Origin{PartyServer, "PPP"}},
	{isA[*ppp.ConfigError], Origin{PartyClient, "PPP"}},
	{isAny(ppp.ErrLoop), Origin{PartyClient, "LCP"}},
	{isAny(ppp.ErrNoAddress), Origin{PartyServer, "IPCP"}},
	{isAny(ErrAddressChanged, ErrMTUChanged), Origin{PartyServer, "PPP"}},
	{isAny(ppp.ErrEchoTimeout), Origin{PartyNetwork, "LCP"}},
	{abortedByPeer, Origin{PartyServer, "SSTP"}},
	{isA[*sstp.AbortError], Origin{PartyClient, "SSTP"}},
	{isA[*sstp.DisconnectError], Origin{PartyServer, "SSTP"}},
	{isA[*sstp.NakError], Origin{PartyServer, "SSTP"}},
	{isAny(sstp.ErrHelloTimeout, sstp.ErrNegotiationTimeout), Origin{PartyNetwork, "SSTP"}},
	{isAny(ErrFlood, sstp.ErrFraming, sstp.ErrMalformed), Origin{PartyClient, "SSTP"}},
	{isA[*net.DNSError], Origin{PartyHost, "DNS"}},
	{isA[*configError], Origin{PartyUser, "host"}},
	{isA[tls.AlertError], Origin{PartyServer, "TLS"}},
	{isA[tls.RecordHeaderError], Origin{PartyServer, "TLS"}},
	{isAny(syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL), Origin{PartyHost, "TCP"}},
	{isAny(syscall.ECONNREFUSED), Origin{PartyServer, "TCP"}},
	{isAny(io.EOF), Origin{PartyServer, "TLS"}}, // close_notify
	{isAny(sstp.ErrLinkLost), Origin{PartyNetwork, "TCP"}},
}

// layerOf is the layer of a phase.
func layerOf(err error) string {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return "host"
	}
	layers := [...]string{"DNS", "TCP", "TLS", "HTTP", "SSTP", "LCP", "authentication", "IPCP", "TCP"}
	return layers[min(int(e.Phase), len(layers)-1)]
}

// Permanent tells whether it is of no use, or of harm, to try again with the
// same configuration: servers lock accounts, and a server that is not the right
// one must not see the credentials once more.
func Permanent(err error) bool {
	for _, is := range permanent {
		if is(err) {
			return true
		}
	}
	return false
}

var permanent = []func(error) bool{
	isA[*configError], isA[*CertificateError], bindingRefused, isA[*ppp.AuthError],
	isA[*ppp.NoCommonAuthError], isAny(ppp.ErrServerNotProved, ppp.ErrNoAuthentication, mschap.ErrNotUTF8),
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func isAny(targets ...error) func(error) bool {
	return func(err error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
}

// bindingRefused: the server has said so. A connection that only ended right
// behind Call Connected looks the same at first, and the next one may not.
func bindingRefused(err error) bool { return isA[*BindingError](err) && abortedByPeer(err) }

func abortedByPeer(err error) bool {
	e, ok := errors.AsType[*sstp.AbortError](err)
	return ok && e.ByPeer
}

// configError is a Config that can't be used.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }

func (e *configError) Unwrap() error { return e.err }
