package netstack

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// TestMain fails the run if a goroutine outlives the tests: every stack they
// make is closed, and Close must leave none.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := leaked(5 * time.Second); left != "" {
			fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
			code = 1
		}
	}
	os.Exit(code)
}

// leaked waits until no goroutine of gVisor or of this package is left, and
// returns the stacks of those that remain.
func leaked(patience time.Duration) string {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		left := ours()
		if left == "" || time.Now().After(end) {
			return left
		}
	}
}

func ours() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, g := range strings.Split(string(buf), "\n\n") {
		if i > 0 && (strings.Contains(g, "gvisor.dev") || strings.Contains(g, "sstproxy/netstack.")) {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

const testHeadroom = 8

// putTestHeader writes the frame's length, so that pumps can split it.
func putTestHeader(frame []byte) {
	binary.BigEndian.PutUint64(frame, uint64(len(frame)))
}

var (
	addrA  = netip.MustParseAddr("10.9.0.1")
	addrB  = netip.MustParseAddr("10.9.0.2")
	addrA6 = netip.MustParseAddr("fd00:9::1")
	addrB6 = netip.MustParseAddr("fd00:9::2")
)

func linkA() Link {
	return Link{Addrs: hosts(addrA, addrA6), DNS: []netip.Addr{addrB}, MTU: 1400}
}

func linkB() Link { return Link{Addrs: hosts(addrB, addrB6), MTU: 1400} }

func hosts(addrs ...netip.Addr) (p []netip.Prefix) {
	for _, a := range addrs {
		p = append(p, netip.PrefixFrom(a, a.BitLen()))
	}
	return p
}

// newStack makes a stack without a link, closed at the end of the test.
func newStack(t testing.TB) *Stack {
	t.Helper()
	s, err := New(Config{Headroom: testHeadroom, PutHeader: putTestHeader})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func setLink(t testing.TB, s *Stack, l Link) {
	t.Helper()
	if err := s.SetLink(l); err != nil {
		t.Fatal(err)
	}
}

// pipe carries frames from one stack to the other, and can be stopped.
type pipe struct {
	from, to *Stack
	gate     chan struct{}                     // holds a token unless paused
	filter   atomic.Pointer[func([]byte) bool] // false drops the packet
	frames   atomic.Int64
	bytes    atomic.Int64
}

func newPipe(from, to *Stack) *pipe {
	p := &pipe{from: from, to: to, gate: make(chan struct{}, 1)}
	p.resume()
	return p
}

func (p *pipe) run(done <-chan struct{}) {
	buf := make([]byte, 64<<10)
	var batch [][]byte
	for {
		select {
		case <-p.from.Ready():
		case <-done:
			return
		}
		for {
			select {
			case <-p.gate:
			case <-done:
				return
			}
			n := p.from.Fill(buf)
			batch = p.split(batch[:0], buf[:n])
			p.to.Deliver(batch)
			p.gate <- struct{}{}
			if n == 0 {
				break
			}
		}
	}
}

func (p *pipe) split(batch [][]byte, b []byte) [][]byte {
	p.bytes.Add(int64(len(b)))
	for len(b) > 0 {
		n := binary.BigEndian.Uint64(b)
		packet := b[testHeadroom:n]
		b = b[n:]
		p.frames.Add(1)
		if f := p.filter.Load(); f == nil || (*f)(packet) {
			batch = append(batch, packet)
		}
	}
	return batch
}

func (p *pipe) setFilter(f func([]byte) bool) { p.filter.Store(&f) }

// pause stops Fill until resume; what was taken has been delivered.
func (p *pipe) pause()  { <-p.gate }
func (p *pipe) resume() { p.gate <- struct{}{} }

// wires are two stacks back to back.
type wires struct {
	a, b      *Stack
	out, back *pipe // a to b, b to a
}

func newWires(t testing.TB) *wires {
	t.Helper()
	w := &wires{a: newStack(t), b: newStack(t)}
	w.out, w.back = newPipe(w.a, w.b), newPipe(w.b, w.a)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { w.out.run(done) })
	wg.Go(func() { w.back.run(done) })
	t.Cleanup(func() { close(done); wg.Wait() }) // before the stacks are closed
	setLink(t, w.a, linkA())
	setLink(t, w.b, linkB())
	return w
}

// serve accepts connections of b until the test ends.
func (w *wires) serve(t testing.TB, network, address string, handle func(net.Conn)) (addr string) {
	t.Helper()
	l, err := w.b.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.b.Close() // ends handlers that still read
		wg.Wait()
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	host, _, _ := net.SplitHostPort(address)
	if host == "" {
		host = addrB.String()
	}
	return net.JoinHostPort(host, port)
}

func echo(c net.Conn) {
	io.Copy(c, c)
	c.(*tcpConn).CloseWrite()
}

func (w *wires) dial(t testing.TB, network, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := w.a.DialContext(ctx, network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// waitFor waits until what is true, looking every millisecond.
func waitFor(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s for: %s", what)
		}
	}
}

// within fails the test if f has not returned in time.
func within(t testing.TB, limit time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(limit):
		buf := make([]byte, 1<<20)
		t.Fatalf("%s took longer than %v\n%s", what, limit, buf[:runtime.Stack(buf, true)])
	}
}

func checksumOf(b []byte, initial uint16) uint16 { return checksum.Checksum(b, initial) }

func netAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func newTestPacket(b []byte) *stack.PacketBuffer {
	return stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
}
