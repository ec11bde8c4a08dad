package proxy

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// DialFunc opens a connection to address, which is HOST:PORT; HOST may be a
// name, and the function looks it up where it should be looked up. The network
// is "tcp". When ctx ends the function must return; ctx does not bound the
// connection it returned. A connection with a CloseWrite method is closed one
// direction at a time.
//
// Which error leads to which reply is told with errors.Is, by the table in
// errors.go. It knows [ErrBlocked], [*DownError], those of package syscall
// (ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, ENETDOWN for "no
// tunnel", …), *net.DNSError, timeouts and [context.DeadlineExceeded]. The
// error's text is shown to HTTP clients.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Config says how a [Server] works. Only Dial is required.
type Config struct {
	Dial DialFunc

	// ListenPacket opens a UDP socket on the network's side, for one client's
	// UDP ASSOCIATE: network is "udp4" or "udp6", address is "", which leaves
	// address and port to the function. As with Dial, it must return when ctx
	// ends, errors count by the table in errors.go, and of a datagram that must
	// not be sent WriteTo returns such an error. Its socket should outlive a
	// change of the inner address; a read that fails with [net.ErrClosed] ends
	// the association. nil: clients are told that there is no such command.
	ListenPacket func(ctx context.Context, network, address string) (net.PacketConn, error)

	// Listen opens a listener on the network's side for BIND: network is "tcp4"
	// or "tcp6", address is "", which is any port of the inner address; that is
	// what the listener's Addr must tell. As ListenPacket otherwise.
	Listen func(ctx context.Context, network, address string) (net.Listener, error)

	// Lookup returns the addresses of a name, the preferred one first; network
	// is "ip" or "ip4". It is for what can't leave the name to Dial: UDP
	// datagrams, BIND and Tor's RESOLVE. nil: none of these with a name.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

	// LookupAddr returns the name of an address, for Tor's RESOLVE_PTR. nil:
	// clients are told that there is no such command.
	LookupAddr func(ctx context.Context, addr netip.Addr) (name string, err error)

	// BindTimeout bounds how long BIND waits for its peer. 0 = 60 s.
	BindTimeout time.Duration

	// MaxAssociations is the number of UDP associations at once, over all
	// listeners. A further one ends the one in which nothing moved for longest.
	// 0 = 1024.
	MaxAssociations int

	// UDPIdleTimeout ends a UDP association in which no datagram moved for so
	// long. 0 = 5 min (RFC 4787, REQ-5).
	UDPIdleTimeout time.Duration

	// User and Password are what clients must show, by RFC 1929 or by Basic
	// authentication. Both empty: clients need nothing. After a wrong guess the
	// client's address has to wait before the next, 4 s in the end.
	User, Password string

	// MaxConns is the number of client connections served at once, over all
	// listeners; further ones wait unserved, one per listener accepted, the
	// others in the kernel's queue. 0 = 16384.
	MaxConns int

	// MaxIdle is the number of client connections without a request under way,
	// be it that the first is not complete or that the last is answered. A
	// further one ends the one that has been idle longest. More than half of
	// MaxConns is taken for that half, so that who says nothing keeps nobody
	// out. 0 = 1024.
	MaxIdle int

	// HandshakeTimeout bounds the time from accepting a connection to its
	// complete SOCKS request or HTTP header. 0 = 30 s.
	HandshakeTimeout time.Duration

	// DialTimeout bounds each call of Dial. 0 = 60 s.
	DialTimeout time.Duration

	// HalfOpenTimeout ends a connection of which one direction has been closed
	// when nothing moved in the other for so long. 0 = 5 min.
	HalfOpenTimeout time.Duration

	// IdleTimeout ends a tunnelled connection when nothing moved in either
	// direction for so long. 0 = never.
	IdleTimeout time.Duration

	// KeepAliveTimeout ends an HTTP client's connection when no further request
	// came for so long, and an unused connection to an HTTP server. 0 = 90 s.
	KeepAliveTimeout time.Duration

	// Files are what the proxy serves itself, by path, to requests in
	// origin-form that name the proxy by its address and that no page in a
	// browser can have sent.
	Files map[string]File

	// ConnsChanged, if set, is called with 1 when a client's connection has been
	// accepted and with -1 when it has been closed, by several goroutines at
	// once. It must not block.
	ConnsChanged func(by int)

	// Logger gets one debug line per failed request, and info about clients
	// with wrong credentials. nil = none.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.MaxConns == 0 {
		c.MaxConns = 16384
	}
	if c.MaxIdle == 0 {
		c.MaxIdle = 1024
	}
	if c.MaxAssociations == 0 {
		c.MaxAssociations = 1024
	}
	c.MaxIdle = max(min(c.MaxIdle, c.MaxConns/2), 1)
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.HandshakeTimeout, 30*time.Second)
	def(&c.DialTimeout, 60*time.Second)
	def(&c.HalfOpenTimeout, 5*time.Minute)
	def(&c.KeepAliveTimeout, 90*time.Second)
	def(&c.BindTimeout, 60*time.Second)
	def(&c.UDPIdleTimeout, 5*time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.ConnsChanged == nil {
		c.ConnsChanged = func(int) {}
	}
	return c
}

