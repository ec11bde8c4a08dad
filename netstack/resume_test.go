package netstack

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"sstproxy/netstack/offload"
)

// pass lets time pass on a stack's clock, in steps, so that timers see it pass.
func pass(s *Stack, d time.Duration) {
	const step = 50 * time.Millisecond
	for ; d > 0; d -= step {
		s.clock.skip(min(d, step))
	}
}

// passIntoVoid is pass while what a sends is taken, and lost.
func (w *wires) passIntoVoid(t *testing.T, d time.Duration) {
	t.Helper()
	const step = 50 * time.Millisecond
	for ; d > 0; d -= step {
		w.a.clock.skip(min(d, step))
		waitFor(t, "the queue to run empty", func() bool {
			q := w.a.link.out
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.streams == 0
		})
	}
}

// shift makes what was in progress d older, as if d had passed with the link down.
func shift(s *Stack, d time.Duration) {
	c := s.clock
	c.mu.Lock()
	c.base, c.since = c.base.Add(-d), c.since.Add(-d)
	for i := range c.until {
		if !c.until[i].IsZero() {
			c.until[i] = c.until[i].Add(-d)
		}
	}
	c.mu.Unlock()
	q := s.link.out
	q.mu.Lock()
	q.since = q.since.Add(-d)
	q.mu.Unlock()
}

// outage takes a's link away after it has been dead for silent, for d, and
// brings it back with l. The time of b runs on.
func (w *wires) outage(t *testing.T, silent, d time.Duration, l Link) {
	t.Helper()
	lose := func([]byte) bool { return false }
	w.out.setFilter(lose)
	w.back.setFilter(lose)
	w.passIntoVoid(t, silent)
	w.out.pause()
	w.a.LinkDown()
	shift(w.a, d)
	pass(w.b, silent+d)
	w.out.filter.Store(nil)
	w.back.filter.Store(nil)
	setLink(t, w.a, l)
	w.out.resume()
}

// outages are what connections have to survive.
var outages = []struct{ silent, down time.Duration }{
	{0, time.Second},
	{0, 30 * time.Second},
	{0, 10 * time.Minute},
	{40 * time.Second, time.Second},
	{40 * time.Second, 5 * time.Minute},
}

// TestTransfersSurvive: an upload and a download come through complete.
func TestTransfersSurvive(t *testing.T) {
	t.Parallel()
	data := random(8 << 20)
	want := sha256.Sum256(data)
	for _, o := range outages {
		t.Run(fmt.Sprintf("%v after %v", o.down, o.silent), func(t *testing.T) {
			t.Parallel()
			w := newWires(t)
			sums := make(chan [32]byte, 2)
			half := make(chan struct{}, 2)
			upload := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
				c.(*tcpConn).ep.SocketOptions().SetKeepAlive(false)
				sums <- receive(t, c, len(data)/4, half)
			}))
			download := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
				c.(*tcpConn).ep.SocketOptions().SetKeepAlive(false)
				withoutRACK(endpointOf(c)) // the peer's recovery is not what is tested
				c.Write(data)
				c.(*tcpConn).CloseWrite()
				io.Copy(io.Discard, c)
			}))
			go func() {
				upload.Write(data)
				upload.(*tcpConn).CloseWrite()
			}()
			go func() { sums <- receive(t, download, len(data)/4, half) }()
			<-half
			<-half
			w.outage(t, o.silent, o.down, linkA())
			for range 2 {
				if got := w.hurry(t, sums); got != want {
					t.Errorf("checksum %x, want %x", got, want)
				}
			}
		})
	}
}

// receive reads to the end and returns the checksum. It posts when it has read
// the first octets, and reads the rest when that was taken.
func receive(t *testing.T, r io.Reader, first int, half chan<- struct{}) (sum [32]byte) {
	h := sha256.New()
	if _, err := io.CopyN(h, r, int64(first)); err != nil {
		t.Error(err)
	}
	half <- struct{}{}
	if _, err := io.Copy(h, r); err != nil {
		t.Error(err)
	}
	return [32]byte(h.Sum(nil))
}

