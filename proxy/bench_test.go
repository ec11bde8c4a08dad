package proxy

import (
	"context"
	"io"
	"net"
	"runtime"
	"testing"
)

// flood starts a server that sends for as long as it is read.
func flood(b *testing.B) string {
	chunk := make([]byte, 256<<10)
	return listen(b, func(c *net.TCPConn) {
		for {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	})
}

// BenchmarkDownload compares a relayed stream with the same stream without a
// proxy, and with the io.Copy that the relay replaces.
func BenchmarkDownload(b *testing.B) {
	run := func(b *testing.B, r io.Reader) {
		buf := make([]byte, 256<<10)
		b.SetBytes(int64(len(buf)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := io.ReadFull(r, buf); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("direct", func(b *testing.B) { run(b, connect(b, flood(b))) })
	b.Run("copy", func(b *testing.B) {
		server := flood(b)
		run(b, connect(b, listen(b, func(c *net.TCPConn) {
			// Hidden methods keep the kernel's splice out: no tunnel has that.
			_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{connect(b, server)})
		})))
	})
	b.Run("SOCKS5", func(b *testing.B) {
		run(b, socksConnected(b, serve(b, Config{Dial: (&dials{to: flood(b)}).dial}, ModeAuto).addr))
	})
}

// BenchmarkConnect is the time for a connection, its first octet and its end.
func BenchmarkConnect(b *testing.B) {
	for name, open := range tunnels {
		b.Run(name, func(b *testing.B) {
			f := serve(b, Config{Dial: (&dials{to: listen(b, echo)}).dial}, ModeAuto)
			b.ReportAllocs()
			for b.Loop() {
				c, r := open(b, f.addr)
				write(b, c, "x")
				want(b, r, "x")
				c.Close()
			}
		})
	}
}

// BenchmarkIdle reports the memory of an idle tunnelled connection, with both
// of the test's own ends.
func BenchmarkIdle(b *testing.B) {
	const n = 500
	for name, open := range tunnels {
		b.Run(name, func(b *testing.B) {
			f := serve(b, Config{Dial: (&dials{to: listen(b, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)) })}).dial}, ModeAuto)
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				for range n {
					open(b, f.addr)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-B/conn")
				b.ReportMetric(float64(after.StackInuse-before.StackInuse)/n, "stack-B/conn")
			}
		})
	}
}

// BenchmarkUDP is a datagram through an association and back.
func BenchmarkUDP(b *testing.B) {
	var n udpNet
	_, client := serve(b, n.config(), ModeAuto).associate(b)
	datagram := []byte(toTestNet + pattern(1200))
	answer := make([]byte, 2000)
	b.SetBytes(1200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Write(datagram); err != nil {
			b.Fatal(err)
		}
		if _, err := client.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUDPIdle tells what an association takes in which nothing moves any
// more, the test's own ends included.
func BenchmarkUDPIdle(b *testing.B) {
	const associations = 100
	open := 0
	f := serve(b, Config{Dial: (&dials{}).dial, MaxAssociations: 1 << 20, ListenPacket: func(context.Context, string, string) (net.PacketConn, error) {
		return net.ListenPacket("udp4", "127.0.0.1:0")
	}}, ModeAuto)
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range associations {
			_, client := f.associate(b)
			write(b, client, "one that is dropped")
		}
		open += associations
		f.wantStats(b, UDPStats{Associations: open, Malformed: uint64(open)})
		runtime.GC()
		runtime.GC() // pools keep a buffer for one collection
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/associations, "heap-B/assoc")
		b.ReportMetric(float64(after.StackInuse-before.StackInuse)/associations, "stack-B/assoc")
	}
}
