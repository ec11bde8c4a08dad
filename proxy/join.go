package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
)

// Join accepts connections on l and joins each with the one that dial opens for
// it, until Shutdown or until l fails for good, as [Server.Serve] does. Ends,
// half-closes and resets pass in both directions. When dial fails, which is
// logged as a warning because there is nobody else to tell, the accepted
// connection is reset. Config.DialTimeout bounds dial, and its ctx ends when the
// client resets its connection before it has ended its direction. It closes l.
//
// Nobody has to log in, and Config.Dial is not used: dial may lead into the
// tunnel, or out of it for a listener that is inside.
func (s *Server) Join(l net.Listener, dial func(context.Context) (net.Conn, error)) error {
	return s.accept(l, func(c *clientConn) { s.join(c, dial) })
}

func (s *Server) join(c *clientConn, dial func(context.Context) (net.Conn, error)) {
	c.setBusy(true)
	br := s.reader(c)
	defer s.putReader(br)
	ctx := c.bind(context.Background())
	target, err := unlessGone(ctx, c, func() bool { return clientReset(br) }, func(ctx context.Context) (net.Conn, error) {
		return s.within(ctx, dial)
	})
	if err != nil {
		if !errors.Is(err, errClientGone) && ctx.Err() == nil {
			s.cfg.Logger.Warn("forward failed", "listen", c.LocalAddr().String(), "cause", Reason(err), "err", err)
		}
		c.abort()
		return
	}
	s.startRelay(c, target, buffered(br))
}

// clientReset is clientGone for a client that sends no request: it may have
// closed its direction at once and wait for what the other end says.
func clientReset(br *bufio.Reader) bool {
	err := readAhead(br)
	return err != nil && err != io.EOF
}