// hurry waits for a transfer; the peer's timers, which have backed off during
// the outage, need not.
func (w *wires) hurry(t *testing.T, sums <-chan [32]byte) (sum [32]byte) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		select {
		case sum = <-sums:
			return sum
		case <-tick.C:
			pass(w.b, time.Second)
		}
	}
	t.Fatal("a transfer hangs")
	return sum
}

// TestRetransmitAtOnce: what was in flight is sent again when the link is back,
// while time stands still: no timer can do it.
func TestRetransmitAtOnce(t *testing.T) {
	t.Parallel()
	for _, o := range outages {
		t.Run(fmt.Sprintf("%v after %v", o.down, o.silent), func(t *testing.T) {
			t.Parallel()
			w := newWires(t)
			testRetransmit(t, w, o.silent, o.down, func(t *testing.T, d time.Duration) {
				w.passIntoVoid(t, d)
				w.out.pause()
			})
		})
		t.Run(fmt.Sprintf("%v after %v stuck", o.down, o.silent), func(t *testing.T) {
			t.Parallel()
			w := newWires(t)
			testRetransmit(t, w, o.silent, o.down, func(t *testing.T, d time.Duration) {
				w.out.pause()
				pass(w.a, d)
			})
		})
	}
}

// testRetransmit: silence lets the time before the outage pass and pauses w.out.
func testRetransmit(t *testing.T, w *wires, silent, down time.Duration, silence func(*testing.T, time.Duration)) {
	t.Helper()
	got := make(chan byte, 2)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
		c.(*tcpConn).ep.SocketOptions().SetKeepAlive(false)
		var b [1]byte
		for {
			if _, err := c.Read(b[:]); err != nil {
				return
			}
			got <- b[0]
		}
	}))
	c.Write([]byte{1})
	<-got
	waitFor(t, "the acknowledgement", func() bool { return infoOf(endpointOf(c)).RTT > 0 })
	w.out.setFilter(func([]byte) bool { return false })
	before := w.out.frames.Load()
	c.Write([]byte{2})
	waitFor(t, "the segment that is lost", func() bool { return w.out.frames.Load() > before })
	silence(t, silent)
	timeout := infoOf(endpointOf(c)).RTO
	w.a.LinkDown()
	w.a.Stalled(true)
	shift(w.a, down)
	stands := w.a.clock.elapsed()
	w.out.filter.Store(nil)
	setLink(t, w.a, linkA())
	w.out.resume()
	if b := <-got; b != 2 {
		t.Errorf("got %d, want 2", b)
	}
	skipped := w.a.clock.elapsed() - stands
	if skipped > silent+2*firstRTO || skipped < min(timeout, firstRTO) {
		t.Errorf("the clock skipped %v; the timer was set to %v", skipped, timeout)
	}
	var info tcpip.TCPInfoOption
	waitFor(t, "the acknowledgement", func() bool {
		info = infoOf(endpointOf(c))
		return info.CcState == tcpip.Open && (silent == 0 || info.SndCwnd >= 10)
	})
	if info.RTO > time.Second || info.RTT > 100*time.Millisecond {
		t.Errorf("timeout %v, round trip %v after the outage", info.RTO, info.RTT)
	}
	if f := recoveryOf(endpointOf(c)); !f.IsValid() || silent > 0 && f.Int() != 0 {
		t.Errorf("gVisor's loss detection is %v; see withoutRACK", f)
	}
	if silent > 0 && info.SndSsthresh < 1<<20 {
		t.Errorf("window %d, threshold of slow start %d after the outage", info.SndCwnd, info.SndSsthresh)
	}
}

// TestRestartInRecovery: a connection whose congestion control begins anew in the
// middle of fast recovery goes on when that is over. On a busy machine the timer
// may come before it.
func TestRestartInRecovery(t *testing.T) {
	t.Parallel()
	for range 10 {
		if transferRestarted(t) {
			return
		}
	}
	t.Error("not once was there a fast recovery")
}

