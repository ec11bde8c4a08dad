package netstack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/waiter"
)

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestEchoBothWays(t *testing.T) {
	t.Parallel()
	for _, host := range []string{addrB.String(), addrB6.String()} {
		t.Run(host, func(t *testing.T) {
			w := newWires(t)
			c := w.dial(t, "tcp", w.serve(t, "tcp", net.JoinHostPort(host, "0"), echo))
			data := random(10 << 20)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				if n, err := c.Write(data); err != nil || n != len(data) {
					t.Errorf("Write = %d, %v", n, err)
				}
				if err := c.(*tcpConn).CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			sum := sha256.New()
			n, err := io.Copy(sum, c)
			if err != nil || n != int64(len(data)) {
				t.Fatalf("read %d, %v; want %d", n, err, len(data))
			}
			if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
				t.Error("checksums differ")
			}
			if d := w.a.link.out.dropped.Load() + w.b.link.out.dropped.Load(); d != 0 {
				t.Errorf("%d packets dropped", d)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	address := w.serve(t, "tcp", ":0", echo)
	c := w.dial(t, "tcp4", address)
	if got := c.RemoteAddr().String(); got != address {
		t.Errorf("remote %s, want %s", got, address)
	}
	if got := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr(); got != addrA {
		t.Errorf("local %v, want %v", got, addrA)
	}
}

func TestHalfCloseByClient(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
		b, _ := io.ReadAll(c) // ends with the client's FIN
		c.Write(append(b, " answered"...))
	}))
	c.Write([]byte("asked"))
	c.(*tcpConn).CloseWrite()
	if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after CloseWrite: %v, want EPIPE", err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "asked answered" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestHalfCloseByServer(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	got := make(chan string, 1)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
		c.(*tcpConn).CloseWrite()
		b, _ := io.ReadAll(c)
		got <- string(b)
	}))
	if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
		t.Fatalf("got %q, %v", b, err)
	}
	c.Write([]byte("after the end"))
	c.Close()
	if s := <-got; s != "after the end" {
		t.Errorf("server read %q", s)
	}
}

func TestCloseRead(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", echo))
	read := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
	if err := c.(*tcpConn).CloseRead(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != io.EOF {
		t.Errorf("Read = %v, want EOF", err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("Write = %v", err)
	}
}

// TestReset: closing with unread data resets; every later call must say so,
// not only the first, and never "end of file".
func TestReset(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
		io.ReadFull(c, make([]byte, 1))
		waitFor(t, "unread data", func() bool {
			return c.(*tcpConn).ep.Readiness(1) != 0
		})
	}))
	if _, err := c.Write(random(100)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrReset) {
			t.Errorf("Read = %v, want reset", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, ErrReset) {
			t.Errorf("Write = %v, want reset", err)
		}
	}
	if err := (&net.OpError{}); !errors.As(func() error { _, err := c.Read(make([]byte, 1)); return err }(), &err) || err.Op != "read" {
		t.Error("not a *net.OpError of read")
	}
}

func TestReadDeadline(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", echo))
	b := make([]byte, 16)

	c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	_, err := c.Read(b)
	if ne, ok := errors.AsType[net.Error](err); !errors.Is(err, os.ErrDeadlineExceeded) || !ok || !ne.Timeout() {
		t.Errorf("Read = %v, want a timeout", err)
	}

	// An expired deadline fails even if data is there.
	c.SetReadDeadline(time.Time{})
	c.Write([]byte("data"))
	if n, err := io.ReadFull(c, b[:2]); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	c.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read = %v, want a timeout", err)
	}
	// And taken away, the data is still there.
	c.SetReadDeadline(time.Time{})
	if n, err := io.ReadFull(c, b[:2]); n != 2 || err != nil || string(b[:2]) != "ta" {
		t.Errorf("got %q, %v", b[:n], err)
	}
	// A deadline set while a read waits ends it.
	done := make(chan error, 1)
	go func() { _, err := c.Read(b); done <- err }()
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read = %v, want a timeout", err)
	}
	// So does one that is moved from far to near.
	c.SetReadDeadline(time.Now().Add(time.Hour))
	go func() { _, err := c.Read(b); done <- err }()
	c.SetReadDeadline(time.Now().Add(-1))
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read = %v, want a timeout", err)
	}
}

