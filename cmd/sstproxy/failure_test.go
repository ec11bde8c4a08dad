package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sstproxy/tunnel/sstp"
	"sstproxy/tunnel/tunneltest"
)

// startServer starts an embedded server with the account alice / wonderland.
func startServer(t *testing.T, cfg tunneltest.Config) *tunneltest.Server {
	t.Helper()
	if cfg.Users == nil {
		cfg.Users = map[string]string{"alice": "wonderland"}
	}
	server, err := tunneltest.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server
}

// caFile writes what a client of the server has to trust.
func caFile(t *testing.T, pem []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// connectArgs is a command line for an address, with the defaults of these tests.
func connectArgs(address, ca string, more ...string) []string {
	args := []string{"connect", address, "-u", "alice", "--listen", "127.0.0.1:0", "--ca", ca}
	return append(args, more...)
}

var withPassword = map[string]string{"SSTPROXY_PASSWORD": "wonderland"}

// wantFailure checks code, message and hint of a command that failed.
func wantFailure(t *testing.T, got outcome, code int, what, hint string) {
	t.Helper()
	if got.code != code {
		t.Errorf("exit code: got %d, want %d", got.code, code)
	}
	for prefix, want := range map[string]string{"sstproxy: error: ": what, "sstproxy: hint: ": hint} {
		if line := lineWith(got.stderr, prefix); !strings.Contains(line, want) {
			t.Errorf("got %q, want it to contain %q; stderr:\n%s", line, want, got.stderr)
		}
	}
	if strings.Contains(got.stderr, "wonderland") {
		t.Errorf("the password is in the output:\n%s", got.stderr)
	}
}

// lineWith is the line of text that begins with prefix.
func lineWith(text, prefix string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return strings.TrimSuffix(line, "\n")
		}
	}
	return ""
}

// What servers do to a client that can't stay, as the user sees it.
func TestServerFailures(t *testing.T) {
	type quirks = tunneltest.Quirks
	auth := func(a tunneltest.AuthQuirks) quirks { return quirks{Auth: a} }
	status := func(code int) quirks { return quirks{HTTP: tunneltest.HTTPQuirks{Status: code}} }
	tests := []struct {
		name       string
		quirks     quirks
		args       []string
		code       int
		what, hint string
	}{
		{"404", status(404), nil, 1, "HTTP status 404", "not registered"},
		{"501", status(501), nil, 1, "HTTP status 501", "switched off"},
		{"503", status(503), nil, 1, "HTTP status 503", "stopped"},
		{"301", quirks{HTTP: tunneltest.HTTPQuirks{Status: 301, Location: "https://www.example.com/"}}, nil, 1, "pointing to https://www.example.com/", "web site"},
		{"no reply", quirks{HTTP: tunneltest.HTTPQuirks{Close: true}}, nil, 1, "instead of answering", "limits"},
		{"not http", quirks{HTTP: tunneltest.HTTPQuirks{Raw: "220 mail.example.com ESMTP\r\n"}}, nil, 1, "no SSTP server", "port"},
		{"silent", quirks{HTTP: tunneltest.HTTPQuirks{Silent: true}}, []string{"--connect-timeout", "200ms"}, 1, `at the step "http"`, "silent"},
		{"naks", quirks{SSTP: tunneltest.SSTPQuirks{Naks: 9}}, nil, 1, "refused too often (RETRY_COUNT_EXCEEDED", "log-level debug"},
		{"no ack", quirks{SSTP: tunneltest.SSTPQuirks{NeverAcks: true}}, []string{"--connect-timeout", "200ms"}, 1, `at the step "sstp"`, "--connect-timeout"},
		{"wrong password", auth(tunneltest.AuthQuirks{RefuseCode: 691}), nil, 3, "wrong (error 691)", "lock accounts"},
		{"logon hours", auth(tunneltest.AuthQuirks{RefuseCode: 646}), nil, 3, "error 646", "logon hours"},
		{"disabled", auth(tunneltest.AuthQuirks{RefuseCode: 647}), nil, 3, "error 647", "enable"},
		{"expired", auth(tunneltest.AuthQuirks{RefuseCode: 648}), nil, 3, "error 648", "change it"},
		{"no dial-in", auth(tunneltest.AuthQuirks{RefuseCode: 649}), nil, 3, "error 649", "permit"},
		{"EAP only", auth(tunneltest.AuthQuirks{Methods: []tunneltest.Method{tunneltest.EAP}}), nil, 1, "requires EAP", "MS-CHAPv2"},
		{"PAP only", auth(tunneltest.AuthQuirks{Methods: []tunneltest.Method{tunneltest.PAP}}), nil, 1, "offers only PAP", "--allow-pap"},
		{"false server", auth(tunneltest.AuthQuirks{WrongS: true}), nil, 1, "did not prove", "not be the server"},
		{"server without proof", auth(tunneltest.AuthQuirks{OmitsS: true}), nil, 1, "did not prove", "not be the server"},
		{"binding refused", quirks{SSTP: tunneltest.SSTPQuirks{NoKeys: true}}, nil, 1, "refused the crypto binding", "opens TLS"},
		{"no address", quirks{NCP: tunneltest.NCPQuirks{NoAddress: true}}, nil, 1, "no IP address", "--request-address"},
		{"address rejected", quirks{NCP: tunneltest.NCPQuirks{RejectsAddress: true}}, nil, 1, "does not assign an address", "--request-address"},
		{"no ipcp", quirks{NCP: tunneltest.NCPQuirks{NoIPCP: true}}, nil, 1, "no IP address", "--request-address"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t, tunneltest.Config{Quirks: test.quirks, Attach: tunneltest.Reflect})
			args := connectArgs(server.Addr().String(), caFile(t, server.CA()), test.args...)
			got := try(t.Context(), withPassword, args...)
			// A busy machine may not get there in so little time.
			for limit := time.Second; test.args != nil && limit < patience && !strings.Contains(got.stderr, test.what); limit *= 4 {
				got = try(t.Context(), withPassword, append(args, "--connect-timeout", limit.String())...)
			}
			wantFailure(t, got, test.code, test.what, test.hint)
		})
	}
}

