//go:build !unix

package main

// onSignals does nothing: this system has neither SIGHUP nor SIGUSR1.
func onSignals(reconnect, show, stop func()) (end func()) { return func() {} }
