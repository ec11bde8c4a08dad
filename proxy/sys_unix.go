//go:build unix

package proxy

import (
	"net"
	"syscall"
)

// restrictMode sets the mode of a unix socket before it is bound. Linux creates
// the file with it; other systems ignore it or refuse, which is no error here,
// because the caller sets the file's mode too.
func restrictMode(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
}

// rawConn returns the connection's descriptor if reads may go straight to it.
// Only the two types are trusted whose Read does nothing else.
func rawConn(c net.Conn) syscall.RawConn {
	var raw syscall.RawConn
	switch c := c.(type) {
	case *net.TCPConn:
		raw, _ = c.SyscallConn()
	case *net.UnixConn:
		raw, _ = c.SyscallConn()
	}
	return raw
}

// readRaw reads once from a non-blocking descriptor. again: nothing was there.
func readRaw(fd uintptr, b []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(int(fd), b)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, true, nil
		}
		return max(n, 0), false, err
	}
}
