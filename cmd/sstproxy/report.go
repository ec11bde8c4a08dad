package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"unicode"

	"sstproxy/cmd/sstproxy/netns"
	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/ppp/mschap"
	"sstproxy/tunnel/sstp"
)

// The exit codes.
const (
	exitOK      = 0 // stopped on request, or nothing left to do
	exitFailed  = 1 // not connected, or the connection was lost
	exitUsage   = 2 // the command line can't be used; nothing was tried
	exitRefused = 3 // the server refused the credentials; never retried
)

// report is what the user gets to read about a failure.
type report struct {
	what  string   // what happened
	facts []string // what is known beside it, a line each
	hint  string   // what to do next
	code  int      // exit code
}

// print writes the report; a wrong command line has its own second line.
func (r report) print(w io.Writer) {
	fmt.Fprintf(w, "%s: error: %s\n", name, oneLine(r.what))
	for _, f := range r.facts {
		fmt.Fprintf(w, "  %s\n", oneLine(f))
	}
	if r.code == exitUsage {
		fmt.Fprintf(w, "%s\n", r.hint)
	} else {
		fmt.Fprintf(w, "%s: hint: %s\n", name, oneLine(r.hint))
	}
}

// oneLine replaces what could move the cursor or turn the line around: parts of
// a report come from the server.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// usageError is a command line that can't be used.
type usageError struct {
	command string // the command's path: "sstproxy connect"
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

// listenError is a local listener that can't be opened or has failed.
type listenError struct {
	where string
	err   error
	flag  string // that named the place; empty: --listen HOST:PORT
}

func (e *listenError) Error() string { return fmt.Sprintf("listen on %s: %v", e.where, e.err) }

func (e *listenError) Unwrap() error { return e.err }

var (
	// errStopped means that the user asked for the end.
	errStopped = errors.New("stopped on request")
	// errOnceUsed means that the next login needs another password than the one
	// at hand.
	errOnceUsed = errors.New("one-time password used")
)

// Hints that several failures share.
const (
	hintAgain  = "connect again; if it happens again, ask the server's administrator what its log says"
	hintReport = "run it again with --log-level debug to see every control packet, and report what it shows"
	hintNet    = "check this machine's network and the server, then connect again"
)

// explain turns any error of this program into what the user reads. The order
// matters where one error wraps another: the most telling comes first.
func explain(err error) report {
	var (
		several   severalError
		named     *profileError
		use       *usageError
		listen    *listenError
		command   *commandError
		probe     *probeError
		instance  *instanceError
		reach     *reachError
		cert      *tunnel.CertificateError
		binding   *tunnel.BindingError
		status    *sstp.HTTPError
		nak       *sstp.NakError
		abort     *sstp.AbortError
		end       *sstp.DisconnectError
		auth      *ppp.AuthError
		noAuth    *ppp.NoCommonAuthError
		address   *ppp.AddressError
		config    *ppp.ConfigError
		terminate *ppp.TerminatedError
		reject    *ppp.RejectedError
		dns       *net.DNSError
		forbidden *netns.ForbiddenError
		where     = phaseOf(err)
	)
	switch {
	case errors.As(err, &several):
		return explainSeveral(several)
	case errors.As(err, &named):
		r := explain(named.err)
		r.what = "profile " + named.profile + ": " + r.what
		return r
	case errors.As(err, &use):
		lines := faults(use.err)
		return report{what: lines[0], facts: lines[1:], hint: fmt.Sprintf("Try '%s --help'.", use.command), code: exitUsage}
	case errors.As(err, &forbidden):
		return failed("this user may have no network namespaces here: "+forbidden.Setting,
			forbidden.Remedy+"; or leave out --isolate: then the command finds the VPN by proxy variables")
	case errors.As(err, &listen):
		return explainListen(listen)
	case errors.As(err, &command):
		return explainCommand(command)
	case errors.As(err, &instance):
		return failed(instance.what, instance.hint)
	case errors.As(err, &probe):
		return failed(fmt.Sprintf("the tunnel is up, but %v", probe), probe.hint)
	case errors.As(err, &reach):
		return failed(reach.Error(), reach.hint())
	case errors.Is(err, tunnel.ErrConnectTimeout):
		return explainTimeout(where)

	case errors.As(err, &cert):
		return explainCertificate(cert)
	case errors.As(err, &status):
		return explainHTTP(status)
	case errors.Is(err, sstp.ErrNotHTTP), errors.Is(err, sstp.ErrReplyTooLarge):
		return failed("what answers the SSTP request is no SSTP server", sstp.ReplyHint(err))

	case errors.As(err, &auth):
		return explainAuth(auth, errors.Is(err, tunnel.ErrSessionHeld))
	case errors.Is(err, tunnel.ErrNetworkChanged):
		return failed("this machine has left the network over which it reached the server", hintNet)
	case errors.Is(err, tunnel.ErrSlept):
		return failed("this machine slept while the connection was made", "wait until the next try")
	case errors.As(err, &binding):
		return explainBinding(binding)
	case errors.As(err, &noAuth):
		return explainNoCommonAuth(noAuth)
	case errors.Is(err, ppp.ErrServerNotProved):
		return failed("the server did not prove that it knows the password",
			"it may not be the server you think it is: check the name and its certificate before you try again")
	case errors.Is(err, ppp.ErrOnce):
		return failed("the server asked for the one-time password a second time", "give the next one when you are asked")
	case errors.Is(err, ppp.ErrNoAuthentication):
		return failed("the server asks for no login, so it proves nothing about itself either",
			"it may not be the server you think it is; if its certificate is proof enough, --allow-pap accepts it")
	case errors.Is(err, mschap.ErrNotUTF8):
		return failed("the password is not valid UTF-8, which MS-CHAPv2 needs", "convert the password file to UTF-8")
	case errors.As(err, &address):
		return explainAddress(address)
	case errors.Is(err, ppp.ErrNoAddress):
		return failed("the server assigned no IP address",
			"its address pool may be used up, or the account has none: ask the administrator, or try --request-address ADDRESS")
	case errors.As(err, &config):
		return failed(fmt.Sprintf("the server and this program did not agree on %v", config.Protocol), hintReport)
	case errors.As(err, &reject):
		return failed(fmt.Sprintf("the server does not speak %v", reject.Protocol),
			"the account or the server may be restricted to something else: ask the administrator")
	case errors.Is(err, tunnel.ErrIdleTimeout):
		return failed("the server ended the session because nothing passed through it for its idle time"+said(err),
			"connect again; what sends now and then keeps it")
	case errors.Is(err, tunnel.ErrSessionTimeout):
		return failed("the server ended the session because its time was up"+said(err),
			"connect again; ask the administrator for a longer Session-Timeout if that comes too often")
	case errors.As(err, &terminate):
		return explainTerminated(terminate)
	case errors.Is(err, ppp.ErrLoop):
		return failed("the server only sends back what it is sent",
			"something between here and the server reflects the connection: check SERVER and its port")

	case errors.As(err, &nak):
		return explainNak(nak)
	case errors.As(err, &abort):
		return explainAbort(abort)
	case errors.As(err, &end):
		return explainDisconnect(end)
	case errors.Is(err, sstp.ErrNegotiationTimeout):
		return failed("the server took longer than 60 seconds to set up the call",
			"it may be overloaded, or may not reach what it checks accounts with: try again later")
	case errors.Is(err, sstp.ErrHelloTimeout), errors.Is(err, ppp.ErrEchoTimeout):
		return failed("the server has gone silent: nothing came from it any more, not even answers", hintNet)
	case errors.Is(err, sstp.ErrFraming) && phaseOf(err) == tunnel.PhaseSSTP:
		return failed("the server said 200 OK, and then something that is not SSTP",
			"a web site or a network's login page answers: check server name and port, and whether a browser on this network gets a login page")
	case errors.Is(err, sstp.ErrFraming), errors.Is(err, sstp.ErrMalformed):
		return failed("the server sent something that is not SSTP", hintReport)
	case errors.Is(err, tunnel.ErrAddressHeld):
		return failed("the server gives another address, as long as it holds the one of before", "wait until the next try")
	case errors.Is(err, tunnel.ErrReconnect):
		return failed("you asked for a new connection", "wait until it is up")
	case errors.Is(err, errOnceUsed):
		return failed("the one-time password was used, and no other was given", "run it again with a new one; none is sent twice")
	case errors.Is(err, tunnel.ErrFlood):
		return failed("the server sends more control packets than any server has reason to", hintAgain)
	case errors.Is(err, tunnel.ErrAddressChanged):
		return failed("the server gave the tunnel another address, which cuts every connection in it", "connect again")
	case errors.Is(err, tunnel.ErrMTUChanged):
		return failed("the server lowered the largest packet size of the tunnel", "connect again, with --mtu OCTETS if that repeats itself")

	case errors.As(err, &dns):
		return explainDNS(dns)
	case where == tunnel.PhaseResolve:
		return failed("the server's address is of no use: "+cause(err), "check SERVER and --server-name NAME")
	case where == tunnel.PhaseTCP:
		return explainTCP(err)
	case where == tunnel.PhaseTLS:
		return explainTLS(err)
	case where == tunnel.PhaseHTTP:
		return explainNoReply(err)
	case errors.Is(err, sstp.ErrLinkLost):
		return explainLost(err, where)
	}
	return failed(err.Error(), hintReport)
}

// failed is the report of everything but usage and credentials.
func failed(what, hint string) report { return report{what: what, hint: hint, code: exitFailed} }

// usage marks an error as one of the command line.
func usage(cmd interface{ CommandPath() string }, err error) error {
	return &usageError{command: cmd.CommandPath(), err: err}
}

// phaseOf is where the tunnel was when it failed; PhaseUp if it is no error of
// package tunnel.
func phaseOf(err error) tunnel.Phase {
	if e, ok := errors.AsType[*tunnel.Error](err); ok {
		return e.Phase
	}
	return tunnel.PhaseUp
}

func explainListen(e *listenError) report {
	what := fmt.Sprintf("can't listen on %s: %v", e.where, plainCause(e.err))
	flag := cmp.Or(e.flag, "--listen HOST:PORT")
	switch {
	case errors.Is(e.err, syscall.EADDRINUSE):
		return failed(fmt.Sprintf("can't listen on %s: it is in use", e.where),
			"another program holds it, perhaps another sstproxy: stop that, or choose another place with "+flag+" (port 0 takes a free one)")
	case errors.Is(e.err, os.ErrPermission):
		return failed(what, "choose a port above 1023, or a directory that is yours, with "+flag)
	case errors.Is(e.err, syscall.EADDRNOTAVAIL):
		return failed(what, "the address does not belong to this machine: see "+flag)
	case errors.Is(e.err, os.ErrNotExist):
		return failed(what, "the directory is not there: make it, or choose another place with "+flag)
	}
	return failed(what, "choose another place with "+flag)
}

func explainTimeout(where tunnel.Phase) report {
	hint := hintAgain + "; --connect-timeout TIME waits longer"
	switch where {
	case tunnel.PhaseResolve:
		hint = "the name server of this machine does not answer: check the network"
	case tunnel.PhaseTCP:
		hint = "a firewall may drop the connection, or the port is wrong: check SERVER"
	case tunnel.PhaseTLS, tunnel.PhaseHTTP:
		hint = "the port is open but silent: it may belong to another service, or a middlebox holds the connection up"
	}
	return failed(fmt.Sprintf("the tunnel was not up in time; it was at the step %q", where), hint)
}

func explainDNS(e *net.DNSError) report {
	if e.IsNotFound {
		return failed(fmt.Sprintf("the server's name %s does not exist", e.Name),
			"check SERVER for a typing error; the name is looked up on this machine, outside the tunnel")
	}
	return failed(fmt.Sprintf("the server's name %s can't be looked up: no name server answers", e.Name),
		"check this machine's network and name server, or give the server's address and its name by --server-name NAME")
}

func explainTCP(err error) report {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return failed("the server refuses the connection: nothing listens on that port",
			"check the port (SERVER:PORT, 443 if none is given) and that the SSTP service runs")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return failed("there is no way to the server's network from here", "check this machine's network and the address of the server")
	case isTimeout(err):
		return failed("the server does not answer at all", "it may be down, or a firewall drops the connection: check SERVER and its port")
	}
	return failed("can't connect to the server: "+cause(err), hintNet)
}

