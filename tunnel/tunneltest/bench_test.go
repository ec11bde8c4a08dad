package tunneltest

import (
	"crypto/tls"
	"io"
	"sync/atomic"
	"testing"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

const benchBatch = 64 << 10

// benchSession opens a tunnel whose network is n, over loopback.
func benchSession(b *testing.B, quirks WireQuirks, n Network) *tls.Conn {
	b.Helper()
	server, err := Start(Config{
		Users: map[string]string{testUser: testPassword}, Methods: []Method{PAP},
		Quirks: Quirks{SSTP: SSTPQuirks{NoVerify: true}, Wire: quirks, NCP: NCPQuirks{NoAddress: true}},
		Attach: func(Client) Network { return n },
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Close() })
	conn := dialTCP(b, server)
	b.Cleanup(func() { conn.Close() })
	frame := func(p ppp.Protocol, code ppp.Code, id uint8, data []byte) []byte {
		return sstp.AppendData(nil, ppp.AppendFrame(nil, p, ppp.Packet{Code: code, Identifier: id, Data: data}.Append(nil)))
	}
	stream := []byte(testRequest)
	stream = sstp.Message{Type: sstp.CallConnectRequest, Attributes: []sstp.Attribute{pppID}}.Append(stream)
	stream = append(stream, frame(ppp.ProtoLCP, ppp.ConfigureRequest, 1, nil)...)
	stream = append(stream, frame(ppp.ProtoLCP, ppp.ConfigureAck, 0, ppp.AppendOptions(nil, []ppp.Option{authOption}))...)
	stream = append(stream, frame(ppp.ProtoPAP, ppp.PAPRequest, 2, []byte("\x05alice\x0Awonderland"))...)
	stream = sstp.Message{Type: sstp.CallConnected}.Append(stream)
	gateway := ipcpOption(ppp.IPCPAddress, 10, 66, 0, 1)
	stream = append(stream, frame(ppp.ProtoIPCP, ppp.ConfigureAck, 1, ppp.AppendOptions(nil, []ppp.Option{gateway}))...)
	stream = append(stream, frame(ppp.ProtoIPCP, ppp.ConfigureRequest, 3, ppp.AppendOptions(nil, []ppp.Option{anyAddress}))...)
	if _, err := conn.Write(stream); err != nil {
		b.Fatal(err)
	}
	if _, err := server.Wait(b.Context(), EventIPCPOpened); err != nil {
		b.Fatal(err, server.Events())
	}
	return conn
}

func benchFrames() []byte {
	frame := make([]byte, Headroom+1400)
	frame[Headroom] = 0x45
	PutHeader(frame)
	var frames []byte
	for len(frames)+len(frame) <= benchBatch {
		frames = append(frames, frame...)
	}
	return frames
}

// BenchmarkToClient is what the server sends as fast as it can to a client
// that only does TLS.
func BenchmarkToClient(b *testing.B) {
	for name, q := range map[string]WireQuirks{"batched": {}, "record per packet": {RecordPerPacket: true}} {
		b.Run(name, func(b *testing.B) {
			frames := benchFrames()
			conn := benchSession(b, q, Network{Fill: func(p []byte) int { return copy(p[:min(len(p), len(frames))/1408*1408], frames) }})
			buf := make([]byte, benchBatch)
			b.SetBytes(benchBatch)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.ReadFull(conn, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFromClient is what the server takes from such a client.
func BenchmarkFromClient(b *testing.B) {
	var packets atomic.Int64
	conn := benchSession(b, WireQuirks{}, Network{Deliver: func(batch [][]byte) { packets.Add(int64(len(batch))) }})
	frames := benchFrames()
	b.SetBytes(int64(len(frames)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(frames); err != nil {
			b.Fatal(err)
		}
	}
}
