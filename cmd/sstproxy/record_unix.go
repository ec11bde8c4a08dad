//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// checkPrivate finds a file that is another user's or that others can read or
// write.
func checkPrivate(info os.FileInfo) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return errors.New("the file belongs to another user")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("the file has mode %04o, so that others can read or write it: chmod 600 or remove it", mode)
	}
	return nil
}
