package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxHeader bounds the header of a request and of an answer, in octets.
const maxHeader = 64 << 10

// connKey is the context key of the *clientConn a request came on.
type connKey struct{}

// newHTTPServer makes the server that parses requests. Strictness about
// Content-Length, Transfer-Encoding and field syntax is net/http's.
func (s *Server) newHTTPServer() *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: s.cfg.HandshakeTimeout,
		ReadTimeout:       s.cfg.HandshakeTimeout, // lifted by serveHTTP
		IdleTimeout:       s.cfg.KeepAliveTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          s.errorLog,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			cc := c.(*clientConn)
			return context.WithValue(cc.bind(ctx), connKey{}, cc)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateActive || state == http.StateIdle {
				cc := c.(*clientConn)
				cc.helloBy.Store(nil)
				if cc.restBy.Load() != nil {
					cc.linger() // what comes next may not be a request
				}
				cc.setBusy(state == http.StateActive)
			}
		},
		DisableGeneralOptionsHandler: true,
	}
}

// serveHTTP serves one request in the goroutine of its connection.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	s.enter()
	defer s.leave()
	body := &requestBody{ReadCloser: r.Body}
	body.ended.Store(r.ContentLength == 0)
	defer s.limitRest(r, body)
	rc := http.NewResponseController(w)
	// The deadline is for what net/http answers by itself; a body may take
	// any time.
	if err := rc.SetReadDeadline(time.Time{}); err != nil {
		s.cfg.Logger.Debug("read deadline", "err", err)
	}
	// A copy: net/http looks at the body of the original again.
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, r.Context()))
	r.Body = body
	// Answer and request may flow at the same time; an answer does not wait
	// for the rest of the request.
	if err := rc.EnableFullDuplex(); err != nil {
		s.cfg.Logger.Debug("full duplex", "err", err)
	}
	if tooManyFields(r.Header) {
		s.answer(w, r, problem{status: http.StatusRequestHeaderFieldsTooLarge, kind: "http_request_error",
			words: fmt.Sprintf("the request has more than %d header fields", maxFields)})
		return
	}
	if r.Method != http.MethodConnect && !r.URL.IsAbs() {
		s.serveSelf(w, r)
		return
	}
	if !s.loginHTTP(r) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="sstproxy", charset="UTF-8"`)
		s.answer(w, r, problem{status: http.StatusProxyAuthRequired, kind: "http_request_denied",
			words: "this proxy wants a user name and a password"})
		return
	}
	if r.Method == http.MethodConnect {
		s.connect(w, r)
		return
	}
	s.forward(w, r, body)
}

// endsHere reports whether the connection ends with the answer, because what
// follows might have been meant as a part of this request. net/http does not
// show a Content-Length beside chunks, nor Transfer-Encoding in HTTP/1.0, and
// after either "the server MUST close the connection" (RFC 9112, section 6.1).
func endsHere(r *http.Request) bool { return len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) }

// maxFields bounds the number of header fields, which cost more memory than
// they have octets.
const maxFields = 256

// tooManyFields reports whether a header has more than maxFields.
func tooManyFields(h http.Header) bool {
	n := 0
	for _, v := range h {
		n += len(v)
	}
	return n > maxFields
}

// limitRest bounds the time for what is left of a request's body after its
// answer: net/http reads a part of that for as long as the client likes. The
// connection ends then.
func (s *Server) limitRest(r *http.Request, body *requestBody) {
	if c, ok := r.Context().Value(connKey{}).(*clientConn); ok && !body.ended.Load() {
		by := time.Now().Add(s.cfg.HandshakeTimeout)
		c.restBy.Store(&by)
		c.SetReadDeadline(by)
	}
}

// connect serves CONNECT (RFC 9110, section 9.3.6). It takes the connection
// before it dials: net/http would take a client that sent data ahead of the
// answer and then closed its sending direction for one that has left.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	// After a failed CONNECT the client may have sent octets that are not
	// HTTP, so they must not be read as the next request.
	w.Header().Set("Connection", "close")
	address, err := connectTarget(r)
	if err != nil {
		s.refuseTarget(w, r, err)
		return
	}
	c, br, err := hijack(w)
	if err != nil {
		s.answer(w, r, problemOf(address, err))
		return
	}
	s.enter()
	go func() { // ends when either connection is closed
		defer s.leave()
		s.tunnel(c, br, address)
	}()
}

// tunnel dials for a CONNECT request, answers it, and relays. It runs in a
// goroutine of its own, so that net/http's with all it holds can end.
func (s *Server) tunnel(c *clientConn, br *bufio.Reader, address string) {
	target, err := s.dialWatched(c.bind(context.Background()), c, br, address)
	if err != nil {
		p := problemOf(address, err)
		s.logProblem(c.RemoteAddr().String(), http.MethodConnect, p)
		if err := p.write(c); err != nil {
			c.Close()
			return
		}
		c.linger()
		return
	}
	if _, err := c.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		target.Close()
		c.Close()
		return
	}
	s.startRelay(c, target, unread(c, br))
}

// hijack takes the connection from net/http, with the reader that holds what
// had been read ahead.
func hijack(w http.ResponseWriter) (*clientConn, *bufio.Reader, error) {
	conn, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("proxy: hijack: %w", err)
	}
	return conn.(*clientConn), brw.Reader, nil
}

// unread takes out all that was read from the connection and not used.
func unread(c *clientConn, br *bufio.Reader) []byte {
	return append(buffered(br), c.takeEarly()...)
}

// connectTarget returns the HOST:PORT of a CONNECT request. It looks at the
// request's target itself: net/http takes more than that for one, a path behind
// it, a user before it, and Host in its place.
func connectTarget(r *http.Request) (string, error) {
	if r.ContentLength != 0 {
		return "", errors.New("a CONNECT request has no body")
	}
	host, port, err := net.SplitHostPort(r.RequestURI)
	if err != nil {
		return "", errors.New("CONNECT wants HOST:PORT")
	}
	return joinTarget(host, port)
}

// plainTarget returns the HOST:PORT of an absolute-form request.
func plainTarget(u *url.URL) (string, error) {
	switch {
	case u.Scheme == "https":
		return "", errors.New("https:// can't be requested in plain text: the client has to use CONNECT")
	case u.Scheme != "http":
		return "", fmt.Errorf("scheme %q is not served, only http", u.Scheme)
	case u.Opaque != "":
		return "", errors.New("want http://HOST/PATH")
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return joinTarget(u.Hostname(), port)
}

func joinTarget(host, port string) (string, error) {
	host, err := canonicalHost(host)
	if err != nil {
		return "", err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errors.New("the destination's port is not a number from 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}

// problem is an answer that the proxy makes up itself.
type problem struct {
	status  int
	kind    string // proxy error type of RFC 9209, section 2.3
	words   string
	address string     // of the destination, if one is known
	cause   error      // or nil
	down    *DownError // in cause, or nil
}

// problemOf looks an error up in the table.
func problemOf(address string, err error) problem {
	f := classify(err)
	if d, ok := errors.AsType[*dialError](err); ok {
		err = d.err
	}
	p := problem{status: f.status, kind: f.kind, words: f.words, address: address, cause: err}
	if down, ok := errors.AsType[*DownError](err); ok {
		p.words, p.down = down.Error(), down
	}
	return p
}

// refuseTarget answers for a destination that can't be dialled, because it is no
// destination, or none for this proxy.
func (s *Server) refuseTarget(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, ErrBlocked) {
		s.answer(w, r, problemOf("", err))
		return
	}
	s.badRequest(w, r, err)
}

func (s *Server) badRequest(w http.ResponseWriter, r *http.Request, err error) {
	s.answer(w, r, problem{status: http.StatusBadRequest, kind: "http_request_error", words: err.Error()})
}

// answer sends a problem through net/http.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, p problem) {
	s.logProblem(r.RemoteAddr, r.Method, p)
	h, body := p.message()
	maps.Copy(w.Header(), h)
	closeUnread(w, r)
	w.WriteHeader(p.status)
	_, _ = io.WriteString(w, body)
}

// write sends a problem on a connection that net/http has given away, as the
// last thing there.
func (p problem) write(w io.Writer) error {
	h, body := p.message()
	res := http.Response{StatusCode: p.status, ProtoMajor: 1, ProtoMinor: 1, Header: h, Close: true,
		ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
	return res.Write(w)
}

// message writes a problem down: in words for people in the body, and in
// X-Sstproxy-Error for who sees only the header; in Proxy-Status (RFC 9209) for
// programs.
func (p problem) message() (h http.Header, body string) {
	words := p.words
	status := "sstproxy; error=" + p.kind
	if p.address != "" {
		words = p.address + ": " + words
		status += "; next-hop=" + sfString(p.address)
	}
	if p.cause != nil {
		if p.down == nil { // whose words say it all
			words += " (" + p.cause.Error() + ")"
		}
		status += "; details=" + sfString(p.cause.Error())
	}
	words = printable(words)
	body = "sstproxy: " + words + "\n"
	h = http.Header{
		"Proxy-Status":           {status},
		"X-Sstproxy-Error":       {words},
		"Content-Type":           {"text/plain; charset=utf-8"},
		"X-Content-Type-Options": {"nosniff"},
		"Cache-Control":          {"no-store"},
		"Content-Length":         {strconv.Itoa(len(body))},
	}
	if p.down != nil && !p.down.Next.IsZero() {
		h.Set("Retry-After", strconv.FormatInt(seconds(time.Until(p.down.Next)), 10))
	}
	return h, body
}

func (s *Server) logProblem(peer, method string, p problem) {
	s.cfg.Logger.LogAttrs(context.Background(), slog.LevelDebug, "http request failed", slog.String("peer", peer),
		slog.String("method", method), slog.String("dst", p.address), slog.Int("status", p.status), slog.Any("err", p.cause))
}

// sfString writes a String of RFC 9651, section 3.3.3.
func sfString(s string) string {
	b := []byte{'"'}
	for _, c := range []byte(printable(s)) {
		if c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return string(append(b, '"'))
}

// handoff is the listener from which net/http takes the connections that turned
// out to speak HTTP.
type handoff struct {
	conns chan *clientConn
	start sync.Once
	stop  sync.Once
	done  chan struct{} // closed by Close
	serve sync.WaitGroup
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan *clientConn), done: make(chan struct{})}
}

// give passes a connection on.
func (h *handoff) give(c *clientConn) {
	srv := c.srv.http
	h.start.Do(func() {
		h.serve.Go(func() { _ = srv.Serve(h) }) // ends with Close
	})
	select {
	case h.conns <- c:
	case <-h.done:
		c.Close()
	}
}

// wait returns when net/http has stopped accepting.
func (h *handoff) wait() { h.serve.Wait() }

// Accept implements net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handoff) Close() error {
	h.stop.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handoff) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "proxy"} }
