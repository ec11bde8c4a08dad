// Package netstack is a TCP/IP host that lives inside the process: IP packets
// go in and out at the bottom, net.Conn values come out at the top.
//
// It is gVisor's stack with one network interface, and the only package of
// this module that imports gVisor. It is not a router and not a device: it
// forwards nothing, accepts only what is addressed to its own addresses, and
// offers no service but the sockets its user opens.
//
// It knows nothing of SSTP, PPP or TLS. Whoever moves the packets calls
// [Stack.Deliver] with what arrived, waits on [Stack.Ready] and calls
// [Stack.Fill] for what is to be sent:
//
//	network → Deliver → TCP, UDP → net.Conn
//	net.Conn → TCP, UDP → queue → Ready, Fill → network
//
// The queue never drops a TCP segment for want of room; it makes the sender
// wait, and TCP's own window does the rest (see queue.go for why that is
// safe). Names are resolved by the DNS servers of the link, through the link;
// the host's resolver is never asked.
//
// Errors are those of the standard library: errors.Is works with
// syscall.ECONNREFUSED and its like, os.ErrDeadlineExceeded, net.ErrClosed,
// and names that cannot be resolved give a *net.DNSError.
//
// Specifications: RFC 9293 (TCP), RFC 768 (UDP), RFC 1035 (DNS), RFC 4861 and
// RFC 4862 (router and neighbour discovery on the point-to-point link of
// RFC 5072), RFC 8305 (which address is dialled first).
//
// The two functions most callers need are [New] and [Stack.DialContext]:
//
//	s, err := netstack.New(netstack.Config{Headroom: tunnel.Headroom, PutHeader: tunnel.PutHeader})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	err = s.SetLink(netstack.Link{
//		Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32")},
//		DNS:   []netip.Addr{netip.MustParseAddr("10.0.0.1")},
//		MTU:   1400,
//	})
//	// another goroutine moves packets: s.Deliver, s.Ready, s.Fill; it tells when
//	// the network stands still: s.Stalled
//	conn, err := s.DialContext(ctx, "tcp", "intranet:80")
package netstack
