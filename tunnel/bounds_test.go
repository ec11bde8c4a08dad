package tunnel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/tunneltest"
)

// silent is a client of a server that speaks TLS in one version, and nothing
// after that.
func silent(t *testing.T, version uint16) tunnel.Config {
	t.Helper()
	authority, err := tunneltest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := authority.Issue(tunneltest.GoodLeaf())
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: version, MaxVersion: version}
	return tunnel.Config{
		Server: "vpn.example.test", User: "alice", TLS: tunnel.TLSConfig{CA: authority.PEM()},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go io.Copy(io.Discard, tls.Server(far, cfg)) // ends with the connection
			return near, nil
		},
	}
}

// TestTLSVersions: nothing below TLS 1.2 is spoken, and the wait for the reply
// to SSTP_DUPLEX_POST is bounded.
func TestTLSVersions(t *testing.T) {
	for version, phase := range map[uint16]tunnel.Phase{
		tls.VersionTLS10: tunnel.PhaseTLS, tls.VersionTLS11: tunnel.PhaseTLS,
		tls.VersionTLS12: tunnel.PhaseHTTP, tls.VersionTLS13: tunnel.PhaseHTTP,
	} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				_, err := tunnel.Dial(t.Context(), silent(t, version))
				var e *tunnel.Error
				if !errors.As(err, &e) || e.Phase != phase {
					t.Fatalf("Dial = %v, want the end in phase %v", err, phase)
				}
				if phase == tunnel.PhaseHTTP && (!errors.Is(err, tunnel.ErrHTTPTimeout) || time.Since(start) > 61*time.Second) {
					t.Errorf("Dial = %v after %v, want ErrHTTPTimeout after 60 s", err, time.Since(start))
				}
			})
		})
	}
}
