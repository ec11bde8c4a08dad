package main

import (
	"runtime"
	"strconv"
)

// available is how many processors there were to use when the program began.
var available = runtime.GOMAXPROCS(0)

// useProcessors makes the program run on as many processors as so many tunnels
// need, unless the environment says on how many (GOMAXPROCS, package runtime).
//
// What a tunnel does is one line of work: each step waits for the one before. On
// many processors each step runs on another, which is woken for it, finds nothing
// of it in its cache, and looks around for more before it sleeps again: a quarter
// of the time and more, taken from the programs that use the tunnel.
func useProcessors(env func(string) (string, bool), tunnels int) {
	set, _ := env("GOMAXPROCS")
	if n, err := strconv.Atoi(set); err == nil && n > 0 {
		return
	}
	runtime.GOMAXPROCS(processors(available, tunnels))
}

// processors is how many of n to use: for each tunnel half, and no more than there
// are steps that can run at the same time.
func processors(n, tunnels int) int { return min(min(max(n/2, 1), 4)*tunnels, n) }
