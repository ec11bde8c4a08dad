package tunnel

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptrace"
	"strings"
	"sync"
	"syscall"
	"time"

	"sstproxy/tunnel/sstp"
)

// httpTimeout bounds the wait for the reply to SSTP_DUPLEX_POST; MS-SSTP
// leaves it to the implementation.
const httpTimeout = sstp.ReplyTimeout

// tcpTimeout bounds the wait for a TCP connection: four SYNs. Where packets are
// lost without a word a new attempt is sooner answered than the fifth.
const tcpTimeout = 15 * time.Second

// Dial connects to a server, authenticates and negotiates an address. ctx
// bounds all of it. The error is an [*Error] whose cause is typed: see package
// sstp and package ppp for the ends of a call and a link, and
// [CertificateError] and [BindingError].
//
// The caller must go on with Run or Close.
func Dial(ctx context.Context, cfg Config) (*Session, error) {
	d := &dialer{cfg: cfg, start: time.Now(), mark: time.Now()}
	s, err := d.dial(ctx)
	if err != nil {
		// The cause of a cancelled context says more than "operation was canceled".
		if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		return nil, &Error{Phase: d.phase, Peer: d.peer, Err: err}
	}
	return s, nil
}

// dialer carries Dial through its phases.
type dialer struct {
	cfg   Config
	phase Phase     // the one under way
	start time.Time // of the whole
	mark  time.Time // end of the last phase
	times []any     // of the phases, for the log
	peer  string    // the server's address, once connected
}

// done ends the phase under way and starts the next.
func (d *dialer) done(detail string) {
	now := time.Now()
	d.times = append(d.times, slog.Duration(d.phase.String(), now.Sub(d.mark)))
	if d.cfg.Progress != nil {
		d.cfg.Progress(Progress{Phase: d.phase, Duration: now.Sub(d.mark), Detail: detail})
	}
	d.phase, d.mark = d.phase+1, now
}

func (d *dialer) dial(ctx context.Context) (*Session, error) {
	if err := d.cfg.check(); err != nil {
		return nil, &configError{err}
	}
	address, serverName, err := d.cfg.endpoint()
	if err != nil {
		return nil, &configError{err}
	}
	roots := d.cfg.TLS.loadRoots() // meanwhile, if there is no CA
	raw, err := d.dialTCP(ctx, address)
	if err != nil {
		return nil, err
	}
	s, err := d.call(ctx, newBatchConn(raw), roots, address, serverName)
	if err != nil {
		raw.Close()
		return nil, err
	}
	if err := s.establish(ctx, d); err != nil {
		return nil, err
	}
	s.log.Info("tunnel up", "peer", raw.RemoteAddr(), "family", s.info.Family, "addr", s.info.IPv4.Addr,
		"dns", s.info.IPv4.DNS, "mtu", s.info.MTU, "auth", s.info.Method, "binding", s.info.Hash,
		"tls", tls.VersionName(s.info.TLSVersion), "dur", time.Since(d.start), slog.Group("phases", d.times...))
	return s, nil
}

// dialTCP resolves and connects; the two are told apart by the resolver's trace.
func (d *dialer) dialTCP(ctx context.Context, address string) (net.Conn, error) {
	dial := d.cfg.DialContext
	if dial == nil {
		dial = d.cfg.dialAddresses
	}
	var mu sync.Mutex // the dialer may outlive the call with a second attempt under way
	trace := &httptrace.ClientTrace{DNSDone: func(info httptrace.DNSDoneInfo) {
		mu.Lock()
		defer mu.Unlock()
		if info.Err == nil && d.phase == PhaseResolve {
			d.done(addresses(info.Addrs))
		}
	}}
	raw, err := dial(httptrace.WithClientTrace(ctx, trace), "tcp", address)
	mu.Lock()
	defer mu.Unlock()
	var dnsErr *net.DNSError
	if d.phase == PhaseResolve && !errors.As(err, &dnsErr) {
		d.phase = PhaseTCP // an address: nothing to resolve
	}
	if err != nil {
		return nil, err
	}
	if d.cfg.connected != nil {
		d.cfg.connected <- raw
	}
	d.peer = raw.RemoteAddr().String()
	d.done(d.peer)
	return raw, nil
}

