package names

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Config says how a [Server] works. Only Choose is required.
type Config struct {
	// Choose says who is asked for a name, which is fully qualified and in lower
	// case, or is the name of an address below in-addr.arpa or ip6.arpa. It may
	// be called concurrently.
	Choose func(name string) Choice

	// Hosts are names that the server knows itself, in lower case and without
	// the last dot; also the other way round.
	Hosts map[string][]netip.Addr

	// Search are the domains by which names of one label are completed, tried in
	// order before the name as it is.
	Search []string

	// MaxQueries is the number of questions that wait for a server's answer at
	// once; others get SERVFAIL, and so does a client with more than a quarter of
	// so many under way. 0 = 512.
	MaxQueries int

	// CacheSize bounds the cache, in octets. 0 = 4 MiB.
	CacheSize int

	// Logger gets a debug line for each server that failed. nil = none.
	Logger *slog.Logger
}

// Choice says what becomes of a question.
type Choice struct {
	Upstream *Upstream // who is asked; nil if the question is refused
	Refusal  int       // the code of the answer then, such as dns.RcodeRefused
}

// Bounds of what a client can hold open.
const (
	maxTCPClients  = 128
	maxUDPQuery    = 4096
	tcpIdleTimeout = 10 * time.Second
)

// Server answers questions. Its methods may be called concurrently.
type Server struct {
	cfg   Config
	cache *cache
	slots chan struct{} // an element per question that waits for a server's answer

	mu      sync.Mutex
	flights map[key]*flight
	asking  map[netip.AddrPort]int // questions under way, by client
}

// New returns a server, which starts nothing. It panics if cfg.Choose is nil.
func New(cfg Config) *Server {
	if cfg.Choose == nil {
		panic("names: Config.Choose is nil")
	}
	if cfg.MaxQueries == 0 {
		cfg.MaxQueries = 512
	}
	if cfg.CacheSize == 0 {
		cfg.CacheSize = 4 << 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg: cfg, cache: newCache(cfg.CacheSize), slots: make(chan struct{}, cfg.MaxQueries),
		flights: map[key]*flight{}, asking: map[netip.AddrPort]int{},
	}
}

// Serve answers on both sockets until ctx ends, which is no error, or one of
// them fails. It closes both and returns when all is done.
func (s *Server) Serve(ctx context.Context, pc net.PacketConn, l net.Listener) error {
	over, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { s.serve(over, w, q) })
	var wg sync.WaitGroup
	for _, srv := range []*dns.Server{
		{PacketConn: pc, Handler: handler, UDPSize: maxUDPQuery},
		{
			Listener: &clients{Listener: l, max: maxTCPClients}, Handler: handler,
			IdleTimeout: func() time.Duration { return tcpIdleTimeout },
		},
	} {
		begun, ended := make(chan struct{}), make(chan struct{})
		srv.NotifyStartedFunc = func() { close(begun) }
		wg.Go(func() { // ends with its socket
			defer close(ended)
			fail(srv.ActivateAndServe())
		})
		wg.Go(func() { // ends with over, which every end of a server ends
			<-over.Done()
			select {
			case <-begun: // only then Shutdown has an effect
				_ = srv.Shutdown()
			case <-ended:
			}
		})
	}
	wg.Wait()
	pc.Close()
	l.Close()
	if cause := context.Cause(over); ctx.Err() == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return fmt.Errorf("names: %w", cause)
	}
	return nil
}

// serve answers one question.
func (s *Server) serve(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) {
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	m := failure(q, dns.RcodeServerFailure, errBusy)
	if from := sender(w.RemoteAddr()); s.enter(from) {
		m = s.reply(ctx, q, udp)
		s.leave(from)
	}
	wire, err := m.Pack()
	if err != nil { // a server's strange records
		m = failure(q, dns.RcodeServerFailure, err)
		wire, err = m.Pack()
	}
	if err == nil {
		_, err = w.Write(wire)
	}
	if err != nil {
		s.cfg.Logger.Debug("dns answer not sent", "peer", w.RemoteAddr(), "err", err)
	}
}

// reply is the answer to a question, cut to what the client takes.
func (s *Server) reply(ctx context.Context, q *dns.Msg, udp bool) *dns.Msg {
	m := s.answer(ctx, q)
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), maxUDPQuery)
		}
	}
	m.Compress = true
	m.Truncate(size)
	return m
}

// Reasons that are not a server's.
var (
	errBusy     = errors.New("names: too many questions at once")
	errNoServer = errors.New("names: no server to ask")
	errSilent   = errors.New("names: no server answered")
)

// answer is the whole answer to a question.
func (s *Server) answer(ctx context.Context, q *dns.Msg) *dns.Msg {
	if m := refuse(q); m != nil {
		return m
	}
	if m := s.fromHosts(q); m != nil {
		return m
	}
	if m := s.completed(ctx, q); m != nil {
		return m
	}
	return s.resolve(ctx, q)
}

// refuse answers what is no question for a forwarder.
func refuse(q *dns.Msg) *dns.Msg {
	opt := q.IsEdns0()
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return failure(q, dns.RcodeNotImplemented, nil)
	case len(q.Question) != 1:
		return failure(q, dns.RcodeFormatError, nil)
	case opt != nil && opt.Version() != 0: // "MUST respond with RCODE=BADVERS" RFC 6891, section 6.1.3
		return failure(q, dns.RcodeBadVers, nil)
	}
	switch q.Question[0].Qtype {
	case dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB:
		return failure(q, dns.RcodeNotImplemented, nil)
	}
	if q.Question[0].Qclass != dns.ClassINET {
		return failure(q, dns.RcodeRefused, nil)
	}
	return nil
}

// failure is an answer without an answer. Who speaks EDNS is told the reason
// (RFC 8914).
func failure(q *dns.Msg, rcode int, reason error) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, rcode)
	m.RecursionAvailable = true
	opt := q.IsEdns0()
	if opt == nil {
		if rcode > 0xf {
			m.Rcode = dns.RcodeFormatError
		}
		return m
	}
	m.SetEdns0(maxUDPQuery, opt.Do())
	if reason != nil {
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNetworkError, ExtraText: reason.Error()}}
	}
	return m
}
