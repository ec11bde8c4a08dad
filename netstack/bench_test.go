package netstack

import (
	"io"
	"net"
	"runtime"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// BenchmarkThroughput moves data from one stack to another in one process.
// allocs/packet counts both stacks and all packets, ACKs too.
func BenchmarkThroughput(b *testing.B) {
	w := newWires(b)
	read := make(chan int64)
	address := w.serve(b, "tcp", ":0", func(c net.Conn) {
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
		read <- n
	})
	c := w.dial(b, "tcp", address)
	chunk := make([]byte, 256<<10)
	b.SetBytes(int64(len(chunk)))
	frames := w.out.frames.Load() + w.back.frames.Load()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		if _, err := c.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	c.(*tcpConn).CloseWrite()
	<-read
	runtime.ReadMemStats(&after)
	frames = w.out.frames.Load() + w.back.frames.Load() - frames
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(frames), "allocs/packet")
}

// BenchmarkConnect opens and closes connections.
func BenchmarkConnect(b *testing.B) {
	w := newWires(b)
	address := w.serve(b, "tcp", ":0", func(c net.Conn) { io.Copy(io.Discard, c) })
	for b.Loop() {
		c, err := w.a.DialContext(b.Context(), "tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// BenchmarkDeliver is the cost of a packet on its way in, up to TCP.
func BenchmarkDeliver(b *testing.B) {
	s := newStack(b)
	setLink(b, s, linkA())
	batch := [][]byte{tcpPacket(addrB, addrA, 1, 2, header.TCPFlagRst, make([]byte, 1300))}
	b.SetBytes(int64(len(batch[0])))
	b.ReportAllocs()
	for b.Loop() {
		s.Deliver(batch)
	}
}

// BenchmarkFill is the cost of a packet on its way out, from WritePackets on.
func BenchmarkFill(b *testing.B) {
	s := newStack(b)
	setLink(b, s, linkA())
	pkt := newTestPacket(make([]byte, 1400))
	defer pkt.DecRef()
	buf := make([]byte, 64<<10)
	b.SetBytes(1400)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.link.out.push(pkt); err != nil {
			b.Fatal(err)
		}
		s.Fill(buf)
	}
}

// TestDataPathAllocs: moving a packet between the buffers and the stack
// allocates nothing.
func TestDataPathAllocs(t *testing.T) {
	s := newStack(t)
	setLink(t, s, linkA())
	pkt := newTestPacket(make([]byte, 1400))
	defer pkt.DecRef()
	buf := make([]byte, 64<<10)
	fill := testing.AllocsPerRun(1000, func() {
		s.link.out.push(pkt)
		s.Fill(buf)
	})
	if fill > 0 {
		t.Errorf("Fill: %v allocations per packet", fill)
	}
	if raceEnabled {
		t.Log("the race detector makes pools lose their contents: Deliver not measured")
		return
	}
	batch := [][]byte{tcpPacket(addrB, addrA, 1, 2, header.TCPFlagRst, make([]byte, 1300))}
	if got := testing.AllocsPerRun(1000, func() { s.Deliver(batch) }); got > 0.5 {
		t.Errorf("Deliver: %v allocations per packet", got)
	}
}
