package forward

import (
	"context"
	"errors"
	"io"
	"net"
)

// Stdio moves octets between a connection and two streams until both directions
// have ended: in to the connection, whose sending direction is closed at the
// end of in, and from the connection to out, which is closed at the peer's end
// if it has a method for that. With untilPeer the peer's end is the end of all,
// which is what a person at a terminal expects.
//
// It returns nil after an orderly end, the cause when ctx ends first, and
// otherwise the error of whatever failed. It closes the connection, with a reset
// unless the end was orderly, so that the peer does not take a part for the
// whole. A read of in may be left behind, which ends with in.
func Stdio(ctx context.Context, conn net.Conn, in io.Reader, out io.Writer, untilPeer bool) (err error) {
	defer func() {
		if l, ok := conn.(interface{ SetLinger(sec int) error }); ok && err != nil {
			_ = l.SetLinger(0)
		}
		conn.Close()
	}()
	up, down := make(chan error, 1), make(chan error, 1)
	input := &source{Reader: in}
	go func() { up <- sendAll(conn, input) }()    // ends with in, or at its next octet
	go func() { down <- receiveAll(out, conn) }() // ends with the connection
	var failed error
	for range 2 {
		select {
		case failed = <-up:
			if input.err != nil {
				return failed
			}
		case err := <-down:
			if err != nil || failed != nil || untilPeer {
				return errors.Join(failed, err)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return failed
}

// sendAll leaves the connection open when the peer takes no more: there may be
// an answer to receive.
func sendAll(conn net.Conn, in io.Reader) error {
	if _, err := io.Copy(conn, in); err != nil {
		return err
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// source remembers what a reader failed with.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func receiveAll(out io.Writer, conn net.Conn) error {
	if _, err := io.Copy(out, conn); err != nil {
		return err
	}
	if c, ok := out.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
