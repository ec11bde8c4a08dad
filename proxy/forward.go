package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// requestKey is the context key of the client's own request context, which the
// transport would otherwise hide from a dial.
type requestKey struct{}

// errSwitched ends the library's part of a request that became a relay.
var errSwitched = errors.New("proxy: protocol switched")

// errUpgrade is an answer 101 that does not fit the request.
var errUpgrade = errors.New("proxy: the server switched protocols out of turn")

// newTransport makes the client side of plain proxying: it keeps connections to
// servers for later requests, and changes nothing in what it carries.
func (s *Server) newTransport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			// The transport lets a dial outlive its request; we don't.
			if req, ok := ctx.Value(requestKey{}).(context.Context); ok {
				var cancel context.CancelCauseFunc
				ctx, cancel = context.WithCancelCause(ctx)
				defer context.AfterFunc(req, func() { cancel(context.Cause(req)) })()
				defer cancel(nil)
			}
			return s.dial(ctx, address)
		},
		DisableCompression:     true,
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        s.cfg.KeepAliveTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 4 * maxHeader,
	}
}

// transportFor returns the transport for a request. A server that speaks NTLM
// or Negotiate takes the connection for the user, so once a client begins with
// that, its connection gets servers' connections of its own.
func (s *Server) transportFor(r *http.Request) *http.Transport {
	c, ok := r.Context().Value(connKey{}).(*clientConn)
	if !ok {
		return s.transport
	}
	if t := c.pinned.Load(); t != nil {
		return t
	}
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "NTLM") && !strings.EqualFold(scheme, "Negotiate") {
		return s.transport
	}
	t := s.newTransport()
	c.pinned.Store(t)
	return t
}

// forward serves an absolute-form request of any method but CONNECT. The rules
// for intermediaries (hop-by-hop fields, 1xx answers, trailers) are those of
// httputil.ReverseProxy.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, body *requestBody) {
	address, err := plainTarget(r.URL)
	if err != nil {
		s.refuseTarget(w, r, err)
		return
	}
	if !s.mayForward(w, r) {
		return
	}
	p := httputil.ReverseProxy{
		Transport:      s.transportFor(r),
		Rewrite:        func(p *httputil.ProxyRequest) { rewrite(p, address) },
		FlushInterval:  -1,
		BufferPool:     bodyPool{s},
		ErrorLog:       s.errorLog,
		ModifyResponse: func(res *http.Response) error { return s.modify(w, r, body, res) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			s.forwardFailed(w, r, address, body, err)
		},
	}
	defer resetBroken(r)
	p.ServeHTTP(quiet100{w}, r.WithContext(limit1xx(r.Context())))
}

// max1xx bounds the informational answers to one request: each is passed on,
// and a server could send nothing else for ever.
const max1xx = 32

// limit1xx returns a context in which the transport gives up after max1xx.
func limit1xx(ctx context.Context) context.Context {
	n := 0
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { // in one goroutine, that of the connection
			if n++; n > max1xx {
				return fmt.Errorf("more than %d informational answers", max1xx)
			}
			return nil
		},
	})
}

// resetBroken goes on with the panic by which an answer that broke off ends,
// and arranges that the connection then ends with a reset: to a client of
// HTTP/1.0, or if there was no length, an orderly end would be the body's.
func resetBroken(r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if c, ok := r.Context().Value(connKey{}).(*clientConn); ok {
		reset(c.Conn)
	}
	panic(v)
}

// forwardFailed answers for a server that did not.
func (s *Server) forwardFailed(w http.ResponseWriter, r *http.Request, address string, body *requestBody, err error) {
	switch {
	case errors.Is(err, errSwitched):
	case errors.Is(err, errUpgrade):
		s.answer(w, r, problem{status: http.StatusBadGateway, kind: "http_upgrade_failed",
			words: "the destination switched to another protocol", address: address, cause: err})
	case body.failed.Load():
		s.badRequest(w, r, errors.New("the request's body is malformed or broke off"))
	default:
		s.answer(w, r, problemOf(address, err))
	}
}

// mayForward implements Max-Forwards (RFC 9110, section 7.6.2): it counts down,
// and answers in the server's stead at zero.
func (s *Server) mayForward(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodTrace && r.Method != http.MethodOptions {
		return true
	}
	v := r.Header.Get("Max-Forwards")
	n, err := strconv.ParseUint(v, 10, 31)
	switch {
	case err != nil: // absent, or not a number
		return true
	case n > 0:
		r.Header.Set("Max-Forwards", strconv.FormatUint(n-1, 10))
		return true
	case r.Method == http.MethodOptions:
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
	default:
		s.answer(w, r, problem{status: http.StatusMethodNotAllowed, kind: "http_request_error",
			words: "Max-Forwards is 0 and this proxy does not answer TRACE itself"})
	}
	return false
}