// Server serves proxy clients. Its methods may be called concurrently.
type Server struct {
	cfg       Config
	gate      *gate
	http      *http.Server
	transport *http.Transport // to HTTP servers, shared by all clients
	handoff   *handoff        // where http gets its connections from
	errorLog  *log.Logger     // of the libraries below
	slots     chan struct{}   // one element per client connection
	closing   chan struct{}   // closed when Shutdown begins
	readers   sync.Pool       // *bufio.Reader, for the first octets of a connection
	buffers   sync.Pool       // *relayBuffer
	small     sync.Pool       // *smallBuffer
	udp       datagramCounters
	crew      *crew // who shakes hands and relays

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*clientConn]struct{}
	assocs    map[*association]struct{}
	idle      list.List     // of the *clientConn that are not busy, the longest idle first
	jobs      int           // goroutines and handlers running
	quiet     chan struct{} // if not nil: closed when neither is left
}

// New returns a server. It listens nowhere and starts nothing before
// [Server.Serve]. It panics if cfg.Dial is nil.
func New(cfg Config) *Server {
	if cfg.Dial == nil {
		panic("proxy: Config.Dial is nil")
	}
	cfg = cfg.withDefaults()
	s := &Server{
		cfg:       cfg,
		gate:      newGate(credentials{cfg.User, cfg.Password}),
		errorLog:  slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		slots:     make(chan struct{}, cfg.MaxConns),
		closing:   make(chan struct{}),
		handoff:   newHandoff(),
		listeners: map[net.Listener]struct{}{},
		conns:     map[*clientConn]struct{}{},
		assocs:    map[*association]struct{}{},
	}
	s.crew = newCrew(s.closing)
	s.transport = s.newTransport()
	s.http = s.newHTTPServer()
	return s
}

// CloseIdle closes the connections to HTTP servers that wait for a request. Who
// knows that they lead nowhere now calls it: the next request then dials, and
// its client is told what that says.
func (s *Server) CloseIdle() { s.transport.CloseIdleConnections() }

// Serve accepts connections on l and serves each in its own goroutines, until
// Shutdown, when it returns [ErrClosed], or until l fails for good. Shortages
// such as EMFILE are waited out. It closes l.
func (s *Server) Serve(l net.Listener, m Mode) error {
	return s.accept(l, func(c *clientConn) { s.serve(c, m) })
}

// accept is Serve with something to do for each connection, in its own
// goroutine.
func (s *Server) accept(l net.Listener, serve func(*clientConn)) error {
	defer l.Close()
	if !s.addListener(l) {
		return ErrClosed
	}
	defer s.removeListener(l)
	var pause time.Duration
	for {
		c, err := l.Accept()
		if err == nil {
			pause = 0
			if err := s.admit(c, serve); err != nil {
				return err
			}
			continue
		}
		if s.isClosing() {
			return ErrClosed
		}
		if _, ok := errors.AsType[*strangerError](err); ok {
			s.cfg.Logger.Warn("connection refused", "err", err)
			continue
		}
		if !passes(err) {
			return fmt.Errorf("proxy: accept: %w", err)
		}
		if anyOf(syscall.EMFILE, syscall.ENFILE)(err) {
			s.dropIdle(0)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.cfg.Logger.Warn("accept failed", "err", err, "retry", pause)
		s.wait(pause)
	}
}

// passes reports whether an error of Accept is about this moment or one
// connection and not about the listener.
func passes(err error) bool {
	if t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err); ok && t.Temporary() {
		return true
	}
	return anyOf(syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM, syscall.EPROTO)(err)
}

