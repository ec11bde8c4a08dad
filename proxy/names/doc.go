// Package names is a DNS forwarder: it serves UDP and TCP on a local address and
// asks the servers that its caller chooses for each name.
//
// It is not a resolver, as it follows no delegation, and it checks no signatures
// (it passes on what those who do need). It knows a dial function and nothing
// below it.
//
// Specifications: RFC 1035, negative caching by RFC 2308, EDNS by RFC 6891,
// extended errors by RFC 8914, truncation and TCP by RFC 7766. The letters of a
// name come back as they were asked, as draft-vixie-dnsext-dns0x20 needs.
//
//	s := names.New(names.Config{Choose: func(string) names.Choice {
//		return names.Choice{Upstream: &names.Upstream{Servers: servers, Dial: stack.DialContext}}
//	}})
//	err := s.Serve(ctx, packetConn, listener) // until ctx ends
package names