// The credentials as the server knows them, and as it does not.
func TestCredentialsRefused(t *testing.T) {
	server := startServer(t, tunneltest.Config{Methods: []tunneltest.Method{tunneltest.MSCHAPv2, tunneltest.PAP}})
	ca := caFile(t, server.CA())
	env := map[string]string{"SSTPROXY_PASSWORD": "looking-glass"}
	wantFailure(t, try(t.Context(), env, connectArgs(server.Addr().String(), ca)...), 3, "error 691", "lock accounts")
	pap := connectArgs(server.Addr().String(), ca, "--allow-pap", "--auth", "pap")
	wantFailure(t, try(t.Context(), env, pap...), 3, "as far as PAP tells", "lock accounts")
	if n := server.Count(tunneltest.EventAuthenticationFailed); n != 2 {
		t.Errorf("got %d attempts to log in, want 2: none is repeated", n)
	}
}

// A server that ends the session instead of answering the login has refused it,
// and does not get the password again.
func TestLoginUnanswered(t *testing.T) {
	server := startServer(t, tunneltest.Config{
		Methods: []tunneltest.Method{tunneltest.PAP},
		Hook: func(c *tunneltest.Conn, e tunneltest.Event) bool {
			if e.Kind != tunneltest.EventSending || e.Name != "PAP Authenticate-Ack" {
				return false
			}
			c.SendMessage(sstp.Message{Type: sstp.CallDisconnect})
			return true
		},
	})
	args := connectArgs(server.Addr().String(), caFile(t, server.CA()), "--allow-pap", "--keep-trying")
	wantFailure(t, try(t.Context(), withPassword, args...), 3, "refused the login, for it ended the session instead of answering", "lock accounts")
	if n := server.Count(tunneltest.EventCredentials); n != 1 {
		t.Errorf("the password was sent %d times", n)
	}
}