func explainTLS(err error) report {
	var notTLS tls.RecordHeaderError
	alert, refused := remoteAlert(err)
	switch {
	case errors.As(err, &notTLS):
		return failed("the server does not speak TLS on that port", "check the port: SSTP needs the HTTPS port, 443 unless the administrator moved it")
	case refused && alert == alertProtocolVersion:
		return failed("the server refuses TLS 1.2 and 1.3", "it only speaks versions that are broken: ask the administrator to enable TLS 1.2")
	case refused && alert == alertUnrecognizedName:
		return failed("the server knows no service of that name", "give the name it expects by --server-name NAME")
	case refused && alert == alertHandshakeFailure:
		return failed("the server found no common cipher suite or refuses this client",
			"old servers only offer ciphers that are no longer safe: ask the administrator to enable ECDHE with AES-GCM")
	case refused && alert == alertCertificateRequired:
		return failed("the server wants a client certificate", "this program has none to show: ask the administrator to let the account do without")
	case refused:
		return failed(fmt.Sprintf("the server refused the TLS handshake: alert %d, %v", uint8(alert), alert), hintAgain)
	case isLost(err):
		return failed("the connection was cut during the TLS handshake",
			"the server or a middlebox refuses it: check SERVER, its port and --server-name")
	case isTimeout(err):
		return failed("the server does not answer the TLS handshake", "the port may belong to another service: check SERVER")
	}
	return failed("the TLS handshake failed: "+cause(err), "check that the server offers TLS 1.2 or 1.3")
}

