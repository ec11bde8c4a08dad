package tunneltest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// Config says whom the server admits and what it gives them. Users is all that
// most callers set.
type Config struct {
	// Users maps names to passwords, both UTF-8. A name with a domain,
	// "DOMAIN\user", that is not in the map is looked up as "user" too.
	Users map[string]string
	// Methods are the authentication methods offered, in this order; nil means
	// those of Quirks, and if there are none MS-CHAPv2 alone.
	Methods []Method
	// Pool is where clients' addresses come from; zero means 10.66.0.0/16.
	Pool netip.Prefix
	// Gateway is the server's address in the tunnel; zero means the first of
	// Pool.
	Gateway netip.Addr
	// Sticky gives a user the address it had last, if that is free.
	Sticky bool
	// MaxSessions is how many sessions one user may have at a time; 0 means
	// any number. One more is refused like a wrong password, in MS-CHAPv2 with
	// the E= code BusyCode, where 0 means 691, as if it were one.
	MaxSessions, BusyCode int
	// EndsOldest makes a session beyond MaxSessions end the user's oldest one,
	// by Call Disconnect, instead of being refused.
	EndsOldest bool
	// Script is what happens to every connection, as by [Line.Script].
	Script []Step
	// DNS are up to two servers for the client; nil refuses the options.
	DNS []netip.Addr
	// IPv6 negotiates IPV6CP; without it the protocol is rejected.
	IPv6 bool
	// Certificate is the server's; nil means one made anew as [GoodLeaf] says,
	// under an authority of its own. The first of the chain is what the crypto
	// binding covers.
	Certificate *tls.Certificate
	// TLS, if not nil, is where versions and cipher suites come from. Its
	// certificates are not used.
	TLS *tls.Config
	// Quirks are the ways of a particular server; zero means none.
	Quirks Quirks
	// Attach is called when a session's IPCP has opened and says where its IP
	// packets go; nil drops them. It runs once per session, on the session's
	// loop.
	Attach func(Client) Network
	// Hook, if not nil, is called on the session's loop with every event,
	// and with EventSending and EventReceived for every HTTP reply, SSTP
	// control packet and PPP control frame. With these two, true means that
	// the hook has taken the packet: it is not sent, or treated as if it had
	// not come. The hook may call every method of Conn; what it sends goes out
	// at once and is not shown to it again.
	Hook func(*Conn, Event) bool
	// Logger gets one line per control packet at level Debug; nil means none.
	Logger *slog.Logger
}

// Client is a session whose IPCP has opened.
type Client struct {
	// Conn is the session.
	Conn *Conn
	// User is the name the client gave.
	User string
	// Addr is the client's address, Gateway the server's.
	Addr, Gateway netip.Addr
	// MTU is the largest IP packet in octets that the client takes.
	MTU int
}

// Network is where the IP packets of one session come from and go to. Its
// functions must not wait for each other: Deliver may wait for room, but never
// for Fill to be called, or both directions stop.
type Network struct {
	// Deliver takes IP packets from the client. The slices are borrowed until
	// it returns; one goroutine calls it. Nil drops them.
	Deliver func(batch [][]byte)
	// Ready is signalled, without blocking, when Fill may have something;
	// capacity 1 is right.
	Ready <-chan struct{}
	// Fill never blocks. It fills b with as many whole frames as fit, each of
	// them [Headroom] octets written by [PutHeader] and an IP packet, and
	// returns how many octets that was; 0 means that nothing waits. One
	// goroutine calls it.
	Fill func(b []byte) int
	// Detach, if not nil, is called when the session has ended, after the last
	// call of the others.
	Detach func()
}

// ErrServerClosed is returned by [Server.Serve] after [Server.Close].
var ErrServerClosed = errors.New("tunneltest: server closed")

// Server serves SSTP. Its methods are safe for concurrent use.
type Server struct {
	cfg         Config
	methods     []Method
	certificate *tls.Certificate
	ca          []byte
	tls         *tls.Config
	log         *eventLog
	line        *Line

	mu        sync.Mutex
	closed    bool
	listeners []net.Listener
	conns     map[*Conn]bool
	pool      *pool              // of the next connection
	users     map[string][]*Conn // who is logged in, oldest first
	wg        sync.WaitGroup
}

// NewServer checks the configuration and makes a server. It listens nowhere
// yet: use [Server.Serve] or [Server.ServeConn].
func NewServer(cfg Config) (*Server, error) {
	s := &Server{
		cfg: cfg, log: newEventLog(), line: newLine(), conns: make(map[*Conn]bool), users: make(map[string][]*Conn),
	}
	s.line.Script(cfg.Script...)
	if s.cfg.Logger == nil {
		s.cfg.Logger = slog.New(slog.DiscardHandler)
	}
	for _, methods := range [][]Method{{MSCHAPv2}, cfg.Quirks.Auth.Methods, cfg.Methods} {
		if methods != nil {
			s.methods = methods
		}
	}
	if len(cfg.DNS) > 2 {
		return nil, fmt.Errorf("tunneltest: %d DNS servers, want at most 2", len(cfg.DNS))
	}
	if err := s.SetPool(cfg.Pool, cfg.Gateway); err != nil {
		return nil, err
	}
	return s, s.setCertificate()
}

