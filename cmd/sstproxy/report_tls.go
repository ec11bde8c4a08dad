package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"sstproxy/tunnel"
)

// explainCertificate says why the server's certificate was not accepted, and
// shows what the user needs to decide whether it is the right one all the same.
func explainCertificate(e *tunnel.CertificateError) report {
	leaf := e.Chain[0]
	what, hint := certificateFault(e, leaf)
	return report{what: what, facts: certificateFacts(leaf), hint: hint, code: exitFailed}
}

func certificateFault(e *tunnel.CertificateError, leaf *x509.Certificate) (what, hint string) {
	var (
		pin     *tunnel.PinError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	const who = "the server's certificate "
	switch {
	case errors.As(e, &pin):
		return who + "is not the pinned one",
			"the server got a new certificate, or somebody stands between: ask its administrator before you change --pin or --fingerprint"
	case errors.As(e, &host):
		return fmt.Sprintf(who+"is not for %s", e.ServerName),
			"if one of its names is the server's, add --server-name NAME"
	case errors.As(e, &unknown):
		return who + "comes from an authority this machine does not know",
			"get the authority's certificate from the administrator and add --ca FILE; or compare the fingerprint with the administrator's and add it as above"
	case errors.Is(e, tunnel.ErrMissingEKU), errors.As(e, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return who + "is not meant for TLS servers (no serverAuth extended key usage)",
			"ask the administrator for a server certificate; if the fingerprint is right, add it as above"
	case errors.As(e, &invalid) && invalid.Reason == x509.Expired:
		return expiry(invalid, leaf)
	}
	return fmt.Sprintf(who+"can't be verified: %v", e.Err),
		"ask the administrator; if the fingerprint is right, add it as above"
}

// expiry tells a certificate that has ended from one that has not begun, and
// the server's own from its authority's.
func expiry(e x509.CertificateInvalidError, leaf *x509.Certificate) (what, hint string) {
	cert, who := e.Cert, "the certificate of the server's authority "
	if cert == nil || cert.Equal(leaf) {
		cert, who = leaf, "the server's certificate "
	}
	if time.Now().Before(cert.NotBefore) {
		return who + "is not valid before " + day(cert.NotBefore), "check the clock of this machine"
	}
	return who + "expired on " + day(cert.NotAfter),
		"the administrator must renew it; check the clock of this machine too"
}

// certificateFacts describes a certificate, ending with the two flags that
// would accept it and nothing else.
func certificateFacts(c *x509.Certificate) []string {
	return []string{
		"subject  " + c.Subject.String(),
		"issuer   " + c.Issuer.String(),
		"names    " + strings.Join(certificateNames(c), ", "),
		"valid    " + day(c.NotBefore) + " to " + day(c.NotAfter),
		"accept   --fingerprint " + tunnel.FormatFingerprint(tunnel.Fingerprint(c)),
		"or       --pin " + tunnel.FormatPin(tunnel.Pin(c)),
	}
}

// certificateNames lists the names a certificate proves.
func certificateNames(c *x509.Certificate) []string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names[:len(names):len(names)], ip.String())
	}
	if len(names) == 0 {
		return []string{"none"}
	}
	return names
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
