//go:build unix

package main

import "syscall"

// statsSignal makes sstproxy log its state.
const statsSignal = syscall.SIGUSR1

// fileLimit is how many files a process may open; Go raises the soft limit to
// the hard one by itself. 0 means that nobody knows.
func fileLimit() int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(uint64(l.Cur), 1<<30))
}
