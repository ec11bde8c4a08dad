package proxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/armon/go-socks5"
)

// Versions, and commands of RFC 1928, section 4.
const (
	socksVersion4 = 4
	socksVersion5 = 5

	commandConnect      = socks5.ConnectCommand
	commandBind         = socks5.BindCommand
	commandUDPAssociate = socks5.AssociateCommand
)

// socksRequest is what a client asked for, as it asked.
type socksRequest struct {
	version byte // of SOCKS
	command byte
	host    string // a name or an address
	port    int
}

func (r socksRequest) address() string { return net.JoinHostPort(r.host, strconv.Itoa(r.port)) }

// reply is a reply to the request, in its version's form.
func (r socksRequest) reply(code byte, bound net.Addr) []byte {
	if r.version == socksVersion4 {
		return appendReply4(nil, code, bound)
	}
	return appendReply(nil, code, bound)
}

// serveSOCKS serves one connection whose first octet says SOCKS.
func (s *Server) serveSOCKS(c *clientConn, br *bufio.Reader) {
	req, err := s.readSOCKS(c, br)
	if err != nil {
		s.cfg.Logger.Debug("socks handshake", "peer", c.RemoteAddr(), "err", err)
		c.linger()
		return
	}
	c.SetDeadline(time.Time{})
	c.setBusy(true)
	ctx := c.bind(context.Background())
	switch {
	case req.command == commandConnect:
		s.socksConnect(ctx, c, br, req)
	case req.command == commandBind:
		s.socksBind(ctx, c, br, req)
	case req.command == commandResolve:
		s.socksResolve(ctx, c, br, req)
	case req.command == commandUDPAssociate && req.version == socksVersion5:
		s.socksAssociate(ctx, c, br, req)
	case req.command == commandResolvePTR && req.version == socksVersion5:
		s.socksResolvePTR(ctx, c, br, req)
	default:
		s.refuseSOCKS(c, replyCommandNotSupported, req, errors.ErrUnsupported)
	}
}

// readSOCKS reads everything up to and including the request, in the version
// that the first octet says. On an error all that the client needs to be told
// has been sent.
func (s *Server) readSOCKS(c *clientConn, br *bufio.Reader) (socksRequest, error) {
	if first, err := br.Peek(1); err != nil || first[0] == socksVersion5 {
		return s.readSOCKS5(c, br)
	}
	req, err := readSOCKS4(br)
	if err == nil && s.gate.creds.required() {
		err = errNoLogin
	}
	if err == errNoLogin || err == errLongField {
		_, _ = c.Write(appendReply4(nil, replyNotAllowed, nil))
	}
	return req, err
}

// errNoLogin refuses a client of SOCKS4 where credentials are asked for.
var errNoLogin = errors.New("proxy: socks4 has no password; use SOCKS5 or HTTP")

// socksConnect serves the command CONNECT.
func (s *Server) socksConnect(ctx context.Context, c *clientConn, br *bufio.Reader, req socksRequest) {
	host, err := canonicalHost(req.host)
	if err != nil {
		s.refuseSOCKS(c, classify(err).reply, req, err)
		return
	}
	req.host = host
	target, err := s.dialWatched(ctx, c, br, req.address())
	if err != nil {
		s.refuseSOCKS(c, classify(err).reply, req, err)
		return
	}
	s.grant(c, br, req, target, target.LocalAddr())
}

// grant tells the client that it has its connection, with the address to name in
// the reply, and begins to relay.
func (s *Server) grant(c *clientConn, br *bufio.Reader, req socksRequest, target net.Conn, bound net.Addr) {
	if _, err := c.Write(req.reply(replySucceeded, bound)); err != nil {
		target.Close()
		c.Close()
		return
	}
	s.startRelay(c, target, buffered(br))
}

// dialWatched dials, and gives up when the client goes away meanwhile.
func (s *Server) dialWatched(ctx context.Context, c *clientConn, br *bufio.Reader, address string) (net.Conn, error) {
	return watched(ctx, c, br, func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, address) })
}

// watched does something for a client that waits for it. When the client goes
// away the context, which is the client's (see bind), ends with errClientGone as
// its cause.
func watched[T any](ctx context.Context, c *clientConn, br *bufio.Reader, do func(context.Context) (T, error)) (T, error) {
	return unlessGone(ctx, c, func() bool { return clientGone(br) }, do)
}

// watchAfter is how long something is done for a client before anybody looks
// whether that is still there. Most is done by then, without a goroutine and a read
// for it. Who leaves earlier is noticed by the relay.
const watchAfter = 50 * time.Millisecond

// unlessGone is watched with another way to find out: gone reads from the client
// until it knows that it has left, or is stopped by a read deadline.
func unlessGone[T any](ctx context.Context, c *clientConn, gone func() bool, do func(context.Context) (T, error)) (T, error) {
	var watching sync.WaitGroup
	watching.Add(1)
	watch := time.AfterFunc(watchAfter, func() { // ends with the client, or with the deadline set below
		defer watching.Done()
		if gone() {
			c.left()
		}
	})
	result, err := do(ctx)
	if !watch.Stop() {
		c.SetReadDeadline(time.Unix(1, 0))
		watching.Wait()
		c.SetReadDeadline(time.Time{})
	}
	return result, err
}