// errAvoided stands for an address that had its turn.
var errAvoided = errors.New("tried last time")

// dialAddresses tries all addresses of the server, as package net does, but the
// one to avoid only if no other can be reached.
func (c Config) dialAddresses(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: tcpTimeout}
	if c.avoid != "" {
		other := *dialer
		other.Control = func(_, address string, _ syscall.RawConn) error {
			if address == c.avoid {
				return errAvoided
			}
			return nil
		}
		if conn, err := other.DialContext(ctx, network, address); err == nil || ctx.Err() != nil {
			return conn, err
		}
	}
	return dialer.DialContext(ctx, network, address)
}

func addresses(addrs []net.IPAddr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, " ")
}

// call speaks TLS and HTTP and returns a session whose call is not started.
func (d *dialer) call(ctx context.Context, raw *batchConn, roots func() *x509.CertPool, address, serverName string) (*Session, error) {
	begun := time.Now()
	conn, err := handshakeTLS(ctx, raw, d.cfg.TLS, roots, serverName)
	if err != nil {
		return nil, err
	}
	rtt := time.Since(begun)
	state := conn.ConnectionState()
	d.done(describeTLS(state))

	host := hostHeader(serverName, address)
	sent := time.Now()
	reply, rest, err := exchange(ctx, conn, host)
	if err != nil {
		return nil, err
	}
	rtt = min(rtt, time.Since(sent))
	d.done(fmt.Sprintf("%d %s", reply.StatusCode, reply.Reason))

	s := newSession(d.cfg, raw, conn, reply.Family(), rest, rtt)
	s.info.Family = reply.Family()
	s.info.RemoteAddr, s.info.RTT = raw.RemoteAddr(), rtt
	s.info.TLSVersion, s.info.CipherSuite = state.Version, state.CipherSuite
	s.info.Certificate = state.PeerCertificates[0]
	return s, nil
}

// hostHeader is the server's name, with the port when it is not HTTPS's own.
func hostHeader(serverName, address string) string {
	_, port, _ := net.SplitHostPort(address)
	if port == "443" {
		return strings.TrimSuffix(net.JoinHostPort(serverName, ""), ":")
	}
	return net.JoinHostPort(serverName, port)
}

// exchange sends the request of [MS-SSTP] 3.2.4.1 and reads its reply. rest is
// what followed the reply in the same read: SSTP octets.
func exchange(ctx context.Context, conn net.Conn, host string) (reply sstp.Reply, rest []byte, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, httpTimeout, ErrHTTPTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	// Nothing may follow the blank line before the 200 is here: sorz and ogital
	// throw it away.
	if _, err = conn.Write(sstp.AppendRequest(nil, host, correlationID())); err != nil {
		return reply, nil, err
	}
	buf, n := make([]byte, 0, 4096), 0
	for {
		reply, n, err = sstp.ParseReply(buf)
		if err != nil {
			return reply, nil, err
		}
		if n > 0 {
			return reply, buf[n:], reply.Err()
		}
		if buf, err = readMore(conn, buf); err != nil {
			return reply, nil, fmt.Errorf("no whole reply to SSTP_DUPLEX_POST: %w", err)
		}
	}
}

// readMore appends what one Read gives.
func readMore(conn net.Conn, buf []byte) ([]byte, error) {
	buf = append(buf, make([]byte, 4096)...)
	room := buf[len(buf)-4096:]
	n, err := conn.Read(room)
	if n > 0 {
		err = nil
	}
	return buf[:len(buf)-4096+n], err
}

// correlationID is a new GUID for each attempt, in braces as Windows writes it.
func correlationID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80
	return strings.ToUpper(fmt.Sprintf("{%x-%x-%x-%x-%x}", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16]))
}
