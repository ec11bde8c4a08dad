package main

import "runtime"

// useProcessors makes the program run on some of the processors that it may use,
// unless the environment says on how many (GOMAXPROCS, package runtime).
//
// What a tunnel does is one line of work: each step waits for the one before. On
// many processors each step runs on another, which is woken for it, finds nothing
// of it in its cache, and looks around for more before it sleeps again: a third of
// the time, taken from the programs that use the tunnel.
func useProcessors(env func(string) (string, bool)) {
	if n, _ := env("GOMAXPROCS"); n == "" {
		runtime.GOMAXPROCS(processors(runtime.GOMAXPROCS(0)))
	}
}

// processors is how many of n to use: half, and no more than there are steps that
// can run at the same time.
func processors(n int) int { return min(max(n/2, 1), 4) }
