package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
)

// credentials is the pair that clients must show. The zero value asks for none.
type credentials struct {
	user, password string
}

func (c credentials) required() bool { return c != credentials{} }

// Valid reports whether the pair is the right one, or whether none is asked
// for. The time it takes depends neither on where nor on how far the pair is
// wrong. It is the CredentialStore of go-socks5.
func (c credentials) Valid(user, password string) bool {
	if !c.required() {
		return true
	}
	return equal(c.user, user)&equal(c.password, password) == 1
}

// equal compares digests, because ConstantTimeCompare gives away a difference
// in length.
func equal(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}

// validHeader checks a request's Proxy-Authorization (RFC 7617).
func (c credentials) validHeader(h http.Header) bool {
	if !c.required() {
		return true
	}
	r := http.Request{Header: http.Header{"Authorization": h["Proxy-Authorization"]}}
	user, password, ok := r.BasicAuth()
	return ok && c.Valid(user, password)
}