// wait pauses the accept loop; Shutdown ends it early.
func (s *Server) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.closing:
	}
}

// admit waits for a free slot and starts to serve the connection.
func (s *Server) admit(c net.Conn, serve func(*clientConn)) error {
	select {
	case s.slots <- struct{}{}:
	case <-s.closing:
		c.Close()
		return ErrClosed
	}
	s.cfg.ConnsChanged(1)
	s.dropIdle(s.cfg.MaxIdle - 1)
	cc := &clientConn{Conn: c, srv: s}
	if !s.add(cc) {
		cc.Close()
		return ErrClosed
	}
	s.crew.do(func() { // ends with the connection, or when the relay or net/http has taken it over
		defer s.leave()
		serve(cc)
	})
	return nil
}

// Shutdown closes the listeners, drops the connections on which no request is
// under way, and waits for the others. When ctx ends first it cancels what is
// being dialled and resets what is left; it then returns ctx's error. When it
// returns, all goroutines of the server have ended or are about to return.
// The server can't be used again.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.beginShutdown() {
		c.Close()
	}
	s.http.SetKeepAlivesEnabled(false)
	err := s.drained(ctx)
	if err != nil {
		for _, c := range s.open() {
			c.abort()
		}
		s.transport.CloseIdleConnections()
		_ = s.drained(context.Background())
	}
	s.handoff.Close()
	s.handoff.wait()
	s.transport.CloseIdleConnections()
	return err
}

// beginShutdown closes the listeners and returns the idle connections.
func (s *Server) beginShutdown() (idle []*clientConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isClosing() {
		close(s.closing)
	}
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		if !c.busy {
			idle = append(idle, c)
		}
	}
	return idle
}

func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// drained waits until no connection, handler or goroutine is left.
func (s *Server) drained(ctx context.Context) error {
	s.mu.Lock()
	if s.jobs == 0 && len(s.conns) == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.quiet == nil {
		s.quiet = make(chan struct{})
	}
	quiet := s.quiet
	s.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle wakes drained. The caller holds the mutex.
func (s *Server) settle() {
	if s.jobs == 0 && len(s.conns) == 0 && s.quiet != nil {
		close(s.quiet)
		s.quiet = nil
	}
}

// enter counts a goroutine or handler that Shutdown waits for.
func (s *Server) enter() {
	s.mu.Lock()
	s.jobs++
	s.mu.Unlock()
}

func (s *Server) leave() {
	s.mu.Lock()
	s.jobs--
	s.settle()
	s.mu.Unlock()
}

// add registers a connection and counts its goroutine, unless Shutdown has begun.
func (s *Server) add(c *clientConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	s.noteBusy(c, false)
	if s.isClosing() {
		return false
	}
	s.jobs++
	return true
}

// noteBusy keeps the list of idle connections. The caller holds the mutex.
func (s *Server) noteBusy(c *clientConn, busy bool) {
	c.busy = busy
	if c.idle != nil {
		s.idle.Remove(c.idle)
		c.idle = nil
	}
	if !busy {
		c.idle = s.idle.PushBack(c)
	}
}

// dropIdle closes the connection that has been idle longest, if more than so
// many are idle.
func (s *Server) dropIdle(keep int) {
	s.mu.Lock()
	var c *clientConn
	if s.idle.Len() > keep {
		c = s.idle.Front().Value.(*clientConn)
	}
	s.mu.Unlock()
	if c != nil {
		s.cfg.Logger.Debug("idle connection dropped for a new one", "peer", c.RemoteAddr())
		c.Close()
	}
}

// cancel marks a connection as closed and ends what is done for it.
func (s *Server) cancel(c *clientConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.closed = true
	if c.cancel != nil {
		c.cancel(nil)
	}
}

func (s *Server) remove(c *clientConn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.noteBusy(c, true) // no more in the list
	s.settle()
	s.mu.Unlock()
	s.cfg.ConnsChanged(-1)
	<-s.slots
}

func (s *Server) open() (conns []*clientConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[l] = struct{}{}
	return !s.isClosing()
}

func (s *Server) removeListener(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}
