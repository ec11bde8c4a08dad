package tunnel

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// hostTick is how often the host is looked at, where it does not tell by
	// itself. A machine that runs on a battery is woken no more often than this.
	hostTick = 5 * time.Second
	// sleptAfter is the shortest standstill that counts as sleep: a machine
	// with too much to do lets timers wait, but not for this long.
	sleptAfter = 3 * time.Second
	// settleTime is how long changes of the network gather: one change of
	// network is a burst of changes of links, addresses and routes.
	settleTime = 200 * time.Millisecond
)

// hostEvent says what has befallen this host since the last one.
type hostEvent struct {
	// Slept is about how long the machine slept or this process was held
	// (SIGSTOP, a paused virtual machine), off by up to hostTick; 0 if neither.
	// Where the host has no clock of its own for it, setting the wall clock
	// forward looks the same.
	Slept time.Duration

	// Network tells that links, addresses or routes have changed, perhaps none
	// that matters here: see localAddressGone.
	Network bool
}

// hostSource is how a hostWatch learns of the host. Its zero value knows of
// held processes only.
type hostSource struct {
	// notices yields something with each change of the network. nil, and its
	// end, mean that the network has to be looked at instead.
	notices io.ReadCloser

	// network describes the network; other text means a change.
	network func() string

	// clock counts from any point and goes on while the machine sleeps.
	clock func() time.Duration
}

// thisHost is the real thing. It holds a socket until the hostWatch is closed.
func thisHost() hostSource {
	src := hostSource{network: describeNetwork, clock: sleepClock}
	if notices, err := openNotices(); err == nil {
		src.notices = notices
	}
	return src
}

// hostWatch tells when the host has slept or its network has changed.
type hostWatch struct {
	events  chan hostEvent // capacity 1; what nobody has taken yet is added to
	src     hostSource
	changed chan struct{}      // capacity 1; closed by the reader of notices
	asked   chan chan struct{} // from look; what it holds is closed as the answer
	stop    chan struct{}
	wg      sync.WaitGroup

	// Owned by watch.
	looked  time.Time     // when slept was last asked
	clock   time.Duration // and what the clock said then
	network string        // what it last looked like, if it has to be looked at
}

// newHostWatch starts to watch; who calls it calls Close.
func newHostWatch(src hostSource) *hostWatch {
	w := &hostWatch{
		events: make(chan hostEvent, 1), src: src,
		changed: make(chan struct{}, 1), asked: make(chan chan struct{}), stop: make(chan struct{}),
		looked: time.Now(),
	}
	if src.clock != nil {
		w.clock = src.clock()
	}
	if src.network != nil {
		w.network = src.network()
	}
	if src.notices != nil {
		w.wg.Go(w.read) // ends when notices is closed
	} else {
		close(w.changed)
	}
	w.wg.Go(w.watch) // ends with stop
	return w
}

// look makes the watch report sleep that it would notice with the next tick. It
// must not be called after Close.
func (w *hostWatch) look() {
	looked := make(chan struct{})
	w.asked <- looked
	<-looked
}

// Close ends the watch and waits until nothing of it is left.
func (w *hostWatch) Close() {
	close(w.stop)
	if w.src.notices != nil {
		w.src.notices.Close()
	}
	w.wg.Wait()
}

// read turns notices into changed.
func (w *hostWatch) read() {
	defer close(w.changed)
	buf := make([]byte, 4096) // a longer message is cut, and unread anyway
	for {
		_, err := w.src.notices.Read(buf)
		// A full socket has lost notices: something has changed.
		if err != nil && !errors.Is(err, syscall.ENOBUFS) {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// watch waits for a notice or a tick, and reports.
func (w *hostWatch) watch() {
	ticker := time.NewTicker(hostTick)
	defer ticker.Stop()
	changed, looking := w.changed, false
	var settled <-chan time.Time
	for {
		var e hostEvent
		var asked chan struct{}
		select {
		case <-w.stop:
			return
		case asked = <-w.asked:
		case _, ok := <-changed:
			if !ok {
				changed, looking = nil, w.src.network != nil
			} else if settled == nil {
				settled = time.After(settleTime)
			}
		case <-settled:
			settled, e.Network = nil, true
		case <-ticker.C:
			e.Network = looking && w.differs()
		}
		e.Slept = w.slept()
		e.post(w.events)
		if asked != nil {
			close(asked)
		}
	}
}

// differs looks whether the network is another than last time.
func (w *hostWatch) differs() bool {
	was := w.network
	w.network = w.src.network()
	return w.network != was
}

// slept is how long the host stood still since it was last asked, which was at
// most a hostTick ago if it did not. Time that Go's clock left out is known
// exactly; if that clock went on, the tick came late.
func (w *hostWatch) slept() time.Duration {
	now, passed := time.Now(), time.Duration(0)
	if w.src.clock != nil {
		clock := w.src.clock()
		w.clock, passed = clock, clock-w.clock
	}
	ran := now.Sub(w.looked)
	w.looked = now
	if slept := max(passed-ran, ran-hostTick); slept >= sleptAfter {
		return slept
	}
	return 0
}

// post adds e to what waits in to, which has a capacity of 1 and no other sender.
func (e hostEvent) post(to chan hostEvent) {
	if e == (hostEvent{}) {
		return
	}
	select {
	case waiting := <-to:
		e.Slept += waiting.Slept
		e.Network = e.Network || waiting.Network
	default:
	}
	to <- e
}

// describeNetwork lists the addresses of this host and those with which it
// would go out to the world.
func describeNetwork() string {
	var words []string
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			words = append(words, a.String())
		}
	}
	slices.Sort(words)
	for _, far := range [...]string{"192.0.2.1", "2001:db8::1"} { // RFC 5737, RFC 3849
		local, _ := localFor(netip.AddrPortFrom(netip.MustParseAddr(far), DefaultPort))
		words = append(words, local.String())
	}
	return strings.Join(words, " ")
}

// localFor is the address that this host would use towards remote. A UDP
// socket tells, and sends nothing.
func localFor(remote netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote))
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return tcpAddr(conn.LocalAddr()).Addr(), nil
}

// localAddressGone tells that no interface has the local address of conn any
// more: nothing that is sent to it arrives here.
func localAddressGone(conn net.Conn) bool {
	local := tcpAddr(conn.LocalAddr()).Addr()
	if !local.IsValid() || local.IsLoopback() { // all of 127/8 is here, whatever lo has
		return false
	}
	addrs, err := net.InterfaceAddrs()
	return err == nil && !holds(addrs, local)
}

// holds tells whether addr is among the addresses of an interface.
func holds(addrs []net.Addr, addr netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		prefix, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		ip, _ := netip.AddrFromSlice(prefix.IP)
		return ip.Unmap() == addr.WithZone("")
	})
}

// tcpAddr is the address and port of one end of a connection; the zero value
// if it has none.
func tcpAddr(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