// TestWriteDeadline: the peer does not read, so the send buffer fills.
func TestWriteDeadline(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	hold := make(chan struct{})
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(net.Conn) { <-hold }))
	t.Cleanup(func() { close(hold) })
	much := make([]byte, 64<<20) // takes its time where memory is slow
	c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	n, err := c.Write(much)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == 64<<20 {
		t.Errorf("Write = %d, %v, want a part and a timeout", n, err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write = %v, want a timeout", err)
	}
}

// TestWriteTakesRoom: a write that waits goes on each time although less than half
// of what the connection may hold has become free.
func TestWriteTakesRoom(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	w.b.growth.left.Store(0) // the window does not grow
	accepted, hold := make(chan *tcpConn, 1), make(chan struct{})
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
		accepted <- c.(*tcpConn)
		<-hold
	})).(*tcpConn)
	t.Cleanup(func() { close(hold) })
	c.ep.SocketOptions().SetSendBufferSize(1<<20, true) // nor does this
	var written atomic.Int64
	go func() { // ends with the connection
		for b := make([]byte, 4<<10); ; written.Add(1) {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	peer := <-accepted
	window := int(peer.ep.SocketOptions().GetReceiveBufferSize() / 2)
	for range 3 {
		waitFor(t, "both sides to be full", func() bool {
			return held(t, peer) > window*8/10 && c.ep.Readiness(waiter.WritableEvents) == 0
		})
		before := written.Load()
		if _, err := io.CopyN(io.Discard, peer, 300<<10); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "more to be written", func() bool { return written.Load() > before+1 })
	}
	c.Close()
}

// TestWriteWaitsLong: who waits for a peer that takes nothing looks ever more
// rarely, until there is word of room.
func TestWriteWaitsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &tcpConn{}
		c.writable = make(chan struct{}, 1)
		look, begun := firstLook, time.Now()
		for range 100 {
			look, _ = c.awaitRoom(look)
		}
		if took := time.Since(begun); took < 80*maxLook || look != maxLook {
			t.Errorf("100 looks in %v, the next after %v", took, look)
		}
		post(c.writable)
		if look, _ = c.awaitRoom(look); look != firstLook {
			t.Errorf("after word of room the next look is after %v, want %v", look, firstLook)
		}
	})
}

func TestCloseWakes(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", echo))
	done := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); done <- err }()
	c.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read = %v, want closed", err)
	}
	for name, err := range map[string]error{
		"Close":       c.Close(),
		"CloseWrite":  c.(*tcpConn).CloseWrite(),
		"SetDeadline": c.SetDeadline(time.Time{}),
		"Write":       func() error { _, err := c.Write([]byte("x")); return err }(),
	} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close = %v, want closed", name, err)
		}
	}
}

func TestListenerClose(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	l, err := w.b.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.b.Listen("tcp", ":7"); !errors.Is(err, ErrInUse) {
		t.Errorf("second Listen = %v, want in use", err)
	}
	done := make(chan error, 1)
	go func() { _, err := l.Accept(); done <- err }()
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v, want closed", err)
	}
	if _, err := w.a.DialContext(t.Context(), "tcp", "10.9.0.2:7"); !errors.Is(err, ErrRefused) {
		t.Errorf("dial = %v, want refused", err)
	}
	if l, err = w.b.Listen("tcp", ":7"); err != nil {
		t.Fatal("port is not free again:", err)
	}
	l.Close()
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	for _, tt := range []struct{ network, address string }{
		{"udp", ":1"}, {"tcp", "name:1"}, {"tcp", ":http"}, {"tcp4", "[::1]:1"}, {"tcp", "1"}, {"unix", "/x"}, {"tcp", "10.0.0.1:1"},
	} {
		if l, err := s.Listen(tt.network, tt.address); err == nil {
			l.Close()
			t.Errorf("Listen(%q, %q) succeeded", tt.network, tt.address)
		} else if _, ok := errors.AsType[*net.OpError](err); !ok {
			t.Errorf("Listen(%q, %q) = %T", tt.network, tt.address, err)
		}
	}
	if _, err := s.ListenPacket("tcp", ":1"); err == nil {
		t.Error("ListenPacket(tcp) succeeded")
	}
}

