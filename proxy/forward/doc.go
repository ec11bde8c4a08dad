// Package forward knows what users of ssh type for port forwards, relays UDP
// between a listening socket and connected ones, and joins a connection with
// standard input and output.
//
// It is no listener and no tunnel: sockets and dial functions are given to it,
// so that the same code serves forwards into the tunnel (ssh's -L) and out of
// it (-R). TCP is relayed by package proxy.
//
//	spec, err := forward.ParseLocal("8080:intranet:80")
//	…
//	spec, err = forward.ParseLocal("5353:10.0.0.1:53/udp")
//	…
//	relay := forward.UDP{Dial: func(ctx context.Context) (net.Conn, error) {
//		return stack.DialContext(ctx, "udp", spec.To)
//	}}
//	err = relay.Serve(ctx, socket)
package forward
