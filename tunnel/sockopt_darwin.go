package tunnel

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setNotSentLowat makes a socket writable only while less than n octets wait
// in it unsent.
func setNotSentLowat(fd uintptr, n int) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
}

// ackedBy returns nil: this system counts no acknowledged octets.
func ackedBy(syscall.RawConn) func() (linkView, bool) { return nil }