func TestUDPEcho(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	pc, err := w.b.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(b[:n], from)
		}
	})
	defer wg.Wait()
	defer pc.Close()
	port := pc.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	for _, to := range []netip.Addr{addrB, addrB6} {
		at := netip.AddrPortFrom(to, port)
		c := w.dial(t, "udp", at.String())
		for _, size := range []int{0, 1, 1300, 3000} { // the last is fragmented
			data := random(size)
			if _, err := c.Write(data); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 4096)
			n, err := c.Read(b)
			if err != nil || !bytes.Equal(b[:n], data) {
				t.Errorf("%v: %d octets: read %d, %v", to, size, n, err)
			}
		}
		// Unconnected, from a socket of both families.
		any, err := w.a.ListenPacket("udp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		any.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(at))
		b := make([]byte, 16)
		n, from, err := any.ReadFrom(b)
		if err != nil || string(b[:n]) != "hello" || from.String() != at.String() {
			t.Errorf("%v: got %q from %v, %v", to, b[:n], from, err)
		}
		any.Close()
	}
}

// TestUDPOnReadable: whoever waits is told of a datagram, and of the end.
func TestUDPOnReadable(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	pc, err := w.b.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	c := pc.(*udpConn)
	called := make(chan struct{}, 1)
	wake := func() { called <- struct{}{} }
	if c.OnReadable(wake) {
		t.Fatal("readable before anything was sent")
	}
	port := pc.LocalAddr().(*net.UDPAddr).Port
	w.dial(t, "udp", fmt.Sprintf("%v:%d", addrB, port)).Write([]byte("hello"))
	within(t, 10*time.Second, "the call", func() { <-called })
	if !c.OnReadable(wake) {
		t.Fatal("not readable with a datagram there")
	}
	if n, _, err := pc.ReadFrom(make([]byte, 16)); n != 5 || err != nil {
		t.Fatalf("got %d octets, %v", n, err)
	}
	if c.OnReadable(wake) {
		t.Fatal("readable with nothing left")
	}
	pc.Close()
	within(t, 10*time.Second, "the call at the end", func() { <-called })
	if !c.OnReadable(wake) {
		t.Error("not readable though closed")
	}
}

// TestUDPAddressChange: a socket that is bound to no address uses the one that
// the link has at the time, with the same port.
func TestUDPAddressChange(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	there, err := w.b.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(addrB, there.LocalAddr().(*net.UDPAddr).AddrPort().Port()))
	here, err := w.a.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	port := here.LocalAddr().(*net.UDPAddr).Port
	b := make([]byte, 16)
	for _, addr := range []string{"10.9.0.1", "10.9.0.7"} {
		setLink(t, w.a, Link{Addrs: hosts(netAddr(addr)), MTU: 1400})
		if _, err := here.WriteTo([]byte("hello"), at); err != nil {
			t.Fatal(err)
		}
		_, from, err := there.ReadFrom(b)
		if want := fmt.Sprintf("%s:%d", addr, port); err != nil || from.String() != want {
			t.Fatalf("got %v, %v, want %s", from, err, want)
		}
		there.WriteTo([]byte("back"), from)
		if n, _, err := here.ReadFrom(b); err != nil || string(b[:n]) != "back" {
			t.Errorf("got %q, %v", b[:n], err)
		}
	}
}

