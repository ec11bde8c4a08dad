package tunnel

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

var (
	// ErrMissingEKU means that the server's certificate names no extended key
	// usage that permits TLS servers; a client "MUST" check that [MS-SSTP] 3.2.4.1.
	ErrMissingEKU = errors.New("certificate is not meant for TLS servers: no serverAuth extended key usage")

	// ErrHTTPTimeout means that the server took the request and stayed silent.
	ErrHTTPTimeout = errors.New("no reply to SSTP_DUPLEX_POST within 60 s")

	// ErrFlood means that the server sent more control frames than any server
	// has reason to, or asked for so many answers, without reading them, that
	// no more are kept.
	ErrFlood = errors.New("server sends too many control frames")

	// ErrAddressChanged means that the server renegotiated the link and gave
	// another IP address: connections inside the tunnel can't go on.
	ErrAddressChanged = errors.New("server changed the address of the tunnel")

	// ErrMTUChanged means that the server renegotiated the link and takes only
	// smaller packets than before: what is on its way would be lost.
	ErrMTUChanged = errors.New("server lowered the largest packet size of the tunnel")

	// ErrNetworkChanged means that this host has left the network over which it
	// reached the server.
	ErrNetworkChanged = errors.New("the network of this machine has changed")

	// ErrSlept means that this machine slept, or this process was held, while a
	// session was being made.
	ErrSlept = errors.New("this machine slept")

	// ErrReconnect means that [Keeper.Reconnect] was called.
	ErrReconnect = errors.New("reconnect requested")

	// ErrReplaced means that the next session is up before the server ends this
	// one, as it had announced.
	ErrReplaced = errors.New("replaced before its announced end")

	// ErrAddressHeld means that the server gave another address than before,
	// perhaps because it has not yet noticed the end of the session before.
	ErrAddressHeld = errors.New("the server does not yet give the address of before")

	// ErrSessionHeld means that the server refuses a login that it took before,
	// perhaps because it has not yet noticed the loss of that session and allows
	// no second one. The refusal is wrapped with it.
	ErrSessionHeld = errors.New("the server may still hold the session that was lost")

	// ErrIdleTimeout means that the server ended the session because nothing had
	// passed through it for too long, and said so. What it said is wrapped with it.
	ErrIdleTimeout = errors.New("idle timeout")

	// ErrSessionTimeout means that the server ended the session because its time
	// was up: it said so, or had announced the end for then.
	ErrSessionTimeout = errors.New("session timeout")

	// ErrConnectTimeout means that a session was not up in time.
	ErrConnectTimeout = errors.New("not connected in time")

	// ErrRunning means that Run was called twice, or after Close.
	ErrRunning = errors.New("session is already running or closed")
)

// Error is what Dial and Run return: the phase in which the session ended and
// the cause, which errors.Is and errors.As see.
type Error struct {
	Phase Phase
	Peer  string // the server's address and port, if TCP was connected by Dial
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("tunnel: %v: %v", e.Phase, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CertificateError means that TLS worked but the server did not prove to be
// the one that was asked for.
type CertificateError struct {
	Chain      []*x509.Certificate // as sent, leaf first; never empty
	ServerName string              // the name that was to be proved
	Err        error               // from crypto/x509, ErrMissingEKU or *PinError
}

func (e *CertificateError) Error() string {
	return fmt.Sprintf("server certificate for %s not accepted: %v", e.ServerName, e.Err)
}

// Unwrap returns the reason.
func (e *CertificateError) Unwrap() error { return e.Err }

// PinError means that neither the leaf's public key nor the leaf itself is
// among those the user pinned.
type PinError struct {
	Pin         [32]byte // SHA-256 of the leaf's SubjectPublicKeyInfo
	Fingerprint [32]byte // SHA-256 of the leaf
}

func (e *PinError) Error() string {
	return fmt.Sprintf("certificate matches no pin: its key is %s, its fingerprint %s",
		FormatPin(e.Pin), FormatFingerprint(e.Fingerprint))
}

// BindingError means that the server ended the call right after the crypto
// binding was sent: it saw another TLS certificate than we did, or derived
// another key from the authentication ([MS-SSTP] 3.3.5.2.3).
type BindingError struct {
	Err error // *sstp.AbortError, or the loss of the connection
}

func (e *BindingError) Error() string { return fmt.Sprintf("crypto binding refused: %v", e.Err) }

// Unwrap returns how the server ended the call.
func (e *BindingError) Unwrap() error { return e.Err }

// Pin returns the SHA-256 of a certificate's SubjectPublicKeyInfo.
func Pin(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// Fingerprint returns the SHA-256 of a certificate's DER.
func Fingerprint(c *x509.Certificate) [32]byte { return sha256.Sum256(c.Raw) }

// FormatPin writes a pin as ParsePin reads it: sha256/BASE64.
func FormatPin(p [32]byte) string { return "sha256/" + base64.StdEncoding.EncodeToString(p[:]) }

// FormatFingerprint writes a fingerprint as ParseFingerprint reads it: 64
// hexadecimal digits.
func FormatFingerprint(f [32]byte) string { return hex.EncodeToString(f[:]) }
