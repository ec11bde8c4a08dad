//go:build !unix

package proxy

import (
	"errors"
	"net"
	"syscall"
)

// restrictMode does nothing: there is no file mode to set.
func restrictMode(_, _ string, _ syscall.RawConn) error { return nil }

// rawConn returns nil: reads go through the connection's own Read.
func rawConn(net.Conn) syscall.RawConn { return nil }

// readRaw is never called, because rawConn returns nil.
func readRaw(uintptr, []byte) (n int, again bool, err error) {
	return 0, false, errors.ErrUnsupported
}
