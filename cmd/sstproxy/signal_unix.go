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
	// A channel for each: one that finds its channel full is lost.
	users, hangups := make(chan os.Signal, 1), make(chan os.Signal, 1)
	over, done := make(chan struct{}), make(chan struct{})
	signal.Notify(users, syscall.SIGUSR1)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(hangups, syscall.SIGHUP)
	}
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	go func() { // ends with over
		defer close(done)
		for {
			select {
			case <-users:
				show()
			case <-hangups:
				if terminal && !term.IsTerminal(int(os.Stderr.Fd())) {
					stop()
				} else {
					reconnect()
				}
			case <-over:
				return
			}
		}
	}()
	return func() {
		signal.Stop(users)
		signal.Stop(hangups)
		close(over)
		<-done
	}
}
