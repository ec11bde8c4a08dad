//go:build !unix

package main

import "os"

// statsSignal stands in for a signal that this system does not have; sending it fails.
var statsSignal = os.Interrupt

// fileLimit is how many files a process may open; 0 means that nobody knows.
func fileLimit() int { return 0 }
