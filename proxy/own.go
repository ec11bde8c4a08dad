package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// serveSelf answers a request in origin-form, which is for the proxy and not for
// it to forward. Pages in a browser can send these too, to a loopback address or
// to a name of their own that they bound to one, so they get a bare status; what
// is served here is behind that.
func (s *Server) serveSelf(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodOptions && r.RequestURI == "*": // no page can send it
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
	case !ownHost(r):
		refusePage(w, http.StatusMisdirectedRequest)
	case fromPage(r.Header):
		refusePage(w, http.StatusForbidden)
	default:
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		if f, ok := s.cfg.Files[r.URL.Path]; ok {
			s.serveFile(w, r, f)
			return
		}
		s.answer(w, r, problem{status: http.StatusNotFound, kind: "http_request_error",
			words: "this is a proxy, not a web server: set it as HTTP or SOCKS5 proxy, for example curl -x http://" +
				printable(r.Host) + " URL"})
	}
}

// ownHost reports whether Host is a loopback address or the one the connection
// came to, in digits: whoever owns a name can bind it to such an address, and
// make a browser take the proxy for part of a site.
func ownHost(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return true // a socket file, which no browser reaches
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(r.Host, "["), "]")
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	return addr.IsLoopback() || addr == local.AddrPort().Addr().Unmap()
}

// fromPage reports whether a page of another origin had a browser send the
// request (Origin: RFC 6454, section 7; Sec-Fetch-Site: w3.org/TR/fetch-metadata).
func fromPage(h http.Header) bool {
	if _, ok := h["Origin"]; ok {
		return true
	}
	for _, site := range h["Sec-Fetch-Site"] {
		if site != "none" && site != "same-origin" {
			return true
		}
	}
	return false
}

// refusePage says no and nothing else: no field names this program, none lets a
// page of another origin read the answer or embed it.
func refusePage(w http.ResponseWriter, status int) {
	body := fmt.Sprintf("%d %s\n", status, http.StatusText(status))
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Connection", "close")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
