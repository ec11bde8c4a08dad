package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// credentials is the pair that clients must show. The zero value asks for none.
type credentials struct {
	user, password string
}

func (c credentials) required() bool { return c != credentials{} }

// valid reports whether the pair is the right one. The time it takes depends
// neither on where nor on how far the pair is wrong.
func (c credentials) valid(user, password string) bool {
	return equal(c.user, user)&equal(c.password, password) == 1
}

// equal compares digests, because ConstantTimeCompare gives away a difference
// in length.
func equal(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}

// shown returns the pair in a request's Proxy-Authorization (RFC 7617).
func shown(h http.Header) (user, password string, ok bool) {
	r := http.Request{Header: http.Header{"Authorization": h["Proxy-Authorization"]}}
	return r.BasicAuth()
}

// How long a source has to wait after a wrong guess: firstDelay, twice as long
// after each further one, up to maxDelay. It starts anew when it was right, or
// made no wrong guess for forgetAfter.
const (
	firstDelay  = 250 * time.Millisecond
	maxDelay    = 4 * time.Second
	forgetAfter = 10 * time.Minute
)

// maxSources bounds the memory for sources, maxRepeats that for each one's
// wrong guesses.
const maxSources, maxRepeats = 1024, 4

// gate checks credentials and lets nobody guess fast. Its methods may be called
// concurrently.
type gate struct {
	creds credentials
	key   [sha256.Size]byte // of the digests, so that they give nothing away

	mu      sync.Mutex
	sources map[netip.Prefix]*source // that guessed wrong
}

// source is where wrong guesses come from.
type source struct {
	wrong int       // guesses
	until time.Time // nothing is checked before
	last  [][]byte  // digests of wrong guesses
}

func newGate(creds credentials) *gate {
	g := &gate{creds: creds, sources: map[netip.Prefix]*source{}}
	_, _ = rand.Read(g.key[:]) // which never fails
	return g
}

// check reports whether the pair is right, and if not, whether that was a new
// guess. It waits first while the source has to, or until ctx ends: that is
// wrong then, without a guess.
func (g *gate) check(ctx context.Context, from net.Addr, user, password string) (ok, guess bool) {
	if !g.creds.required() {
		return true, false
	}
	for {
		ok, guess, wait := g.try(sourceOf(from), user, password)
		if wait <= 0 {
			return ok, guess
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false, false
		}
	}
}

// try is one attempt; if wait is not 0 it was none. The same wrong pair again
// is no guess and costs nothing: some program has an old password, and the ones
// beside it that have the right one shall not suffer.
func (g *gate) try(from netip.Prefix, user, password string) (ok, guess bool, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	src := g.sources[from]
	if src == nil || now.Sub(src.until) > forgetAfter {
		src = &source{}
	}
	digest := g.digest(user, password)
	if slices.ContainsFunc(src.last, func(d []byte) bool { return hmac.Equal(d, digest) }) {
		return false, false, 0
	}
	if wait := src.until.Sub(now); wait > 0 {
		return false, false, wait
	}
	if g.creds.valid(user, password) {
		delete(g.sources, from)
		return true, false, 0
	}
	src.until = now.Add(min(firstDelay<<min(src.wrong, 10), maxDelay))
	src.wrong++
	src.last = append(src.last, digest)
	src.last = src.last[max(len(src.last)-maxRepeats, 0):]
	g.remember(from, src)
	return false, true, 0
}

// remember keeps a source, in the place of the one that may try again first if
// there are too many.
func (g *gate) remember(from netip.Prefix, src *source) {
	if _, known := g.sources[from]; !known && len(g.sources) >= maxSources {
		var oldest netip.Prefix
		for p, s := range g.sources {
			if !oldest.IsValid() || s.until.Before(g.sources[oldest].until) {
				oldest = p
			}
		}
		delete(g.sources, oldest)
	}
	g.sources[from] = src
}

func (g *gate) digest(user, password string) []byte {
	inner := sha256.Sum256([]byte(user))
	h := hmac.New(sha256.New, g.key[:])
	h.Write(inner[:])
	h.Write([]byte(password))
	return h.Sum(nil)
}

// sourceOf returns who is slowed down together: an IPv4 address, the network of
// one host in IPv6, and everybody who has no address.
func sourceOf(from net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	addr := ap.Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

// login checks what a client showed, and logs a wrong guess.
func (s *Server) login(ctx context.Context, c *clientConn, user, password string) bool {
	ok, guess := s.gate.check(ctx, c.RemoteAddr(), user, password)
	if guess {
		s.cfg.Logger.Info("wrong proxy credentials", "peer", c.RemoteAddr())
	}
	return ok
}

// loginHTTP is login for a request. It waits for no others' guesses on a
// connection that has shown the right pair. While it waits the connection counts
// as idle, so that who guesses takes no place from the others.
func (s *Server) loginHTTP(r *http.Request) bool {
	if !s.gate.creds.required() {
		return true
	}
	c, known := r.Context().Value(connKey{}).(*clientConn)
	user, password, ok := shown(r.Header)
	if !ok || !known {
		return false
	}
	if c.trusted && s.gate.creds.valid(user, password) {
		return true
	}
	c.setBusy(false)
	defer c.setBusy(true)
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.HandshakeTimeout)
	defer cancel()
	c.trusted = s.login(ctx, c, user, password)
	return c.trusted
}
