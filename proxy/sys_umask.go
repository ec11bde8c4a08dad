//go:build unix && !linux

package proxy

import (
	"io/fs"
	"net"
	"sync"
	"syscall"
)

// umask guards the process's file mode creation mask.
var umask sync.Mutex

// bindUnix listens on a socket file that has the given mode from its first
// moment. The mask is the whole process's, but it only ever takes rights from
// what others create meanwhile.
func bindUnix(path string, perm fs.FileMode) (net.Listener, error) {
	umask.Lock()
	defer umask.Unlock()
	before := syscall.Umask(0o777 &^ int(perm))
	defer syscall.Umask(before)
	return net.Listen("unix", path)
}
