// Package proxy serves SOCKS and HTTP proxy clients on local listeners and
// reaches every destination through one dial function.
//
// It is not a tunnel and not a resolver: it knows a [DialFunc], the functions
// beside it in [Config], and nothing below them. A destination's name is handed
// to them as the client sent it, but in ASCII; no name is ever looked up here. Destinations that can only
// mean this machine, and the proxy's own listeners, are refused.
//
//	application ── SOCKS ───┐
//	application ── CONNECT ─┼─ Server ── DialFunc ── destination
//	application ── http:// ─┘
//
// Specifications: SOCKS5 is RFC 1928 with the username/password method of RFC
// 1929, parsed by github.com/armon/go-socks5: CONNECT, BIND, UDP ASSOCIATE
// without fragments, which behaves as RFC 4787 wants it of a NAT, and Tor's
// RESOLVE and RESOLVE_PTR. SOCKS4 and 4A have no specification but their
// authors' memos; they have no password either. HTTP is RFC 9110 and RFC 9112:
// CONNECT (RFC 9110, section 9.3.6), absolute-form requests of every method
// (RFC 9112, section 3.2.2) including Upgrade, Basic authentication (RFC 7617)
// and Proxy-Status (RFC 9209) on every answer the proxy makes up itself. The
// first octet of a connection decides between the two, so that one port serves
// both.
//
// What a failed dial means to a client is decided in one table, see errors.go.
//
//	srv := proxy.New(proxy.Config{Dial: stack.DialContext})
//	e, err := proxy.ParseEndpoint("127.0.0.1:1080")
//	if err != nil {
//		return err
//	}
//	l, err := e.Listen()
//	if err != nil {
//		return err
//	}
//	go srv.Serve(l, e.Mode) // ends with srv.Shutdown
//	…
//	err = srv.Shutdown(ctx)
package proxy
