// Command sstproxy connects to an SSTP server as an ordinary user and offers
// the network behind it through SOCKS5 and HTTP proxies on this machine.
//
// This package is the only place that knows flags, environment variables,
// signals, terminals and exit codes. It joins the three layers below it,
// which never import each other, by function values:
//
//	proxy  ── DialFunc ──▶ netstack.Stack ◀── Packets ──▶ tunnel.Session ── TLS ──▶ server
//
// Exit codes: 0 stopped on request, 1 failed or lost, 2 wrong usage, 3 the
// server refused the credentials (never retried: servers lock accounts).
package main
