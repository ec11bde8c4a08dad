// Package sstp is the client's half of the Secure Socket Tunneling Protocol
// as a pure package: octets and times go in, octets and states come out.
//
// It holds three things:
//
//   - the codec: SSTP packets ([ParsePacket], [PutHeader]), control messages
//     and attributes ([ParseMessage], [Message.Append]);
//   - the HTTPS exchange before them ([AppendRequest], [ParseReply]) and the
//     crypto binding after them ([CryptoBinding.Sign]);
//   - the client's call state machine with its timers ([Call]).
//
// It is not a connection. It opens no socket, does no TLS, starts no
// goroutine and never reads the clock; package tunnel does. It knows nothing
// about PPP either: PPP frames are payload, and the key material of the PPP
// authentication comes in as 32 octets. The test server in tunnel/tunneltest
// shares the codec and has a state machine of its own.
//
// Section numbers without a name are those of [MS-SSTP] v21.0 (2024-04-23).
// HTTP is RFC 9110 and RFC 9112.
//
// A caller turns the call like this. Every slice given to the package is
// borrowed until the function returns, every slice it parses is a sub-slice
// of what it was given.
//
//	call := sstp.NewCall(sstp.CallConfig{Certificate: leaf.Raw})
//	call.Start(time.Now())
//	for !call.Done() {
//		for _, packet := range call.Pending() {
//			conn.Write(packet)
//		}
//		// wait for a packet or for call.NextTimeout(), then one of
//		call.Receive(time.Now(), packet.Payload)
//		call.Advance(time.Now())
//	}
//	return call.Err()
package sstp
