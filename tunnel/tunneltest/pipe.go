package tunneltest

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

// Pipe is net.Pipe with RST: one end is for a client, the other for
// [Server.ServeConn], and a reset of the latter is ECONNRESET to the former.
// Like net.Pipe it may live in a testing/synctest bubble, and a FIN ends both
// directions.
func Pipe() (client, server net.Conn) {
	near, far := net.Pipe()
	reset := new(atomic.Bool)
	return &pipeEnd{near, reset}, &pipeEnd{far, reset}
}

type pipeEnd struct {
	net.Conn
	reset *atomic.Bool // shared by both ends
}

// SetLinger announces, with 0, that Close will be a reset.
func (p *pipeEnd) SetLinger(sec int) error {
	p.reset.Store(sec == 0)
	return nil
}

func (p *pipeEnd) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	return n, p.explain("read", err)
}

func (p *pipeEnd) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	return n, p.explain("write", err)
}

func (p *pipeEnd) explain(op string, err error) error {
	if (errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe)) && p.reset.Load() {
		return &net.OpError{Op: op, Net: "pipe", Source: p.LocalAddr(), Addr: p.RemoteAddr(), Err: syscall.ECONNRESET}
	}
	return err
}
