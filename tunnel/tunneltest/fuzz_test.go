package tunneltest

import (
	"bytes"
	"net"
	"testing"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// offline is a connection of which nothing runs: what it sends stays in its
// outbox.
func offline(t testing.TB, server *Server) *Conn {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	c := newConn(server, newLineConn(server.line, far, nil))
	c.beginCall()
	return c
}

// receiveStream does what the reader and the loop do with octets.
func (c *Conn) receiveStream(b []byte) {
	for len(b) > 0 {
		p, n, err := sstp.ParsePacket(b)
		if err != nil || n == 0 {
			return
		}
		kind := inboundFrame
		if p.Control {
			kind = inboundControl
		}
		c.receive(inbound{kind: kind, payload: p.Payload})
		b = b[n:]
	}
}

// session is the client's half of a session that has a bit of everything.
func session() []byte {
	var b []byte
	control := func(t sstp.MessageType, attrs ...sstp.Attribute) {
		b = sstp.Message{Type: t, Attributes: attrs}.Append(b)
	}
	frame := func(p ppp.Protocol, code ppp.Code, id uint8, data []byte) {
		packet := ppp.Packet{Code: code, Identifier: id, Data: data}.Append(nil)
		b = sstp.AppendData(b, ppp.AppendFrame(nil, p, packet))
	}
	control(sstp.CallConnectRequest, pppID)
	frame(ppp.ProtoLCP, ppp.ConfigureRequest, 1, ppp.AppendOptions(nil, []ppp.Option{mruOption(1500), magicOption}))
	frame(ppp.ProtoLCP, ppp.ConfigureAck, 0, ppp.AppendOptions(nil, []ppp.Option{authOption}))
	frame(ppp.ProtoPAP, ppp.PAPRequest, 2, []byte("\x05alice\x0Awonderland"))
	frame(ppp.ProtoIPCP, ppp.ConfigureRequest, 3, ppp.AppendOptions(nil, []ppp.Option{anyAddress, anyDNS1}))
	frame(ppp.ProtoIPV6CP, ppp.ConfigureRequest, 4, []byte{1, 10, 1, 2, 3, 4, 5, 6, 7, 8})
	frame(ppp.ProtoIPCP, ppp.ConfigureNak, 1, ppp.AppendOptions(nil, []ppp.Option{anyAddress}))
	frame(ppp.ProtoCHAP, ppp.CHAPResponse, 1, ppp.AppendCHAPValue(nil, make([]byte, 49), "alice"))
	frame(ppp.ProtoEAP, 2, 1, []byte{3, 26})
	frame(ppp.ProtoLCP, ppp.ProtocolReject, 5, []byte{0x80, 0x57})
	frame(ppp.ProtoLCP, ppp.EchoRequest, 6, make([]byte, 4))
	frame(ppp.ProtoCCP, ppp.ConfigureRequest, 7, nil)
	control(sstp.CallConnected)
	control(sstp.EchoRequest)
	frame(ppp.ProtoLCP, ppp.TerminateRequest, 8, nil)
	control(sstp.CallDisconnect)
	return b
}

// TestPrefixes gives the server every prefix of a session, and the session
// with every octet changed in turn: nothing may panic.
func TestPrefixes(t *testing.T) {
	server := newTestServer(t, Config{
		Methods: []Method{PAP}, IPv6: true, Quirks: Quirks{SSTP: SSTPQuirks{NoVerify: true}},
	})
	defer server.Close()
	stream := session()
	for i := range stream {
		offline(t, server.Server).receiveStream(stream[:i])
		changed := bytes.Clone(stream)
		changed[i] ^= 0xFF
		offline(t, server.Server).receiveStream(changed)
	}
	c := offline(t, server.Server)
	c.receiveStream(stream)
	if c.call.state != disconnectTimeoutPending || c.Info().User != testUser {
		t.Errorf("state %d, user %q after the whole session", c.call.state, c.Info().User)
	}
}

func FuzzSession(f *testing.F) {
	f.Add(session())
	f.Add(session()[:40])
	server, err := NewServer(Config{
		Users: map[string]string{testUser: testPassword}, Methods: []Method{PAP, MSCHAPv2, EAP}, IPv6: true,
		Quirks: Quirks{NCP: NCPQuirks{AcksLast: true, RepeatsRequest: true, Compression: true, NaksExtra: true}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := offline(t, server)
		c.receiveStream(b)
		for range numAlarms {
			for a := range c.alarms {
				if ring := c.alarms[a].ring; ring != nil {
					c.alarms[a] = alarmClock{}
					ring()
				}
			}
		}
		if c.link.lease.IsValid() {
			c.pool.release(c.link.lease)
		}
	})
}

func FuzzHTTPRequest(f *testing.F) {
	f.Add([]byte(testRequest))
	f.Add([]byte("GET / HTTP/1.0\r\n\r\nrest"))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, rest, err := readRequest(bytes.NewReader(b))
		if err != nil {
			return
		}
		if !bytes.HasSuffix(b, rest) {
			t.Errorf("rest %q is not the end of %q", rest, b)
		}
		if status, fault := (HTTPQuirks{}).check(req); (status == 200) != (fault == "") {
			t.Errorf("status %d with fault %q", status, fault)
		}
	})
}
