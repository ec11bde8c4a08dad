package tunnel

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
)

// TLSConfig says how the server proves who it is. The zero value wants a
// certificate for Config.ServerName from a root the system trusts.
type TLSConfig struct {
	// CA holds PEM certificates that are trusted beside the system's roots.
	CA []byte

	// Pins are SHA-256 values of public keys, Fingerprints of leaf
	// certificates. When either is set, the leaf must match one of them. A
	// match is the proof: chain, name, validity and key usage are then looked
	// at only if CA is set too.
	Pins         [][32]byte
	Fingerprints [][32]byte

	// Insecure accepts any certificate that Pins and Fingerprints leave: whoever
	// can redirect the connection can then read it and take part in it.
	Insecure bool

	// KeyLog, if set, gets the secrets of each connection in the key log format
	// of NSS (RFC 9850), one line per Write, one Write at a time. Whoever has
	// them can decrypt it. An error of Write fails the handshake.
	KeyLog io.Writer
}

// ParsePin reads sha256/BASE64, the form of curl and of HTTP public key pins;
// "sha256//BASE64" is taken as well.
func ParsePin(s string) (pin [32]byte, err error) {
	rest, ok := strings.CutPrefix(s, "sha256/")
	if !ok {
		return pin, fmt.Errorf("pin %q: want sha256/BASE64", s)
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "/"))
	if err != nil || len(b) != len(pin) {
		// A key whose digest starts with "/" has one more slash of its own.
		b, err = base64.StdEncoding.DecodeString(rest)
	}
	if err != nil || len(b) != len(pin) {
		return pin, fmt.Errorf("pin %q: want the base64 of 32 octets behind sha256/", s)
	}
	return [32]byte(b), nil
}

// ParseFingerprint reads the SHA-256 of a certificate: 64 hexadecimal digits,
// with or without colons or blanks between them.
func ParseFingerprint(s string) (fp [32]byte, err error) {
	clean := strings.NewReplacer(":", "", " ", "").Replace(s)
	b, err := hex.DecodeString(clean)
	if err != nil || len(b) != len(fp) {
		return fp, fmt.Errorf("fingerprint %q: want 64 hexadecimal digits (SHA-256)", s)
	}
	return [32]byte(b), nil
}

// check finds a CA that is none before anything is dialled.
func (c TLSConfig) check() error {
	if len(c.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.CA) {
		return errors.New("CA file holds no PEM certificate")
	}
	return nil
}

// byChain tells whether the chain has to be verified.
func (c TLSConfig) byChain() bool {
	return !c.Insecure && (len(c.Pins)+len(c.Fingerprints) == 0 || len(c.CA) > 0)
}

// loadRoots returns a function that waits for the system's certificates, CA with
// them. To read them takes tens of milliseconds; it is begun here if there is no
// CA to try first. The pool is nil where Verify is to take them by itself.
func (c TLSConfig) loadRoots() func() *x509.CertPool {
	load := sync.OnceValue(func() *x509.CertPool {
		pool, err := x509.SystemCertPool() // cached for Verify too
		if len(c.CA) == 0 {
			return nil
		}
		if err != nil {
			pool = x509.NewCertPool()
		}
		pool.AppendCertsFromPEM(c.CA)
		return pool
	})
	if c.byChain() && len(c.CA) == 0 {
		go load() // ends by itself
	}
	return load
}

// handshakeTLS speaks TLS 1.2 or 1.3 on raw and proves the server's identity.
// It sends no ALPN (no known client does) and keeps no session: the hash in
// the crypto binding must be that of a certificate seen in this very handshake.
func handshakeTLS(ctx context.Context, raw net.Conn, c TLSConfig, roots func() *x509.CertPool, serverName string) (*tls.Conn, error) {
	conn := tls.Client(raw, &tls.Config{
		ServerName: serverName,
		MinVersion: tls.VersionTLS12,
		// Records start at full size: a tunnel is no web page.
		DynamicRecordSizingDisabled: true,
		KeyLogWriter:                c.KeyLog,
		// Not a weakening: VerifyConnection below verifies instead, so that
		// pins can stand for the chain and the errors carry the chain.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return c.verify(state.PeerCertificates, roots, serverName)
		},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return conn, nil
}

// verify decides whether the chain proves the server to be serverName.
func (c TLSConfig) verify(chain []*x509.Certificate, roots func() *x509.CertPool, serverName string) error {
	if len(chain) == 0 {
		return errors.New("server sent no certificate")
	}
	err := c.verifyPin(chain[0])
	if err == nil && c.byChain() {
		err = c.verifyChain(chain, roots, serverName)
	}
	if err != nil {
		return &CertificateError{Chain: chain, ServerName: serverName, Err: err}
	}
	return nil
}

func (c TLSConfig) verifyPin(leaf *x509.Certificate) error {
	if len(c.Pins)+len(c.Fingerprints) == 0 {
		return nil
	}
	pin, fp := Pin(leaf), Fingerprint(leaf)
	same := func(want [32]byte) func([32]byte) bool {
		return func(got [32]byte) bool { return subtle.ConstantTimeCompare(want[:], got[:]) == 1 }
	}
	if slices.ContainsFunc(c.Pins, same(pin)) || slices.ContainsFunc(c.Fingerprints, same(fp)) {
		return nil
	}
	return &PinError{Pin: pin, Fingerprint: fp}
}

// verifyChain asks for the roots only if CA does not do: whatever CA proves, all
// roots together prove too.
func (c TLSConfig) verifyChain(chain []*x509.Certificate, roots func() *x509.CertPool, serverName string) error {
	if len(c.CA) > 0 {
		ca := x509.NewCertPool()
		ca.AppendCertsFromPEM(c.CA)
		if verifyChain(chain, ca, serverName) == nil {
			return nil
		}
	}
	return verifyChain(chain, roots(), serverName)
}

func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, serverName string) error {
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		DNSName:       serverName,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return err
	}
	// The certificate "MUST" carry the usage; Verify takes its absence for any.
	leaf := chain[0]
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return ErrMissingEKU
	}
	return nil
}
