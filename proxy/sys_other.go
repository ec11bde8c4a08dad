//go:build !unix

package proxy

import (
	"errors"
	"io/fs"
	"net"
	"syscall"
)

// bindUnix listens on a socket file. There is no mode to set: the directory's
// access control list says who may connect.
func bindUnix(path string, _ fs.FileMode) (net.Listener, error) { return net.Listen("unix", path) }

// peerUID tells nothing: there are no such numbers.
func peerUID(*net.UnixConn) (uid uint32, err error) { return 0, errors.ErrUnsupported }

// isOwn takes every file for one of ours: whose it is, the directory decides.
func isOwn(fs.FileInfo) bool { return true }

// rawConn returns nil: reads go through the connection's own Read.
func rawConn(net.Conn) syscall.RawConn { return nil }

// readRaw is never called, because rawConn returns nil.
func readRaw(uintptr, []byte) (n int, again bool, err error) {
	return 0, false, errors.ErrUnsupported
}

// packetWaiter returns a function that waits until a read will not have to, or
// until the socket is closed: after the first look the runtime waits with an
// empty read that leaves the datagram where it is.
func packetWaiter(c *net.UDPConn) (wait func() error, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	return func() error {
		looked := false
		return raw.Read(func(uintptr) bool {
			again := looked
			looked = true
			return again
		})
	}, nil
}
