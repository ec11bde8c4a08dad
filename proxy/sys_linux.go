package proxy

import (
	"context"
	"io/fs"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindUnix listens on a socket file that has no more than the given mode from
// its first moment: Linux creates the file with the socket's.
func bindUnix(path string, perm fs.FileMode) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if cerr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(perm)) }); cerr != nil {
			return cerr
		}
		return err
	}}
	return lc.Listen(context.Background(), "unix", path)
}

// credentialsOf returns the user at the other end when it connected (unix(7),
// SO_PEERCRED).
func credentialsOf(fd int) (uid uint32, err error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
