//go:build !unix

package main

// watchState does nothing: this system has no SIGUSR1.
func watchState(func()) (stop func()) { return func() {} }
