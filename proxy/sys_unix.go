//go:build unix

package proxy

import (
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerUID returns the user at the other end of a socket file.
func peerUID(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	if cerr := raw.Control(func(fd uintptr) { uid, err = credentialsOf(int(fd)) }); cerr != nil {
		return 0, cerr
	}
	return uid, err
}

// isOwn reports whether a file is this process's user's.
func isOwn(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
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

// packetWaiter returns a function that waits until a read will not have to, or
// until the socket is closed.
func packetWaiter(c *net.UDPConn) (wait func() error, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	fds := make([]unix.PollFd, 1)
	there := func(fd uintptr) bool { // called by the runtime whenever there may be something
		fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		for {
			n, err := unix.Poll(fds, 0)
			if err != unix.EINTR {
				return n > 0 || err != nil // which the read will tell
			}
		}
	}
	return func() error { return raw.Read(there) }, nil
}
