package forward

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Socket is an unconnected UDP socket: a *net.UDPConn, or one inside the tunnel.
type Socket interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	Close() error
}

// UDP relays datagrams between the clients of one socket and one destination.
// Each client, which is an address and port, has a connected socket of its own
// to the destination, so that answers find their way back. Only Dial is
// required.
type UDP struct {
	// Dial opens a connected UDP socket to the destination.
	Dial func(context.Context) (net.Conn, error)

	// MaxClients is the number of clients served at once; a further one takes
	// the place of the one that has sent nothing for longest. 0 = 512.
	MaxClients int

	// IdleTimeout ends a client's socket when nothing moved in either direction
	// for so long. 0 = 2 min, the least that RFC 4787 §4.3 allows a NAT.
	IdleTimeout time.Duration

	// Logger gets a warning for each client whose socket could not be opened.
	// nil = none.
	Logger *slog.Logger
}

const (
	// maxDatagram is the largest UDP payload, in octets.
	maxDatagram = 65507
	// maxPending is how many datagrams of a client wait while its socket is
	// being opened. More are dropped.
	maxPending = 16
	// maxWaiting is how many octets of them wait, of all clients together: who
	// makes up addresses is as many clients as he likes.
	maxWaiting = 4 << 20
)

// Serve relays until ctx ends, which is no error, or until the socket fails. It
// closes the socket. When it returns, no goroutine of it is left. It may be
// called for several sockets.
func (u *UDP) Serve(ctx context.Context, socket Socket) error {
	s := &udpServer{socket: socket, flows: map[netip.AddrPort]*flow{}, UDP: *u}
	if s.MaxClients == 0 {
		s.MaxClients = 512
	}
	if s.IdleTimeout == 0 {
		s.IdleTimeout = 2 * time.Minute
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer s.wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	defer stop()
	err := s.read(ctx)
	socket.Close()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("forward: %w", err)
}

// udpServer is one call of Serve.
type udpServer struct {
	UDP
	socket Socket
	wg     sync.WaitGroup // one per flow

	waiting atomic.Int64 // octets, of all flows

	mu    sync.Mutex
	flows map[netip.AddrPort]*flow
	order list.List // of *flow; the one that has sent nothing for longest first
}

// flow is one client and the socket it has to the destination.
type flow struct {
	client netip.AddrPort
	cancel context.CancelFunc
	place  *list.Element
	moved  atomic.Int64 // when something moved last, as UnixNano

	mu      sync.Mutex
	conn    net.Conn // nil until it is open
	pending [][]byte // until then
	over    bool     // nothing more can be pending
}

// read takes datagrams from the socket until it fails.
func (s *udpServer) read(ctx context.Context) error {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := s.socket.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil:
			s.send(s.flow(ctx, from), buf[:n])
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EMSGSIZE):
			// About an answer that was sent, or one datagram. (Windows.)
		default:
			return err
		}
	}
}

// flow returns the flow of a client, a new one if need be.
func (s *udpServer) flow(ctx context.Context, from netip.AddrPort) *flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.flows[from]; ok {
		s.order.MoveToBack(f.place)
		return f
	}
	if len(s.flows) >= s.MaxClients {
		s.drop(s.order.Front().Value.(*flow))
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &flow{client: from, cancel: cancel}
	f.touch()
	f.place = s.order.PushBack(f)
	s.flows[from] = f
	s.wg.Go(func() { // ends with ctx, or when the flow has been idle
		defer s.forget(f)
		s.serve(ctx, f)
	})
	return f
}

func (s *udpServer) forget(f *flow) {
	f.mu.Lock()
	s.takePending(f)
	f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(f)
}

// takePending returns what waits for the flow's socket; nothing waits any more.
// The caller holds the flow's mutex.
func (s *udpServer) takePending(f *flow) (pending [][]byte) {
	pending, f.pending, f.over = f.pending, nil, true
	for _, b := range pending {
		s.waiting.Add(-int64(len(b)))
	}
	return pending
}

// drop ends a flow. The caller holds the mutex.
func (s *udpServer) drop(f *flow) {
	f.cancel()
	if s.flows[f.client] == f {
		delete(s.flows, f.client)
		s.order.Remove(f.place)
	}
}

// serve opens the flow's socket and takes answers from it. When the socket
// fails, the client's next datagram begins a new flow.
func (s *udpServer) serve(ctx context.Context, f *flow) {
	conn, err := s.Dial(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.Logger.Warn("forward failed", "client", f.client.String(), "err", err)
		}
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s.open(f, conn)
	buf := make([]byte, maxDatagram)
	for {
		n, err := f.receive(buf, s.IdleTimeout)
		if err != nil {
			return
		}
		_, _ = s.socket.WriteToUDPAddrPort(buf[:n], f.client) // lost, as datagrams are
	}
}

// send passes a datagram of the client on, or keeps a copy of it while the
// socket is being opened.
func (s *udpServer) send(f *flow, b []byte) {
	f.touch()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.conn != nil:
		_, _ = f.conn.Write(b) // lost, as datagrams are
	case !f.over && len(f.pending) < maxPending && s.waiting.Load()+int64(len(b)) <= maxWaiting:
		s.waiting.Add(int64(len(b)))
		f.pending = append(f.pending, append([]byte(nil), b...))
	}
}

// open sends what has been waiting for the socket.
func (s *udpServer) open(f *flow, conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range s.takePending(f) {
		_, _ = conn.Write(b) // lost, as datagrams are
	}
	f.conn = conn
}

// receive reads an answer, and fails when nothing moved for so long.
func (f *flow) receive(b []byte, idle time.Duration) (int, error) {
	for {
		until := time.Unix(0, f.moved.Load()).Add(idle)
		if err := f.conn.SetReadDeadline(until); err != nil {
			return 0, err
		}
		n, err := f.conn.Read(b)
		if err == nil {
			f.touch()
			return n, nil
		}
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() || time.Unix(0, f.moved.Load()).Add(idle).Equal(until) {
			return 0, err
		}
	}
}

func (f *flow) touch() { f.moved.Store(time.Now().UnixNano()) }
