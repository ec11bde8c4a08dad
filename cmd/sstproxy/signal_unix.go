//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// onSignals calls reconnect for each SIGHUP and show for each SIGUSR1 until the
// returned function is called. A SIGHUP that was ignored at the start, as by
// nohup, stays so; one that comes because the terminal is gone calls stop.
func onSignals(reconnect, show, stop func()) (end func()) {
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGUSR1)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	go func() { // ends when signals is closed
		defer close(done)
		for s := range signals {
			switch {
			case s == syscall.SIGUSR1:
				show()
			case terminal && !term.IsTerminal(int(os.Stderr.Fd())):
				stop()
			default:
				reconnect()
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}
