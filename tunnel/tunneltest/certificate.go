package tunneltest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// The default life of a certificate made here. It covers the year 2000, where
// the clock of a testing/synctest bubble starts.
var (
	certificateStart = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	certificateEnd   = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

// defaultNames are the names of a leaf that is not told any.
var defaultNames = []string{"localhost", "127.0.0.1", "::1", "vpn.example.test"}

// Authority is a certification authority for tests: it exists only in memory
// and its key is made anew each time. It is safe for concurrent use.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// Leaf says what a server certificate looks like. The zero value is a good
// one: names localhost, 127.0.0.1, ::1 and vpn.example.test, extended key
// usage serverAuth, valid from 1999 to 2049.
type Leaf struct {
	// Names are DNS names and IP addresses in text; nil means the default.
	Names []string
	// NotBefore and NotAfter bound the validity; zero means 1999 and 2049.
	NotBefore, NotAfter time.Time
	// Usage lists the extended key usages; nil means serverAuth. A client must
	// refuse a list without serverAuth and anyExtendedKeyUsage ([MS-SSTP] 3.2.4.1).
	Usage []x509.ExtKeyUsage
	// NoUsage leaves the extended key usage extension out.
	NoUsage bool
}

// GoodLeaf is the certificate every client should take.
func GoodLeaf() Leaf { return Leaf{} }

// ExpiredLeaf ended in June 1999, before the clock of any test.
func ExpiredLeaf() Leaf {
	return Leaf{NotAfter: time.Date(1999, 6, 1, 0, 0, 0, 0, time.UTC)}
}

// WrongNameLeaf is made out to other.example.test only.
func WrongNameLeaf() Leaf { return Leaf{Names: []string{"other.example.test"}} }

// NoUsageLeaf has no extended key usage extension at all.
func NoUsageLeaf() Leaf { return Leaf{NoUsage: true} }

// ClientOnlyLeaf has the extended key usage clientAuth alone.
func ClientOnlyLeaf() Leaf {
	return Leaf{Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

// NewAuthority makes an authority with an ECDSA P-256 key.
func NewAuthority() (*Authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "tunneltest authority"},
		NotBefore:             certificateStart,
		NotAfter:              certificateEnd,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	certificate, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Authority{certificate: certificate, key: key}, nil
}

// PEM returns the authority's certificate, as a file given to a client holds it.
func (a *Authority) PEM() []byte { return encodePEM(a.certificate.Raw) }

// Issue makes a server certificate under the authority. The chain it carries
// has the leaf first and the authority last.
func (a *Authority) Issue(l Leaf) (*tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	leaf, err := sign(l.template(), a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{
		Certificate: [][]byte{leaf.Raw, a.certificate.Raw}, PrivateKey: key, Leaf: leaf,
	}, nil
}

// SelfSigned makes a server certificate that is its own and only authority.
func SelfSigned(l Leaf) (*tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := l.template()
	leaf, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func (l Leaf) template() *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber:          big.NewInt(2),
		NotBefore:             certificateStart,
		NotAfter:              certificateEnd,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if !l.NotBefore.IsZero() {
		t.NotBefore = l.NotBefore
	}
	if !l.NotAfter.IsZero() {
		t.NotAfter = l.NotAfter
	}
	if l.Usage != nil {
		t.ExtKeyUsage = l.Usage
	}
	if l.NoUsage {
		t.ExtKeyUsage = nil
	}
	names := l.Names
	if names == nil {
		names = defaultNames
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	t.Subject = pkix.Name{CommonName: names[len(names)-1]}
	return t
}

func newKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("tunneltest: certificate: key: %w", err)
	}
	return key, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("tunneltest: certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("tunneltest: certificate: %w", err)
	}
	return c, nil
}

func encodePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