// transferRestarted is a transfer that begins anew when it repeats a lost segment,
// and tells whether that was in fast recovery.
func transferRestarted(t *testing.T) (inRecovery bool) {
	t.Helper()
	w := newWires(t)
	data := random(4 << 20)
	sums := make(chan [32]byte, 1)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) {
		h := sha256.New()
		io.Copy(h, c)
		sums <- [32]byte(h.Sum(nil))
	}))
	var first uint32 // sequence number of the segment that is lost
	sent, seen, again, release := 0, 0, make(chan struct{}), make(chan struct{})
	w.out.setFilter(func(packet []byte) bool {
		s, ok := offload.ParseSegment(packet)
		if !ok || len(s.Payload()) == 0 {
			return true
		}
		if sent++; sent == 500 {
			first = s.Seq
		}
		if sent < 500 || s.Seq != first {
			return true
		}
		if seen++; seen == 2 {
			close(again)
			<-release
		}
		return seen > 1
	})
	go func() { // ends with the transfer
		c.Write(data)
		c.(*tcpConn).CloseWrite()
	}()
	<-again
	ep := endpointOf(c)
	inRecovery = infoOf(ep).CcState == tcpip.SACKRecovery
	restart(ep, true)
	close(release)
	waitFor(t, "the transfer", func() bool { return len(sums) > 0 })
	if got, want := <-sums, sha256.Sum256(data); got != want {
		t.Errorf("checksum %x, want %x", got, want)
	}
	return inRecovery
}

// TestProbeAtOnce: the peer of an idle connection hears from us, and the time
// until the next probe is as before.
func TestProbeAtOnce(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", echo))
	w.out.pause()
	w.a.LinkDown()
	probes := make(chan struct{}, 16)
	w.out.setFilter(func(packet []byte) bool {
		if s, ok := offload.ParseSegment(packet); ok && s.Flags == offload.FlagACK && len(s.Payload()) == 0 {
			probes <- struct{}{}
		}
		return true
	})
	setLink(t, w.a, linkA())
	w.out.resume()
	<-probes
	var idle tcpip.KeepaliveIdleOption
	waitFor(t, "the idle time", func() bool {
		_ = endpointOf(c).GetSockOpt(&idle)
		return time.Duration(idle) == keepaliveIdle
	})
}

// TestCloseWhileDown: closing and deadlines need no link.
func TestCloseWhileDown(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", func(c net.Conn) { <-t.Context().Done() }))
	w.a.LinkDown()
	c.SetDeadline(time.Now().Add(10 * time.Millisecond))
	within(t, 5*time.Second, "Read", func() { c.Read(make([]byte, 1)) })
	within(t, 5*time.Second, "Write", func() { c.Write(make([]byte, 64<<20)) })
	within(t, 5*time.Second, "Close", func() { c.Close() })
}

// TestGiveUp: after downLimit connections end, and say why.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", echo))
	l, err := w.a.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.a.giveUp()
	if _, err := c.Write([]byte{1}); err != nil {
		t.Fatal("ended although the link is up: ", err)
	}
	w.a.LinkDown()
	w.a.giveUp()
	_, err = c.Read(make([]byte, 1))
	for err == nil {
		_, err = c.Read(make([]byte, 1)) // the echo
	}
	if !errors.Is(err, ErrAborted) || !strings.Contains(err.Error(), "down for 15m0s") {
		t.Errorf("Read = %v", err)
	}
	if _, err := c.Write([]byte{1}); !errors.Is(err, ErrAborted) {
		t.Errorf("Write = %v", err)
	}
	setLink(t, w.a, linkA())
	if _, err := w.b.DialContext(t.Context(), "tcp", net.JoinHostPort(addrA.String(), portOf(l))); err != nil {
		t.Errorf("the listener: %v", err)
	}
}