// clientGone reads ahead until it knows that the client has left. A client that
// sent data ahead of the reply and then closed its sending direction has not.
func clientGone(br *bufio.Reader) bool {
	err := readAhead(br)
	if err == io.EOF {
		return br.Buffered() == 0
	}
	return err != nil
}

// readAhead reads until the client sends no more, which is an error, or there is
// no more room, or a read deadline stops it.
func readAhead(br *bufio.Reader) error {
	for {
		_, err := br.Peek(br.Buffered() + 1)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) || isTimeout(err):
			return nil
		case err != nil:
			return err
		}
	}
}

// refuseSOCKS sends a reply that ends the connection.
func (s *Server) refuseSOCKS(c *clientConn, code byte, req socksRequest, err error) {
	s.cfg.Logger.Debug("socks request failed", "peer", c.RemoteAddr(), "command", req.command,
		"dst", req.address(), "reply", code, "err", err)
	c.last(req.reply(code, nil))
}

// appendReply appends a reply (RFC 1928, section 6) with the bound address, or
// with 0.0.0.0:0 if that is not an IP address and port.
func appendReply(b []byte, code byte, bound net.Addr) []byte {
	return appendAddress(append(b, socksVersion5, code, 0), addrPortOf(bound))
}

// addrPortOf returns an address in canonical form, or 0.0.0.0:0 if it is not an
// IP address and port.
func addrPortOf(a net.Addr) netip.AddrPort {
	if a != nil {
		if p, err := netip.ParseAddrPort(a.String()); err == nil {
			return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
		}
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
}

// Address types of RFC 1928, section 5.
const atypIPv4, atypName, atypIPv6 = 1, 3, 4

// appendAddress appends address type, address and port. The address has no zone
// and is not IPv4 inside IPv6.
func appendAddress(b []byte, ap netip.AddrPort) []byte {
	if ap.Addr().Is6() {
		a := ap.Addr().As16()
		b = append(append(b, atypIPv6), a[:]...)
	} else {
		a := ap.Addr().As4()
		b = append(append(b, atypIPv4), a[:]...)
	}
	return binary.BigEndian.AppendUint16(b, ap.Port())
}

// readSOCKS5 is readSOCKS for SOCKS5. What is read and how it is understood is
// go-socks5's business but for the choice of a method, and an address type that
// the library knows no more of than that it is none.
func (s *Server) readSOCKS5(c *clientConn, br *bufio.Reader) (socksRequest, error) {
	err := s.authenticate(c, br)
	if err != nil {
		return socksRequest{}, fmt.Errorf("proxy: socks5: %w", err)
	}
	if head, err := br.Peek(4); err == nil && head[0] == socksVersion5 && !knownATYP(head[3]) {
		_, _ = c.Write(appendReply(nil, replyAddrTypeNotSupported, nil))
		return socksRequest{}, fmt.Errorf("proxy: socks5: address type %#x", head[3])
	}
	r, err := socks5.NewRequest(br)
	if err != nil {
		return socksRequest{}, fmt.Errorf("proxy: socks5: %w", err)
	}
	req := socksRequest{version: socksVersion5, command: r.Command, host: r.DestAddr.FQDN, port: r.DestAddr.Port}
	if len(r.DestAddr.IP) > 0 {
		req.host = r.DestAddr.IP.String()
	}
	return req, nil
}

func knownATYP(b byte) bool { return b == atypIPv4 || b == atypName || b == atypIPv6 }

// noAcceptableMethods ends a connection (RFC 1928, section 3).
const noAcceptableMethods = 0xFF

// authenticate picks the first of the client's methods that will do, and does
// what it asks for (RFC 1928, section 3). User and password always will: some
// clients offer nothing else.
func (s *Server) authenticate(c *clientConn, br *bufio.Reader) error {
	var head [2]byte // VER, NMETHODS
	if _, err := io.ReadFull(br, head[:]); err != nil {
		return err
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(br, methods); err != nil {
		return err
	}
	for _, m := range methods {
		var method socks5.Authenticator
		switch {
		case m == socks5.UserPassAuth:
			method = socks5.UserPassAuthenticator{Credentials: socksLogin{s, c}}
		case m == socks5.NoAuth && !s.gate.creds.required():
			method = socks5.NoAuthAuthenticator{}
		default:
			continue
		}
		_, err := method.Authenticate(br, c)
		return err
	}
	_, _ = c.Write([]byte{socksVersion5, noAcceptableMethods})
	return socks5.NoSupportedAuth
}

// socksLogin is how a client logs in.
type socksLogin struct {
	srv *Server
	c   *clientConn
}

// Valid implements socks5.CredentialStore.
func (l socksLogin) Valid(user, password string) bool {
	return l.srv.login(l.c.bind(context.Background()), l.c, user, password)
}
