//go:build !unix

package main

import "os"

// statsSignal stands in for a signal that this system does not have; sending it fails.
var statsSignal = os.Interrupt
