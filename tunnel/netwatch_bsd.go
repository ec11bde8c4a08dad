//go:build darwin || freebsd

package tunnel

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openNotices opens a socket on which the kernel tells of changes of links,
// addresses and routes (route(4)).
func openNotices() (io.ReadCloser, error) {
	fd, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW, unix.AF_UNSPEC)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return routeNotices{os.NewFile(uintptr(fd), "route")}, nil
}

// routeNotices leaves out what else passes on a routing socket: other programs'
// questions, with their answers, and failed look-ups.
type routeNotices struct{ *os.File }

// Read returns the next message that tells of a change.
func (r routeNotices) Read(b []byte) (int, error) {
	for {
		n, err := r.File.Read(b)
		if err != nil || n < 4 {
			return n, err
		}
		switch b[3] { // rtm_type, ifm_type, ifam_type
		case unix.RTM_ADD, unix.RTM_DELETE, unix.RTM_CHANGE,
			unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_IFINFO:
			return n, nil
		}
	}
}