// Certificates that are not accepted, and what accepts them.
func TestCertificateFailures(t *testing.T) {
	leaves := []struct {
		name       string
		leaf       tunneltest.Leaf
		what, hint string
	}{
		{"expired", tunneltest.ExpiredLeaf(), "the server's certificate expired on ", "renew"},
		{"wrong name", tunneltest.WrongNameLeaf(), "is not for 127.0.0.1", "--server-name"},
		{"no usage", tunneltest.NoUsageLeaf(), "no serverAuth", "administrator"},
		{"client only", tunneltest.ClientOnlyLeaf(), "no serverAuth", "administrator"},
	}
	authority, err := tunneltest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	ca := caFile(t, authority.PEM())
	for _, test := range leaves {
		t.Run(test.name, func(t *testing.T) {
			cert, err := authority.Issue(test.leaf)
			if err != nil {
				t.Fatal(err)
			}
			server := startServer(t, tunneltest.Config{Certificate: cert})
			got := try(t.Context(), withPassword, connectArgs(server.Addr().String(), ca)...)
			wantFailure(t, got, 1, test.what, test.hint)
			wantAcceptable(t, server, got.stderr)
		})
	}
}

// wantAcceptable pastes the flags of a certificate's report and expects that
// each of them gets the client past TLS, as far as its wrong password.
func wantAcceptable(t *testing.T, server *tunneltest.Server, report string) {
	t.Helper()
	for _, prefix := range []string{"  accept ", "  or "} {
		flags := strings.Fields(strings.TrimPrefix(lineWith(report, prefix), prefix))
		if len(flags) != 2 {
			t.Errorf("got flags %q in the report:\n%s", flags, report)
			continue
		}
		args := append([]string{"connect", server.Addr().String(), "-u", "alice", "--listen", "127.0.0.1:0"}, flags...)
		got := try(t.Context(), map[string]string{"SSTPROXY_PASSWORD": "x"}, args...)
		if got.code != exitRefused {
			t.Errorf("%q: got code %d, want %d; stderr:\n%s", flags, got.code, exitRefused, got.stderr)
		}
	}
}

func TestUnknownAuthority(t *testing.T) {
	server := startServer(t, tunneltest.Config{})
	args := []string{"connect", server.Addr().String(), "-u", "alice", "--listen", "127.0.0.1:0"}
	got := try(t.Context(), withPassword, args...)
	wantFailure(t, got, 1, "an authority this machine does not know", "--ca FILE")
	for _, fact := range []string{"  subject  ", "  issuer   ", "  names    ", "  valid    "} {
		if lineWith(got.stderr, fact) == "" {
			t.Errorf("no line %q in the report:\n%s", fact, got.stderr)
		}
	}
	wantAcceptable(t, server, got.stderr)

	pinned := append(args, "--pin", "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	wantFailure(t, try(t.Context(), withPassword, pinned...), 1, "is not the pinned one", "before you change --pin")

	insecure := append(args, "--insecure")
	got = try(t.Context(), map[string]string{"SSTPROXY_PASSWORD": "x"}, insecure...)
	if got.code != exitRefused || !strings.Contains(got.stderr, insecureWarning) {
		t.Errorf("--insecure: got code %d, stderr:\n%s", got.code, got.stderr)
	}
}

// Ports where no SSTP server is.
func TestOtherServices(t *testing.T) {
	mail := func(c net.Conn) { fmt.Fprint(c, "220 mail.example.com ESMTP\r\n"); io.Copy(io.Discard, c) }
	hangUp := func(net.Conn) {}
	old := func(c net.Conn) {
		s := tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, Certificates: []tls.Certificate{anyCertificate(t)}})
		s.Handshake()
	}
	silent := func(c net.Conn) { io.Copy(io.Discard, c) }
	tests := []struct {
		name       string
		serve      func(net.Conn)
		limit      string // of the time to connect
		what, hint string
	}{
		{"mail", mail, "1m", "does not speak TLS", "HTTPS port"},
		{"hang up", hangUp, "1m", "cut during the TLS handshake", "middlebox"},
		{"old tls", old, "1m", "refuses TLS 1.2 and 1.3", "enable TLS 1.2"},
		{"silent", silent, "500ms", `at the step "tls"`, "another service"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			address := serveTCP(t, test.serve)
			args := []string{"connect", address, "-u", "alice", "--listen", "127.0.0.1:0", "--connect-timeout", test.limit}
			wantFailure(t, try(t.Context(), withPassword, args...), 1, test.what, test.hint)
		})
	}
}

func anyCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	cert, err := tunneltest.SelfSigned(tunneltest.GoodLeaf())
	if err != nil {
		t.Error(err)
		return tls.Certificate{}
	}
	return *cert
}

// serveTCP serves each connection to a free port by a function of its own.
func serveTCP(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, serve)
	return l.Addr().String()
}

// serveOn serves each connection to l, which it closes at the end of the test.
func serveOn(t *testing.T, l net.Listener, serve func(net.Conn)) {
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection, at the latest with what it came through
				defer c.Close()
				serve(c)
			}()
		}
	}()
}

func TestNothingListens(t *testing.T) {
	args := []string{"connect", freePort(t), "-u", "alice", "--listen", "127.0.0.1:0"}
	wantFailure(t, try(t.Context(), withPassword, args...), 1, "nothing listens on that port", "check the port")
}

// A local port in use is an error before anything is dialled or asked.
func TestListenerInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	args := []string{"connect", "192.0.2.1", "-u", "alice", "--listen", "127.0.0.1:0", "--listen", l.Addr().String()}
	wantFailure(t, try(t.Context(), nil, args...), 1, "can't listen on "+l.Addr().String()+": it is in use", "--listen HOST:PORT")
}

// A running session that ends by no wish of ours.
func TestSessionLost(t *testing.T) {
	tests := []struct {
		name string
		end  func(*tunneltest.Conn)
		what string
		by   string // in the log
	}{
		{"killed", (*tunneltest.Conn).Kill, "the connection to the server was lost", "by="},
		{"disconnected", func(c *tunneltest.Conn) { c.Disconnect(sstp.StatusNoError) }, "the server ended the session", "by=server layer=SSTP"},
		{"aborted", func(c *tunneltest.Conn) { c.Abort(sstp.StatusInfo{Status: sstp.StatusRetryCountExceeded}) }, "the server aborted the call: the request was refused too often", "by=server layer=SSTP"},
		{"terminated", func(c *tunneltest.Conn) { c.Terminate("maintenance") }, `closed the link (it says "maintenance")`, "by=server layer=LCP"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := startServer(t, tunneltest.Config{Attach: tunneltest.Reflect})
			c := start(t, withPassword, connectArgs(server.Addr().String(), caFile(t, server.CA()), "--give-up-after", "0")...)
			c.stderr.wait(t, "proxy listening")
			for _, conn := range server.Sessions() {
				test.end(conn)
			}
			wantFailure(t, c.end(t), 1, test.what, "")
			if line, _ := c.stderr.find(`msg="given up"`); !strings.Contains(line, test.by) {
				t.Errorf("got %q, want %q in it; stderr:\n%s", line, test.by, c.stderr)
			}
		})
	}
}

// A request to stop is no failure, at whatever step it comes.
func TestStopWhileConnecting(t *testing.T) {
	server := startServer(t, tunneltest.Config{Quirks: tunneltest.Quirks{SSTP: tunneltest.SSTPQuirks{NeverAcks: true}}})
	c := start(t, withPassword, connectArgs(server.Addr().String(), caFile(t, server.CA()))...)
	if _, err := server.Wait(t.Context(), tunneltest.EventHTTPRequest); err != nil {
		t.Fatal(err)
	}
	c.stop()
	if got := c.end(t); got.code != exitOK || strings.Contains(got.stderr, "error:") {
		t.Errorf("got code %d, stderr:\n%s", got.code, got.stderr)
	}
}
