//go:build !linux && !darwin

package tunnel

import "syscall"

// setNotSentLowat does nothing: this system has no such option, and the size
// of a batch alone keeps the queue short.
func setNotSentLowat(uintptr, int) error { return nil }

// ackedBy returns nil: this system counts no acknowledged octets.
func ackedBy(syscall.RawConn) func() (linkView, bool) { return nil }