// TestAddressChanged: everything that had the old address ends at once and says
// why; what begins then works.
func TestAddressChanged(t *testing.T) {
	t.Parallel()
	for _, down := range []bool{true, false} {
		t.Run(fmt.Sprintf("down %v", down), func(t *testing.T) {
			t.Parallel()
			w := newWires(t)
			var log lockedBuffer
			w.a.log = slog.New(slog.NewTextHandler(&log, nil))
			address := w.serve(t, "tcp", ":0", echo)
			c := w.dial(t, "tcp", address)
			u := w.dial(t, "udp", address)
			read := make(chan error, 2)
			go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
			go func() { _, err := u.Read(make([]byte, 1)); read <- err }()
			dialled := make(chan error, 1)
			before := w.a.net.Stats().TCP.ActiveConnectionOpenings.Value()
			go func() { _, err := w.a.DialContext(t.Context(), "tcp", "192.0.2.1:1"); dialled <- err }()
			waitFor(t, "the dial", func() bool { return w.a.net.Stats().TCP.ActiveConnectionOpenings.Value() > before })
			if down {
				w.a.LinkDown()
			}
			w.a.nextDNS.Store(1)
			link := linkA()
			link.Addrs = hosts(netAddr("10.9.0.77"), addrA6)
			link.DNS = []netip.Addr{netAddr("10.9.0.53")}
			setLink(t, w.a, link)
			for range 2 {
				if err := <-read; !errors.Is(err, ErrAborted) || !strings.Contains(err.Error(), "changed from 10.9.0.1 to 10.9.0.77") {
					t.Errorf("Read = %v", err)
				}
			}
			if _, err := c.Write([]byte{1}); !errors.Is(err, ErrAborted) {
				t.Errorf("Write = %v", err)
			}
			if err := <-dialled; !errors.Is(err, ErrAborted) && !errors.Is(err, ErrDown) {
				t.Errorf("DialContext = %v", err)
			}
			if n := w.a.nextDNS.Load(); n != 0 {
				t.Errorf("the next DNS server is number %d", n)
			}
			if got := log.String(); strings.Count(got, "level=INFO") != 1 || !strings.Contains(got, "count=") {
				t.Errorf("log:\n%s", got)
			}
			again := w.dial(t, "tcp", address)
			if _, err := again.Write([]byte("x")); err != nil {
				t.Error(err)
			}
			if _, err := again.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRestore: a link that could not be changed carries what it did before.
func TestRestore(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	c := w.dial(t, "tcp", w.serve(t, "tcp", ":0", echo))
	w.a.mu.Lock()
	old := w.a.state.Load()
	w.a.withdraw([]netip.Addr{netAddr("10.9.9.9")}, nil)
	w.a.restore(old)
	w.a.mu.Unlock()
	if w.a.link.out.overdue || w.a.state.Load().ended() {
		t.Error("the link is half dead")
	}
	go c.Write(random(1 << 20))
	if _, err := io.CopyN(io.Discard, c, 1<<20); err != nil {
		t.Error(err)
	}
}

// TestStaleDatagrams: a datagram does not outlast the wait for its answer.
func TestStaleDatagrams(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		down time.Duration
		want int
	}{{time.Second, 1}, {staleAfter + time.Second, 0}} {
		s := newStack(t)
		setLink(t, s, linkA())
		u, err := s.DialContext(t.Context(), "udp", "10.9.0.2:53")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
		s.LinkDown()
		shift(s, c.down)
		setLink(t, s, linkA())
		if got := s.Fill(make([]byte, 4096)) / (testHeadroom + 36); got != c.want {
			t.Errorf("after %v: %d datagrams, want %d", c.down, got, c.want)
		}
		u.Close()
	}
}

func portOf(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func endpointOf(c net.Conn) *tcp.Endpoint { return c.(*tcpConn).ep.(*tcp.Endpoint) }

// lockedBuffer collects what several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
