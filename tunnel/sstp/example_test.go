package sstp_test

import (
	"fmt"
	"time"

	"sstproxy/tunnel/sstp"
)

// A call from the Call Connect Request to its orderly end.
func ExampleCall() {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	call := sstp.NewCall(sstp.CallConfig{Certificate: []byte("DER of the leaf")})
	send := func() {
		for _, b := range call.Pending() {
			p, _, _ := sstp.ParsePacket(b)
			m, _ := sstp.ParseMessage(p.Payload)
			fmt.Println("sent:", m)
		}
	}
	receive := func(m sstp.Message) { call.Receive(now, m.Append(nil)[sstp.HeaderLen:]) }

	call.Start(now)
	send()
	receive(sstp.Message{
		Type:       sstp.CallConnectAck,
		Attributes: []sstp.Attribute{sstp.CryptoBindingRequest{Hashes: sstp.HashSHA1 | sstp.HashSHA256}.Attribute()},
	})
	var hlak [32]byte // from the PPP authentication
	call.Authenticated(now, hlak)
	send()
	call.Disconnect(now)
	send()
	receive(sstp.Message{Type: sstp.CallDisconnectAck})
	fmt.Println(call.Done(), call.Err())
	// Output:
	// sent: CallConnectRequest EncapsulatedProtocolID{2 octets}
	// sent: CallConnected CryptoBinding{SHA-256}
	// sent: CallDisconnect StatusInfo{NO_ERROR}
	// true sstp: call closed
}
