//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// watchState calls show for each SIGUSR1 until the returned function is called.
func watchState(show func()) (stop func()) {
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGUSR1)
	go func() { // ends when signals is closed
		defer close(done)
		for range signals {
			show()
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}