// SetPool changes where the addresses of clients come from that connect from
// now on, as Pool and Gateway of [Config] do. Addresses already lent stay; who
// had which is forgotten.
func (s *Server) SetPool(prefix netip.Prefix, gateway netip.Addr) error {
	if !prefix.IsValid() {
		prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 66, 0, 0}), 16)
	}
	if !prefix.Addr().Is4() || prefix.Bits() > 30 {
		return fmt.Errorf("tunneltest: pool %v: want an IPv4 prefix of at most 30 bits", prefix)
	}
	if !gateway.IsValid() {
		gateway = prefix.Masked().Addr().Next()
	}
	if !gateway.Is4() {
		return fmt.Errorf("tunneltest: gateway %v: want an IPv4 address", gateway)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool = newPool(prefix, gateway)
	return nil
}

// Line is the server's side of TCP, for faults at run time.
func (s *Server) Line() *Line { return s.line }

func (s *Server) setCertificate() error {
	s.certificate = s.cfg.Certificate
	if s.certificate == nil {
		authority, err := NewAuthority()
		if err != nil {
			return err
		}
		if s.certificate, err = authority.Issue(GoodLeaf()); err != nil {
			return err
		}
	}
	chain := s.certificate.Certificate
	if len(chain) == 0 {
		return errors.New("tunneltest: certificate without a chain")
	}
	s.ca = encodePEM(chain[len(chain)-1])
	s.tls = &tls.Config{}
	if s.cfg.TLS != nil {
		s.tls = s.cfg.TLS.Clone()
	}
	s.tls.Certificates = []tls.Certificate{*s.certificate}
	s.tls.GetCertificate, s.tls.GetConfigForClient = nil, nil
	// The binding is about this session's certificate; nothing is resumed.
	s.tls.SessionTicketsDisabled = true
	// Without this the first 128 KiB go out in records of one segment each.
	s.tls.DynamicRecordSizingDisabled = true
	return nil
}

// Start makes a server that listens on a free port of 127.0.0.1.
func Start(cfg Config) (*Server, error) {
	s, err := NewServer(cfg)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("tunneltest: %w", err)
	}
	listener := s.line.listen(l)
	if !s.listen(listener) {
		return nil, ErrServerClosed
	}
	s.wg.Go(func() { s.accept(listener) }) // ends when Close closes it
	return s, nil
}

// Addr is the address of the first listener, or nil.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.listeners) == 0 {
		return nil
	}
	return s.listeners[0].Addr()
}

// CA returns, as PEM, the certificate a client has to trust: the last of the
// server's chain.
func (s *Server) CA() []byte { return slices.Clone(s.ca) }

// Certificate returns, as DER, the leaf the server shows.
func (s *Server) Certificate() []byte { return slices.Clone(s.certificate.Certificate[0]) }

// Serve accepts connections from l until [Server.Close] and then returns
// [ErrServerClosed]; it closes l. Any other error is the listener's.
func (s *Server) Serve(l net.Listener) error {
	listener := s.line.listen(l)
	if !s.listen(listener) {
		return ErrServerClosed
	}
	return s.accept(listener)
}

func (s *Server) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.Close()
		return false
	}
	s.listeners = append(s.listeners, l)
	return true
}

func (s *Server) accept(l net.Listener) error {
	for {
		nc, err := l.Accept()
		if err != nil {
			l.Close()
			if s.isClosed() {
				return ErrServerClosed
			}
			return fmt.Errorf("tunneltest: accept: %w", err)
		}
		if c, ok := s.open(nc); ok {
			go s.serve(c) // ends with the connection; Close waits for it
		}
	}
}

// ServeConn serves one connection, below TLS, and returns when the session has
// ended. It returns at once if the server is closed, or its [Line] welcomes
// nobody.
func (s *Server) ServeConn(nc net.Conn) {
	if c, ok := s.open(nc); ok {
		s.serve(c)
	}
}

func (s *Server) open(nc net.Conn) (*Conn, bool) {
	wire, ok := s.line.admit(nc)
	if !ok {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		wire.Close()
		return nil, false
	}
	c := newConn(s, wire)
	s.conns[c] = true
	s.wg.Add(1)
	return c, true
}

func (s *Server) serve(c *Conn) {
	defer s.wg.Done()
	c.serve()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Sessions returns the connections that have not ended, in no order.
func (s *Server) Sessions() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Close ends the listeners and kills every session, and waits until all is
// gone. For an orderly end call [Conn.Disconnect] on the sessions first.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.Kill()
	}
	s.mu.Unlock()
	s.wg.Wait()
	s.line.close()
	return nil
}

// Events returns what has happened on all connections, oldest first. Of a
// server that has run for long only the last few thousand are kept.
func (s *Server) Events() []Event { return s.log.all() }

// Count returns how many events of a kind there have been on all connections.
func (s *Server) Count(k EventKind) int { return s.log.count(k) }

// Wait returns the first event of a kind as soon as there is one, at once if
// it has already been. The error is the context's.
func (s *Server) Wait(ctx context.Context, k EventKind) (Event, error) {
	e, err := s.log.wait(ctx, func(e Event) bool { return e.Kind == k })
	if err != nil {
		return e, fmt.Errorf("tunneltest: waiting for %v: %w", k, err)
	}
	return e, nil
}

// WaitCount waits until there have been n events of a kind. The error is the
// context's.
func (s *Server) WaitCount(ctx context.Context, k EventKind, n int) error {
	if err := s.log.waitCount(ctx, k, n); err != nil {
		return fmt.Errorf("tunneltest: waiting for %d times %v: %w", n, k, err)
	}
	return nil
}

// WaitFunc returns the first kept event that match accepts, as soon as there
// is one. match must not call the server. The error is the context's.
func (s *Server) WaitFunc(ctx context.Context, match func(Event) bool) (Event, error) {
	return s.log.wait(ctx, match)
}
