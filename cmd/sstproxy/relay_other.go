//go:build !unix

package main

import "os"

// relayed are the signals that do not end this program while a command runs: the
// console gives them to the command by itself.
var relayed = []os.Signal{os.Interrupt}

// terminate ends a process: there is no way to tell it to end.
func terminate(p *os.Process) error { return p.Kill() }

// fromTerminal is true: nobody else can send a signal.
func fromTerminal(os.Signal, bool) bool { return true }

func hasTerminal() bool { return true }

// keepFromCommand has nothing to do: descriptors are not inherited here.
func keepFromCommand(string) {}