func TestUDPErrors(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "udp", "10.9.0.2:9")
	c.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrRefused) {
		t.Errorf("Read = %v, want refused", err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read = %v, want a timeout", err)
	}
	pc, err := w.a.ListenPacket("udp4", "10.9.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for to, want := range map[string]error{
		"127.0.0.1:1":       ErrNetUnreachable,
		"255.255.255.255:1": ErrNetUnreachable,
		"[fd00:9::2]:1":     syscall.EAFNOSUPPORT,
	} {
		if _, err := pc.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); !errors.Is(err, want) {
			t.Errorf("WriteTo(%s) = %v, want %v", to, err, want)
		}
	}
	if _, err := pc.WriteTo([]byte("x"), &net.UnixAddr{}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("WriteTo(unix) = %v", err)
	}
	if _, err := pc.WriteTo(make([]byte, 70000), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.9.0.2:9"))); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("WriteTo(70000 octets) = %v", err)
	}
	w.a.LinkDown()
	if _, err := c.Write([]byte("x")); !errors.Is(err, ErrDown) {
		t.Errorf("Write = %v, want down", err)
	}
}

func TestManyConnections(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	address := w.serve(t, "tcp", ":0", echo)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			c, err := w.a.DialContext(context.Background(), "tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			data := bytes.Repeat([]byte{byte(i)}, 100_000)
			go func() {
				c.Write(data)
				c.(*tcpConn).CloseWrite()
			}()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d octets, %v", len(got), err)
			}
		})
	}
	wg.Wait()
}

// TestOnReadable: it tells of data, of an end and of Close, at once or later, and
// takes nothing away from the next Read.
func TestOnReadable(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	next := make(chan func(net.Conn))
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(far net.Conn) {
		for do := range next {
			do(far)
		}
	})).(*tcpConn)
	defer close(next)
	// later calls OnReadable, which must not find anything, does something,
	// and waits for the call, which is one of the last function only.
	later := func(do func()) {
		t.Helper()
		called := make(chan struct{})
		for _, f := range []func(){func() { t.Error("called though forgotten") }, func() { close(called) }} {
			if c.OnReadable(f) {
				t.Fatal("readable")
			}
		}
		do()
		<-called
	}

	later(func() { next <- func(far net.Conn) { far.Write([]byte("data")) } })
	never := func() { t.Error("called though there is something") }
	for range 2 {
		if !c.OnReadable(never) {
			t.Fatal("data is not seen")
		}
	}
	b := make([]byte, 10)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "data" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	later(func() { next <- func(far net.Conn) { far.(*tcpConn).CloseWrite() } })
	if !c.OnReadable(never) {
		t.Error("the end is not seen")
	}
	if _, err := c.Read(b); err != io.EOF {
		t.Errorf("read: %v, want EOF", err)
	}
	c.Close()
	if !c.OnReadable(never) {
		t.Error("closed: not seen")
	}
}

// TestOnReadableClosed: whoever waits is told when the connection or the whole
// stack is closed.
func TestOnReadableClosed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *wires, c net.Conn){
		"connection": func(_ *wires, c net.Conn) { c.Close() },
		"stack":      func(w *wires, _ net.Conn) { w.a.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWires(t)
			c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(far net.Conn) { far.Read(make([]byte, 1)) })).(*tcpConn)
			called := make(chan struct{})
			if c.OnReadable(func() { close(called) }) {
				t.Fatal("readable")
			}
			end(w, c)
			<-called
		})
	}
}

// TestOnReadableLosesNothing: an octet goes back and forth, and comes just while
// its receiver looks for it often enough for one that is missed to be noticed.
func TestOnReadableLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(far net.Conn) { io.Copy(far, far) })).(*tcpConn)
	const rounds = 500
	done := make(chan error, 1)
	b := make([]byte, 1)
	received, called := 0, 0
	var drain func()
	later := func() { go drain() } // ends before it is called again
	turn := func() (err error) {
		if _, err = c.Read(b); err == nil && received < rounds {
			received++
			_, err = c.Write(b)
		}
		return err
	}
	drain = func() {
		called++
		for c.OnReadable(later) {
			if err := turn(); err != nil || received == rounds {
				done <- err
				return
			}
		}
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	later()
	if err := <-done; err != nil || called < 2 {
		t.Errorf("%v after %d octets, %d calls", err, received, called)
	}
}
