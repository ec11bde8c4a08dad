package main

import (
	"os"
	"runtime"
)

// halfProcessors makes this process run on as many processors as sstproxy does,
// unless the environment says on how many. The server does: it stands for another
// machine, and what it wastes of this one's processors by waking one after the
// other is missing on either side. So does stock, which is sstproxy but for one
// thing.
func halfProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(min(max(runtime.GOMAXPROCS(0)/2, 1), 4))
	}
}
