package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/ppp/mschap"
	"sstproxy/tunnel/sstp"
)

// at puts an error where package tunnel would report it.
func at(phase tunnel.Phase, err error) error { return &tunnel.Error{Phase: phase, Err: err} }

func httpStatus(code int, reason string) error {
	return at(tunnel.PhaseHTTP, &sstp.HTTPError{StatusCode: code, Reason: reason})
}

func aborted(id sstp.AttributeID, status sstp.Status) error {
	return at(tunnel.PhaseIPCP, &sstp.AbortError{ByPeer: true, HasInfo: true, Info: sstp.StatusInfo{AttribID: id, Status: status}})
}

func nak(status sstp.Status) error {
	return at(tunnel.PhaseSSTP, &sstp.NakError{Infos: []sstp.StatusInfo{{AttribID: sstp.AttrEncapsulatedProtocolID, Status: status}}})
}

func disconnected(status sstp.Status) error {
	return at(tunnel.PhaseUp, &sstp.DisconnectError{HasInfo: true, Info: sstp.StatusInfo{Status: status}})
}

func chapFailure(message string) error {
	return at(tunnel.PhaseAuth, &ppp.AuthError{Method: ppp.MSCHAPv2, Failure: ppp.ParseFailure([]byte(message))})
}

func alert(a tls.AlertError) error {
	return at(tunnel.PhaseTLS, &net.OpError{Op: "remote error", Err: errors.New(a.Error())})
}

func lost(err error) error { return fmt.Errorf("%w in state 3: %w", sstp.ErrLinkLost, err) }

