package proxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
)

// socksBind serves the command BIND, of which FTP's active mode is the use: the
// first reply tells where the proxy listens behind the tunnel, the second who has
// connected (RFC 1928, section 6).
func (s *Server) socksBind(ctx context.Context, c *clientConn, br *bufio.Reader, req socksRequest) {
	if s.cfg.Listen == nil {
		s.refuseSOCKS(c, replyCommandNotSupported, req, errors.ErrUnsupported)
		return
	}
	b, err := watched(ctx, c, br, func(ctx context.Context) (*binding, error) { return s.bind(ctx, req) })
	if err != nil {
		s.refuseSOCKS(c, classify(err).reply, req, err)
		return
	}
	defer b.listener.Close()
	if _, err := c.Write(req.reply(replySucceeded, b.listener.Addr())); err != nil {
		c.Close()
		return
	}
	peer, err := watched(ctx, c, br, func(ctx context.Context) (net.Conn, error) { return s.acceptOne(ctx, b) })
	if err != nil {
		s.refuseSOCKS(c, classify(err).reply, req, err)
		return
	}
	s.grant(c, br, req, peer, peer.RemoteAddr())
}

// binding is a listener behind the tunnel and whom it waits for.
type binding struct {
	listener net.Listener
	peers    []netip.Addr // none: anybody
}

// bind listens for the peer that the client names, or for anybody if it names
// 0.0.0.0 or ::.
func (s *Server) bind(ctx context.Context, req socksRequest) (*binding, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	network := "tcp4"
	peers, named, err := s.peers(ctx, req.host)
	if err != nil {
		return nil, err
	}
	if peers[0].Is6() {
		network = "tcp6"
	}
	if !named && peers[0].IsUnspecified() {
		peers = nil
	}
	l, err := s.cfg.Listen(ctx, network, "")
	if err != nil {
		return nil, &dialError{network, err}
	}
	return &binding{l, peers}, nil
}

// peers are the addresses of a host, which may be a name. One that leads to no
// destination, as name servers say of names they block, does not mean anybody.
func (s *Server) peers(ctx context.Context, host string) (addrs []netip.Addr, named bool, err error) {
	if host, err = canonicalHost(host); err != nil {
		return nil, false, err
	}
	if addrs, err = s.lookupAll(ctx, "ip", host); err != nil {
		return nil, false, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return addrs, false, nil
	}
	return addrs, true, checkAddr(addrs[0])
}

// acceptOne waits for the peer and closes the listener. Others who connect
// meanwhile are sent away.
func (s *Server) acceptOne(ctx context.Context, b *binding) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.BindTimeout)
	defer cancel()
	defer b.listener.Close()
	defer context.AfterFunc(ctx, func() { b.listener.Close() })()
	for {
		peer, err := b.listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				peer.Close()
			}
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, &dialError{b.listener.Addr().String(), err}
		case len(b.peers) == 0 || slices.Contains(b.peers, addrPortOf(peer.RemoteAddr()).Addr()):
			return peer, nil
		}
		s.cfg.Logger.Debug("connection from another than the peer", "bound", b.listener.Addr(), "from", peer.RemoteAddr())
		reset(peer)
		peer.Close()
	}
}
