package netstack

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	glog "gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"sstproxy/netstack/offload"
)

// nicID is the one interface.
const nicID tcpip.NICID = 1

// Config says how frames are laid out and where the stack logs to. The zero
// value is usable: frames are then bare IP packets.
type Config struct {
	// Headroom is how many octets Fill leaves in front of each IP packet.
	Headroom int
	// PutHeader writes these octets. It gets the frame, Headroom octets and
	// the IP packet, and must not keep it. Nil leaves them as they are.
	PutHeader func(frame []byte)
	// Memory bounds the buffers; zero is MemoryNormal.
	Memory Memory
	// AnswerPing makes the stack answer ICMP echo requests.
	AnswerPing bool
	// Logger gets the stack's events. Nil discards them.
	Logger *slog.Logger
}

// quiet keeps gVisor's own log, which is one for the whole process, off standard
// error: it tells of each odd packet a server sends.
var quiet sync.Once

// Stack is a TCP/IP host with one point-to-point interface. Its methods may be
// called concurrently, except that Deliver wants one caller at a time.
type Stack struct {
	cfg    Config
	log    *slog.Logger
	net    *stack.Stack
	link   *link
	clock  *stallClock
	growth growth

	deliverMu sync.Mutex // held by Deliver, which waits for nothing
	merge     offload.Merger

	slow        chan slowPacket
	linkChanged chan struct{} // capacity 1: the slow loop looks at the link anew
	done        chan struct{} // closed by Close
	closeOnce   sync.Once
	wg          sync.WaitGroup

	state   atomic.Pointer[linkState]
	nextDNS atomic.Uint32 // index of the DNS server that answered last
	heard   atomic.Int64  // time.Duration on the clock of the last Deliver
	endings endings
	ended   ended
	// listeners is how many there are, see late.
	listeners atomic.Int32
	guard     atomic.Pointer[guard]
	away      turnedAway

	// mu orders SetLink, LinkDown, Close and what discovery learns. It is
	// taken before any lock of gVisor and never the other way round: gVisor
	// calls only into link, which does not know it.
	mu      sync.Mutex
	addrs   []netip.Prefix // assigned to the interface
	learned []netip.Prefix // those of addrs that came by router advertisement
	silence time.Duration  // how long nothing had come in when the link went down
	// resuming: the link went down, and the connections did not go on yet.
	resuming bool
}

// New makes a stack whose link is down: SetLink brings it up. The caller must
// Close it.
func New(cfg Config) (*Stack, error) {
	if cfg.Headroom < 0 {
		return nil, errors.New("netstack: negative headroom")
	}
	quiet.Do(func() {
		glog.SetLevel(glog.Warning) // of the log that gVisor's packages took hold of when they were made
		glog.SetTarget(&glog.Writer{Next: io.Discard})
	})
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Stack{
		cfg:         cfg,
		log:         log,
		link:        &link{out: newEgress()},
		clock:       newStallClock(),
		slow:        make(chan slowPacket, slowBacklog),
		linkChanged: make(chan struct{}, 1),
		done:        make(chan struct{}),
	}
	s.ended.clock = s.clock
	begin, most, queue := cfg.Memory.limits()
	s.link.out.limit = queue
	s.growth.begin = int64(begin)
	s.growth.left.Store(2 * int64(receiveBuffer(most)))
	s.merge.Accept = s.deliverMerged
	s.state.Store(&linkState{down: closedChan()})
	s.guard.Store(newGuard(nil))
	s.net = stack.New(stack.Options{
		Clock:            s.clock,
		NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		// A dial to our own address stays here instead of travelling to the
		// server and back with equal source and destination.
		HandleLocal: true,
	})
	if err := s.configure(); err != nil {
		s.net.Destroy()
		return nil, err
	}
	s.wg.Go(s.slowLoop) // ends when done is closed
	return s, nil
}

// congestionControl is CUBIC: gVisor's default is Reno, which is slow on long
// fat paths.
const congestionControl = "cubic"

// configure sets what differs from gVisor's defaults, each with its reason.
func (s *Stack) configure() error {
	congestion := tcpip.CongestionControlOption(congestionControl)
	// SACK: without it one loss costs a round trip per lost segment.
	sack := tcpip.TCPSACKEnabled(true)
	receive, send := s.cfg.Memory.buffers()
	// Moderation is the auto-tuning of the receive buffer.
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	// See ended. Soon reused ports do no harm: the timestamps of a new connection
	// begin beyond those of the last (RFC 6191).
	wait := tcpip.TCPTimeWaitTimeoutOption(endpointTimeWait)
	options := []tcpip.SettableTransportProtocolOption{
		&congestion, &sack, receive, send, &moderate, &wait,
	}
	if runtime.GOOS == "windows" {
		// RACK wants finer timers than Windows has: it sees losses that are
		// none. Elsewhere the default, RACK on, stays: it crawls after a whole
		// window was lost, which resume deals with, and without it an upload
		// with 0.5 % loss is a quarter slower.
		rack := tcpip.TCPRecovery(0)
		options = append(options, &rack)
	}
	for _, o := range options {
		if err := s.net.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("netstack: tcp option %T: %w", o, errnoOf(err))
		}
	}
	// UDP sockets start with 212 KiB; the datagrams of one read from the
	// tunnel's socket can be more, for example of a QUIC download.
	buffers := tcpip.ReceiveBufferSizeOption{Min: stack.MinBufferSize, Default: 1 << 20, Max: 4 << 20}
	if err := s.net.SetOption(buffers); err != nil {
		return fmt.Errorf("netstack: receive buffer: %w", errnoOf(err))
	}
	s.net.SetTransportProtocolHandler(tcp.ProtocolNumber, s.unmatched)
	if !s.cfg.AnswerPing {
		// gVisor answers what no handler has taken.
		take := func(stack.TransportEndpointID, *stack.PacketBuffer) bool { return true }
		s.net.SetTransportProtocolHandler(icmp.ProtocolNumber4, take)
		s.net.SetTransportProtocolHandler(icmp.ProtocolNumber6, take)
	}
	if err := s.net.CreateNIC(nicID, s.link); err != nil {
		return fmt.Errorf("netstack: interface: %w", errnoOf(err))
	}
	return nil
}

// Close ends every connection and listener, wakes whoever waits in a call of
// this package, and returns when no goroutine is left. It always returns nil;
// further calls do nothing.
func (s *Stack) Close() error {
	s.closeOnce.Do(func() {
		// Senders first: they hold endpoint locks while they wait for room.
		s.link.Close()
		close(s.done)
		s.endings.forget()
		s.ended.close()
		s.mu.Lock()
		s.goDown()
		s.mu.Unlock()
		s.wg.Wait()
		for len(s.slow) > 0 {
			(<-s.slow).pkt.DecRef()
		}
		s.net.Destroy()
	})
	return nil
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