func TestExplain(t *testing.T) {
	dial := func(err error) error {
		return at(tunnel.PhaseTCP, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)})
	}
	listen := func(err error) error {
		return &listenError{where: "127.0.0.1:1080", err: &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", err)}}
	}
	tests := []struct {
		name       string
		err        error
		what, hint string // parts of the two lines
		code       int
	}{
		{"usage", &usageError{"sstproxy connect", errors.New("no user name")}, "no user name", "Try 'sstproxy connect --help'.", 2},

		// This machine.
		{"listener in use", listen(syscall.EADDRINUSE), "can't listen on 127.0.0.1:1080: it is in use", "--listen HOST:PORT", 1},
		{"listener forbidden", listen(syscall.EACCES), "permission denied", "above 1023", 1},
		{"listener elsewhere", listen(syscall.EADDRNOTAVAIL), "can't listen on", "does not belong to this machine", 1},
		{"listener otherwise", listen(syscall.EMFILE), "too many open files", "another place with --listen", 1},

		// The way to the server.
		{"no such host", at(tunnel.PhaseResolve, &net.DNSError{Name: "vpn.exmaple.com", IsNotFound: true}), "vpn.exmaple.com does not exist", "typing error", 1},
		{"no name server", at(tunnel.PhaseResolve, &net.DNSError{Name: "vpn.example.com", IsTimeout: true}), "no name server answers", "--server-name", 1},
		{"odd address", at(tunnel.PhaseResolve, errors.New(`server "a$b": want HOST or HOST:PORT`)), `of no use: server "a$b"`, "check SERVER", 1},
		{"refused", dial(syscall.ECONNREFUSED), "nothing listens on that port", "check the port", 1},
		{"network unreachable", dial(syscall.ENETUNREACH), "no way to the server's network", "this machine's network", 1},
		{"host unreachable", dial(syscall.EHOSTUNREACH), "no way to the server's network", "this machine's network", 1},
		{"tcp timeout", dial(syscall.ETIMEDOUT), "does not answer at all", "firewall", 1},
		{"tcp otherwise", dial(syscall.EPERM), "can't connect to the server: dial tcp: connect: operation not permitted", "network", 1},
		{"too slow: name", at(tunnel.PhaseResolve, tunnel.ErrConnectTimeout), `not up in time; it was at the step "resolve"`, "name server", 1},
		{"too slow: tcp", at(tunnel.PhaseTCP, fmt.Errorf("%w (%w)", tunnel.ErrConnectTimeout, context.DeadlineExceeded)), `the step "tcp"`, "firewall", 1},
		{"too slow: tls", at(tunnel.PhaseTLS, tunnel.ErrConnectTimeout), `the step "tls"`, "silent", 1},
		{"too slow: lcp", at(tunnel.PhaseLCP, tunnel.ErrConnectTimeout), `the step "lcp"`, "--connect-timeout", 1},

		// TLS.
		{"not tls", at(tunnel.PhaseTLS, tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}), "does not speak TLS", "HTTPS port", 1},
		{"tls version", alert(70), "refuses TLS 1.2 and 1.3", "enable TLS 1.2", 1},
		{"tls ciphers", alert(40), "no common cipher suite", "ECDHE", 1},
		{"tls name", alert(112), "no service of that name", "--server-name", 1},
		{"tls alert", alert(49), "alert 49, tls: access denied", "administrator", 1},
		{"tls unknown alert", alert(200), "alert 200", "administrator", 1},
		{"tls cut", at(tunnel.PhaseTLS, io.EOF), "cut during the TLS handshake", "middlebox", 1},
		{"tls reset", at(tunnel.PhaseTLS, &net.OpError{Op: "read", Err: syscall.ECONNRESET}), "cut during the TLS handshake", "middlebox", 1},
		{"tls silent", at(tunnel.PhaseTLS, os.ErrDeadlineExceeded), "does not answer the TLS handshake", "another service", 1},
		{"tls old version", at(tunnel.PhaseTLS, errors.New("tls: server selected unsupported protocol version 301")), "server selected unsupported protocol version 301", "TLS 1.2 or 1.3", 1},

		// HTTP, protocol sheet 1.2.
		{"301", at(tunnel.PhaseHTTP, &sstp.HTTPError{StatusCode: 301, Reason: "Moved", Location: "https://www.example.com/"}), "HTTP status 301 Moved, pointing to https://www.example.com/", "web site", 1},
		{"302", httpStatus(302, "Found"), "302 Found", "web site", 1},
		{"400", httpStatus(400, "Bad Request"), "400 Bad Request", "reverse proxy", 1},
		{"401", httpStatus(401, "Unauthorized"), "401 Unauthorized", "gateway", 1},
		{"403", httpStatus(403, "Forbidden"), "403 Forbidden", "firewall", 1},
		{"404", httpStatus(404, "Not Found"), "404 Not Found", "not registered", 1},
		{"405", httpStatus(405, "Method Not Allowed"), "405", "TCP stream", 1},
		{"407", httpStatus(407, ""), "407", "HTTP proxy", 1},
		{"411", httpStatus(411, "Length Required"), "411", "TCP stream", 1},
		{"413", httpStatus(413, "Content Too Large"), "413", "TCP stream", 1},
		{"501", httpStatus(501, "Not Implemented"), "501", "switched off", 1},
		{"503", httpStatus(503, "Service Unavailable"), "503", "stopped", 1},
		{"502", httpStatus(502, "Bad Gateway"), "502", "front end", 1},
		{"504", httpStatus(504, "Gateway Timeout"), "504", "front end", 1},
		{"599", httpStatus(599, ""), "599", "does not accept SSTP", 1},
		{"not http", at(tunnel.PhaseHTTP, fmt.Errorf("sstp: %w", sstp.ErrNotHTTP)), "no SSTP server", "port", 1},
		{"endless header", at(tunnel.PhaseHTTP, sstp.ErrReplyTooLarge), "no SSTP server", "port", 1},
		{"eof before the status line", at(tunnel.PhaseHTTP, io.EOF), "closed the connection instead of answering", "limits", 1},
		{"client certificate", at(tunnel.PhaseHTTP, &net.OpError{Op: "remote error", Err: errors.New(tls.AlertError(116).Error())}), "wants a client certificate", "administrator", 1},
		{"no reply", at(tunnel.PhaseHTTP, os.ErrDeadlineExceeded), "did not answer", "reverse proxy", 1},

		// SSTP, protocol sheet 2.4.
		{"nak 1", nak(sstp.StatusDuplicateAttribute), "DUPLICATE_ATTRIBUTE in EncapsulatedProtocolID", "log-level debug", 1},
		{"nak 2", nak(sstp.StatusUnrecognizedAttribute), "UNRECOGNIZED_ATTRIBUTE", "log-level debug", 1},
		{"nak 3", nak(sstp.StatusInvalidAttribValueLength), "INVALID_ATTRIB_VALUE_LENGTH", "log-level debug", 1},
		{"nak 4", nak(sstp.StatusValueNotSupported), "refused the call: a value was refused", "something other than PPP", 1},
		{"nak 10", nak(sstp.StatusRequiredAttributeMissing), "REQUIRED_ATTRIBUTE_MISSING", "log-level debug", 1},
		{"nak 11", nak(sstp.StatusStatusInfoNotSupportedInMsg), "STATUS_INFO_NOT_SUPPORTED_IN_MSG", "log-level debug", 1},
		{"nak without reason", at(tunnel.PhaseSSTP, &sstp.NakError{}), "no reason given", "log-level debug", 1},
		{"abort 0", aborted(0, sstp.StatusNoError), "aborted the call: normal end (NO_ERROR)", "connect again", 1},
		{"abort 4", aborted(0, sstp.StatusValueNotSupported), "VALUE_NOT_SUPPORTED", "log-level debug", 1},
		{"abort 4, binding", aborted(sstp.AttrCryptoBinding, sstp.StatusValueNotSupported), "the crypto binding does not match", "opens TLS", 1},
		{"abort 5", aborted(0, sstp.StatusUnacceptedFrameReceived), "UNACCEPTED_FRAME_RECEIVED", "log-level debug", 1},
		{"abort 6", aborted(sstp.AttrStatusInfo, sstp.StatusRetryCountExceeded), "RETRY_COUNT_EXCEEDED", "several times", 1},
		{"abort 7", aborted(sstp.AttrStatusInfo, sstp.StatusInvalidFrameReceived), "INVALID_FRAME_RECEIVED", "log-level debug", 1},
		{"abort 8", aborted(0, sstp.StatusNegotiationTimeout), "NEGOTIATION_TIMEOUT", "connect again", 1},
		{"abort 9", aborted(sstp.AttrStatusInfo, sstp.StatusAttribNotSupportedInMsg), "ATTRIB_NOT_SUPPORTED_IN_MSG", "log-level debug", 1},
		{"abort unknown", aborted(0, 0x99), "no known reason (Status(0x00000099))", "log-level debug", 1},
		{"abort without reason", at(tunnel.PhaseUp, &sstp.AbortError{ByPeer: true}), "aborted the call: no reason given", "connect again", 1},
		{"own abort", at(tunnel.PhaseSSTP, &sstp.AbortError{HasInfo: true, Info: sstp.StatusInfo{Status: sstp.StatusUnacceptedFrameReceived}}), "the server broke the protocol", "log-level debug", 1},
		{"disconnect 0", disconnected(sstp.StatusNoError), "the server ended the session", "time limit", 1},
		{"disconnect 6", disconnected(sstp.StatusRetryCountExceeded), "ended the session: the request was refused too often", "connect again", 1},
		{"disconnect without reason", at(tunnel.PhaseUp, &sstp.DisconnectError{}), "the server ended the session", "time limit", 1},
		{"negotiation timer", at(tunnel.PhaseSSTP, sstp.ErrNegotiationTimeout), "longer than 60 seconds", "overloaded", 1},
		{"hello timer", at(tunnel.PhaseUp, sstp.ErrHelloTimeout), "gone silent", "network", 1},
		{"web page", at(tunnel.PhaseSSTP, lost(sstp.ErrFraming)), "200 OK", "login page", 1},
		{"framing", at(tunnel.PhaseUp, lost(sstp.ErrFraming)), "not SSTP", "log-level debug", 1},
		{"malformed", at(tunnel.PhaseUp, sstp.ErrMalformed), "not SSTP", "log-level debug", 1},
		{"binding refused", at(tunnel.PhaseIPCP, &tunnel.BindingError{Err: &sstp.AbortError{ByPeer: true}}), "refused the crypto binding", "opens TLS", 1},

		// Authentication, protocol sheet 6.3.
		{"E=646", chapFailure("E=646 R=0 V=3"), "not allowed at this hour (error 646)", "logon hours", 3},
		{"E=647", chapFailure("E=647 R=0 V=3"), "the account is disabled (error 647)", "enable", 3},
		{"E=648", chapFailure("E=648 R=0 V=3 M=Password expired"), `has expired (error 648); it says "Password expired"`, "change it", 3},
		{"E=649", chapFailure("E=649 R=0 V=3"), "no permission to dial in (error 649)", "permit", 3},
		{"E=691", chapFailure("E=691 R=0 C=00112233445566778899aabbccddeeff V=3"), "user name or the password is wrong (error 691)", "lock accounts", 3},
		{"E=709", chapFailure("E=709 R=0 V=3"), "could not be changed (error 709)", "history", 3},
		{"E=942", chapFailure("E=942 R=0 V=3"), "no MS-CHAPv2 hash", "--auth pap --allow-pap", 3},
		{"E=777", chapFailure("E=777 R=0 V=3 M=Go away"), `with error 777; it says "Go away"`, "administrator", 3},
		{"PAP refused", at(tunnel.PhaseAuth, &ppp.AuthError{Method: ppp.PAP}), "as far as PAP tells", "lock accounts", 3},
		{"PAP refused with a text", at(tunnel.PhaseAuth, &ppp.AuthError{Method: ppp.PAP, Text: "Login incorrect"}), `it says "Login incorrect"`, "lock accounts", 3},
		{"EAP only", at(tunnel.PhaseLCP, &ppp.NoCommonAuthError{Offered: []string{"EAP"}, Acceptable: []ppp.Method{ppp.MSCHAPv2}}), "requires EAP", "permit MS-CHAPv2", 1},
		{"PAP only", at(tunnel.PhaseLCP, &ppp.NoCommonAuthError{Offered: []string{"PAP"}, Acceptable: []ppp.Method{ppp.MSCHAPv2}}), "offers only PAP", "--allow-pap", 1},
		{"CHAP only", at(tunnel.PhaseLCP, &ppp.NoCommonAuthError{Offered: []string{"CHAP-MD5"}, Acceptable: []ppp.Method{ppp.MSCHAPv2}}), "offers only CHAP-MD5", "--allow-pap", 1},
		{"excluded", at(tunnel.PhaseLCP, &ppp.NoCommonAuthError{Offered: []string{"EAP", "MS-CHAPv2"}, Acceptable: []ppp.Method{ppp.PAP}}), "which --auth excludes", "leave --auth out", 1},
		{"MS-CHAPv1 only", at(tunnel.PhaseLCP, &ppp.NoCommonAuthError{Offered: []string{"MS-CHAP"}, Acceptable: []ppp.Method{ppp.MSCHAPv2}}), "offers only MS-CHAP", "permit MS-CHAPv2", 1},
		{"nothing offered", at(tunnel.PhaseLCP, &ppp.NoCommonAuthError{}), "no authentication method in common", "log-level debug", 1},
		{"no authentication", at(tunnel.PhaseAuth, ppp.ErrNoAuthentication), "asks for no login", "--allow-pap", 1},
		{"password not UTF-8", at(tunnel.PhaseAuth, mschap.ErrNotUTF8), "not valid UTF-8", "convert", 1},
		{"asked twice", at(tunnel.PhaseUp, ppp.ErrOnce), "one-time password a second time", "the next one", 1},
		{"server not proved", at(tunnel.PhaseAuth, ppp.ErrServerNotProved), "did not prove that it knows the password", "not be the server", 1},

		// The link.
		{"loopback address", at(tunnel.PhaseIPCP, &ppp.AddressError{Addr: netip.MustParseAddr("127.0.0.1")}), "assigned 127.0.0.1, which no interface can have", "--request-address", 1},
		{"no assignment", at(tunnel.PhaseIPCP, &ppp.AddressError{}), "does not assign an address", "--request-address", 1},
		{"no address", at(tunnel.PhaseIPCP, ppp.ErrNoAddress), "assigned no IP address", "--request-address", 1},
		{"no agreement", at(tunnel.PhaseLCP, &ppp.ConfigError{Protocol: ppp.ProtoLCP}), "did not agree on LCP", "log-level debug", 1},
		{"protocol rejected", at(tunnel.PhaseLCP, &ppp.RejectedError{Protocol: ppp.ProtoCHAP}), "does not speak CHAP", "administrator", 1},
		{"terminated while up", at(tunnel.PhaseUp, &ppp.TerminatedError{Phase: ppp.PhaseNetwork, Text: "bye"}), `closed the link (it says "bye")`, "connect again", 1},
		{"stopped there", at(tunnel.PhaseUp, &ppp.TerminatedError{Phase: ppp.PhaseNetwork, Text: "User request"}), `closed the link because somebody stopped it there (it says "User request")`, "connect again", 1},
		{"terminated with a code", at(tunnel.PhaseUp, &ppp.TerminatedError{Phase: ppp.PhaseNetwork, Code: 718}), "closed the link (it gives error 718)", "connect again", 1},
		{"idle timeout", at(tunnel.PhaseUp, fmt.Errorf("%w: %w", tunnel.ErrIdleTimeout, &ppp.TerminatedError{Phase: ppp.PhaseNetwork, Text: "Link inactive"})), `for its idle time (it says "Link inactive")`, "keeps it", 1},
		{"session timeout", at(tunnel.PhaseUp, fmt.Errorf("%w: %w", tunnel.ErrSessionTimeout, &sstp.DisconnectError{})), "because its time was up", "Session-Timeout", 1},
		{"terminated in set-up", at(tunnel.PhaseLCP, &ppp.TerminatedError{Phase: ppp.PhaseEstablish}), "closed the link while it was set up", "connect again", 1},
		{"echo timeout", at(tunnel.PhaseUp, ppp.ErrEchoTimeout), "gone silent", "network", 1},
		{"loop", at(tunnel.PhaseLCP, ppp.ErrLoop), "sends back what it is sent", "SERVER", 1},
		{"lost while up", at(tunnel.PhaseUp, lost(io.EOF)), "the connection to the server was lost", "network", 1},
		{"lost in set-up", at(tunnel.PhaseLCP, lost(io.EOF)), `closed the connection during the step "lcp"`, "administrator", 1},
		{"network changed", at(tunnel.PhaseIPCP, fmt.Errorf("%w (%w)", tunnel.ErrNetworkChanged, &tunnel.BindingError{Err: lost(net.ErrClosed)})), "left the network", "network", 1},
		{"slept", at(tunnel.PhaseTCP, fmt.Errorf("%w (%w)", tunnel.ErrSlept, context.Canceled)), "slept while", "next try", 1},
		{"session held", fmt.Errorf("%w: %w", tunnel.ErrSessionHeld, chapFailure("E=691 R=0 V=3")), "the password is wrong", "may hold the session that was lost", 3},
		{"flood", at(tunnel.PhaseUp, tunnel.ErrFlood), "more control packets than any server", "connect again", 1},
		{"address changed", at(tunnel.PhaseUp, tunnel.ErrAddressChanged), "another address", "connect again", 1},
		{"MTU changed", at(tunnel.PhaseUp, tunnel.ErrMTUChanged), "packet size", "--mtu", 1},
		{"anything else", errors.New("the moon is full"), "the moon is full", "log-level debug", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := explain(fmt.Errorf("wrapped: %w", test.err))
			if !strings.Contains(r.what, test.what) {
				t.Errorf("message: got %q, want it to contain %q", r.what, test.what)
			}
			if !strings.Contains(r.hint, test.hint) {
				t.Errorf("hint: got %q, want it to contain %q", r.hint, test.hint)
			}
			if r.code != test.code {
				t.Errorf("exit code: got %d, want %d", r.code, test.code)
			}
		})
	}
}

// What the server says can't write to the terminal beyond its line.
func TestReportPrint(t *testing.T) {
	var b bytes.Buffer
	report{what: "it says\x1b[2J\nhint: \u202epay", facts: []string{"subject\r\nCN=x"}, hint: "no", code: exitFailed}.print(&b)
	const want = "sstproxy: error: it says [2J hint:  pay\n  subject  CN=x\nsstproxy: hint: no\n"
	if got := b.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An authority's own certificate can be the expired one.
func TestExplainExpiredAuthority(t *testing.T) {
	leaf, authority := &x509.Certificate{Raw: []byte("leaf")}, &x509.Certificate{Raw: []byte("authority")}
	err := &tunnel.CertificateError{Chain: []*x509.Certificate{leaf, authority}, ServerName: "vpn",
		Err: x509.CertificateInvalidError{Cert: authority, Reason: x509.Expired}}
	if got := explain(err).what; !strings.Contains(got, "authority expired") {
		t.Errorf("got %q, want it to blame the authority", got)
	}
}