// rewrite undoes what ReverseProxy does for a server's front and a forward
// proxy must not do. The server is told the host by the name it is reached by,
// whatever Host said (RFC 9112, section 3.2.2).
func rewrite(p *httputil.ProxyRequest, address string) {
	p.Out.URL.Host, p.Out.Host = address, address
	if p.In.URL.Port() == "" {
		p.Out.Host = strings.TrimSuffix(address, ":80")
	}
	p.Out.URL.RawQuery = p.In.URL.RawQuery
	if path, ok := rawPath(p.In); ok {
		p.Out.URL.Opaque = path
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := p.In.Header[name]; ok && !connectionNames(p.In.Header, name) {
			p.Out.Header[name] = v
		}
	}
	// The trailers of the request arrive in this very map, after the body.
	p.Out.Trailer = p.In.Trailer
}

// connectionNames reports whether Connection makes a field hop-by-hop.
func connectionNames(h http.Header, name string) bool {
	for _, v := range h["Connection"] {
		for token := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(token), name) {
				return true
			}
		}
	}
	return false
}

// rawPath returns the path as the client wrote it, because "a proxy MUST NOT
// modify the absolute-path and query parts" (RFC 9110, section 7.7), except
// that an empty path becomes "/", or "*" for OPTIONS (RFC 9112, section 3.2.4).
// Not ok: net/url has to write it, since it can't take a path that begins with
// two slashes.
func rawPath(r *http.Request) (path string, ok bool) {
	_, rest, _ := strings.Cut(r.RequestURI, "://")
	i := strings.IndexAny(rest, "/?")
	switch {
	case i < 0 && r.Method == http.MethodOptions:
		return "*", true
	case i < 0 || rest[i] == '?' || strings.HasPrefix(rest[i:], "//"):
		return "", false
	}
	path, _, _ = strings.Cut(rest[i:], "?")
	return path, true
}

// modify is called with the server's answer before it is passed on.
func (s *Server) modify(w http.ResponseWriter, r *http.Request, body *requestBody, res *http.Response) error {
	if res.StatusCode == http.StatusSwitchingProtocols {
		if !body.ended.Load() {
			// The transport may be reading it, from the connection that
			// the relay would read.
			return fmt.Errorf("%w: before the end of the request", errUpgrade)
		}
		return s.switchProtocols(w, r, res)
	}
	if tooManyFields(res.Header) {
		return fmt.Errorf("the answer has more than %d header fields", maxFields)
	}
	if endsHere(r) {
		w.Header().Set("Connection", "close")
	}
	if _, ok := res.Header["Content-Type"]; !ok {
		w.Header()["Content-Type"] = nil // keeps net/http from guessing one
	}
	return nil
}

// switchProtocols passes an answer 101 on and relays from then on. The error
// is errSwitched, unless the answer does not fit.
func (s *Server) switchProtocols(w http.ResponseWriter, r *http.Request, res *http.Response) error {
	server, ok := res.Body.(stream)
	asked, got := r.Header.Get("Upgrade"), res.Header.Get("Upgrade")
	if !ok || asked == "" || !strings.EqualFold(asked, got) {
		return fmt.Errorf("%w: %q for %q", errUpgrade, printable(got), printable(asked))
	}
	c, br, err := hijack(w)
	if err != nil {
		return err
	}
	// The caller closes the body when it is told about errSwitched.
	res.Body = http.NoBody
	head := *res
	head.Body = nil
	if err := head.Write(c); err != nil {
		server.Close()
		c.Close()
		return errSwitched
	}
	s.startRelay(c, server, unread(c, br))
	return errSwitched
}

// quiet100 drops the server's "100 Continue": net/http sends one of its own
// when the transport, told by the server's, begins to read the body.
type quiet100 struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w quiet100) WriteHeader(code int) {
	if code != http.StatusContinue {
		w.ResponseWriter.WriteHeader(code)
	}
}

// Unwrap is for http.ResponseController.
func (w quiet100) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// requestBody notes how far the client's side of a request came.
type requestBody struct {
	io.ReadCloser
	ended  atomic.Bool // there was none, or its end has been read
	failed atomic.Bool // it is malformed or broke off
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.ended.Store(true)
	case err != nil:
		b.failed.Store(true)
	}
	return n, err
}

// copyLen is how much of an answer's body is moved at once.
const copyLen = 64 << 10

// bodyPool is the server's pool as httputil.BufferPool.
type bodyPool struct{ srv *Server }

func (p bodyPool) Get() []byte  { return p.srv.buffer()[:copyLen] }
func (p bodyPool) Put(b []byte) { p.srv.buffers.Put((*relayBuffer)(b[:cap(b)])) }
