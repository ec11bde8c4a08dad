//go:build unix

package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// relayed are the signals that are passed on to a command.
var relayed = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2}

// terminate tells a process to end.
func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// keepFromCommand keeps a secret's descriptor, if its file is one, from processes
// that are started before the secret has been read.
func keepFromCommand(file string) {
	digits, ok := strings.CutPrefix(file, "/dev/fd/")
	if n, err := strconv.ParseUint(digits, 10, 16); ok && err == nil {
		syscall.CloseOnExec(int(n))
	}
}

// fromTerminal tells whether a signal comes from the terminal, which gives it to
// every process in the foreground, the command included. A SIGINT or SIGQUIT
// that somebody sends to this process alone while it is in the foreground can't
// be told from that. That the terminal is gone is told to the leader of the
// session, and to the others when that ends, or by a shell.
func fromTerminal(s os.Signal, had bool) bool {
	switch s {
	case syscall.SIGINT, syscall.SIGQUIT:
		return inForeground()
	case syscall.SIGHUP:
		return had && !leadsSession() && !hasTerminal()
	}
	return false
}

// leadsSession tells whether this process has begun its session, as what a
// terminal's window or sshd starts has.
func leadsSession() bool {
	leader, err := unix.Getsid(0)
	return err == nil && leader == os.Getpid()
}

// hasTerminal tells whether this process has a controlling terminal.
func hasTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	tty.Close()
	return true
}

// inForeground tells whether the terminal's keys send signals to this process.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
