// Package tunneltest is an SSTP server in process: real TLS, real SSTP, real
// PPP with authentication, addresses and IP packets, for tests, benchmarks and
// the demo.
//
// It is not a VPN server. It keeps passwords in memory, routes nothing and
// leaves the IP packets to whoever attached a [Network].
//
// It is an independent reading of the protocol from the server's side
// ([MS-SSTP] 3.3, RFC 1661, 1332, 1334, 1994, 2759, 5072). With the client it
// shares the codecs of tunnel/sstp and tunnel/ppp and the key arithmetic of
// tunnel/ppp/mschap; the call, the option negotiation, the authentication and
// the check of the crypto binding are its own. What real servers do
// differently is a switch in [Quirks], and [SoftEther], [AccelPPP] and the
// others set those of one product.
//
// What goes wrong is said beforehand by a script of [Step]s in Config.Script,
// or done at run time: with [Line], to the TCP side of all connections of a
// [Server] or a [Relay], and with the methods of [Conn] to one session.
//
// A connection has three goroutines: the loop owns all state and the timer,
// the reader hands it control frames one at a time and IP packets to
// [Network] in batches, the writer sends control packets first and then what
// [Network] has. They end with the connection, and [Server.Close] waits.
//
// Time comes from the time package, so a server may live in a testing/synctest
// bubble, on one end of a net.Pipe:
//
//	server, err := tunneltest.NewServer(tunneltest.Config{
//		Users:  map[string]string{"alice": "wonderland"},
//		Quirks: tunneltest.SoftEther(),
//		Attach: tunneltest.Reflect,
//	})
//	if err != nil {
//		return err
//	}
//	defer server.Close()
//	client, peer := net.Pipe()
//	go server.ServeConn(peer)
//	// … a client dials over the other end …
//	_, err = server.Wait(ctx, tunneltest.EventBindingVerified)
package tunneltest
