package proxy

import "net/http"

// File is something that the proxy itself serves, beside what it reaches by
// dialling. It gets GET and HEAD, never from a page in a browser.
type File struct {
	// Serve answers a request. It may be called concurrently and should set
	// Content-Type.
	Serve http.HandlerFunc

	// Public says that clients need not log in for it, if they must for the
	// proxy.
	Public bool
}

// serveFile serves one of Config.Files to a request that ownHost and fromPage
// have let pass. The login is that of an origin server (RFC 9110, section
// 11.6.1), which is what the proxy is here.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, f File) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		s.answer(w, r, problem{status: http.StatusMethodNotAllowed, kind: "http_request_error",
			words: "this can only be read"})
		return
	}
	r.Header["Proxy-Authorization"] = r.Header["Authorization"]
	if !f.Public && !s.loginHTTP(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="sstproxy", charset="UTF-8"`)
		s.answer(w, r, problem{status: http.StatusUnauthorized, kind: "http_request_denied",
			words: "this wants the user name and the password of the proxy"})
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	closeUnread(w, r)
	f.Serve(w, r)
}

// closeUnread ends the connection with the answer, if more of the request may
// come.
func closeUnread(w http.ResponseWriter, r *http.Request) {
	if b, ok := r.Body.(*requestBody); ok && !b.ended.Load() || endsHere(r) {
		w.Header().Set("Connection", "close")
	}
}
