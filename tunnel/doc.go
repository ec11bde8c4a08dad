// Package tunnel is a live SSTP tunnel: one TLS connection to an SSTP server,
// the SSTP call and the PPP link inside it, and the IP packets they carry.
//
// It is not a TCP/IP stack, and it opens no device: what it moves are IP
// packets, and where they come from and go to is given to [Session.Run] as
// three functions.
//
//	application            SOCKS5, HTTP            package proxy
//	TCP, UDP, IP                                   package netstack
//	---------------------------------------------------------------
//	IP packets             Packets.Deliver, Fill
//	PPP                    [RFC 1661]              package tunnel/ppp
//	SSTP                   [MS-SSTP]               package tunnel/sstp
//	HTTPS exchange, TLS    [MS-SSTP] 3.1.7.2       this package
//	TCP
//
// A session has three goroutines. The loop (the caller's own, inside Dial and
// Run) owns all protocol state and the only timer; it never touches the
// network. The reader takes octets from TLS, hands IP packets to Deliver in
// batches and everything else to the loop. The writer sends what the loop has
// queued, then what Fill has to give; control packets therefore never wait
// behind data, and no IP packet ever crosses the loop.
//
// Slices given to a function are borrowed until it returns.
//
// The two functions most callers need are [Dial] and [Session.Run]:
//
//	s, err := tunnel.Dial(ctx, tunnel.Config{Server: "vpn.example.com", User: "alice", Password: secret})
//	if err != nil {
//		return err
//	}
//	info := s.Info()
//	stack.SetLink(netstack.Link{
//		Addrs: []netip.Prefix{netip.PrefixFrom(info.IPv4.Addr, 32)},
//		DNS:   info.IPv4.DNS, MTU: info.MTU, RTT: info.RTT,
//	})
//	return s.Run(ctx, tunnel.Packets{
//		Deliver: stack.Deliver, Ready: stack.Ready(), Fill: stack.Fill,
//		Stalled: stack.Stalled, Awaits: stack.Awaits,
//	})
package tunnel
