//go:build unix

package main

import "syscall"

// statsSignal makes sstproxy log its state.
const statsSignal = syscall.SIGUSR1