// The TLS alerts that have a report of their own (RFC 8446 §6.2, RFC 6066 §3).
const (
	alertHandshakeFailure    tls.AlertError = 40
	alertProtocolVersion     tls.AlertError = 70
	alertUnrecognizedName    tls.AlertError = 112
	alertCertificateRequired tls.AlertError = 116
)

// remoteAlert returns the alert a server ended the handshake with. crypto/tls
// exports alerts only for QUIC and wraps its own in a *net.OpError; the two
// share their text.
func remoteAlert(err error) (tls.AlertError, bool) {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return 0, false
	}
	for n := range 256 {
		if a := tls.AlertError(n); a.Error() == op.Err.Error() {
			return a, true
		}
	}
	return 0, false
}

func explainNoReply(err error) report {
	if _, refused := remoteAlert(err); refused { // in TLS 1.3 the client is judged after its handshake
		return explainTLS(err)
	}
	if isTimeout(err) || !isLost(err) {
		return failed("the server took the SSTP request and did not answer: "+cause(err),
			"a reverse proxy in front of it may wait for the body, which has no end: it must pass the TCP stream, not HTTP")
	}
	return failed("the server closed the connection instead of answering the SSTP request",
		sstp.ReplyHint(sstp.ErrNoReply))
}

func explainLost(err error, where tunnel.Phase) report {
	if where < tunnel.PhaseUp {
		return failed(fmt.Sprintf("the server closed the connection during the step %q", where), hintAgain)
	}
	return failed("the connection to the server was lost: "+cause(err), hintNet)
}

// isLost tells whether the other end, or something between, cut the connection.
func isLost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, sstp.ErrLinkLost) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// cause is the text of an error without the tunnel's phase in front, which the
// report says in words.
func cause(err error) string {
	if e, ok := errors.AsType[*tunnel.Error](err); ok {
		err = e.Err
	}
	return err.Error()
}
