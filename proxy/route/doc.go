// Package route decides where a destination is reached: through the tunnel,
// directly from this machine, or not at all.
//
// It does no I/O and looks up no name: it answers questions of those who do. It
// also writes the same decisions down as a proxy auto-configuration file for
// browsers (developer.mozilla.org/docs/Web/HTTP/Guides/Proxy_servers_and_tunneling/Proxy_Auto-Configuration_PAC_file).
//
// Rules are read in order, and the last one that fits decides, as in a
// .gitignore: the general ones first, the exceptions behind them. A rule by
// address fits a name by the addresses that were found for it.
//
//	rules, err := route.Parse([]string{"10.0.0.0/8,*.corp.example,!public.corp.example"}, "direct")
//	if err != nil {
//		return err
//	}
//	rules.Match("db.corp.example", 5432) // Tunnel
//	rules.Match("public.corp.example", 443) // Direct
package route
