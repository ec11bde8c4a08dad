package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Ctrl-C on a terminal reaches the command once, from the terminal itself.
func TestRunCtrlC(t *testing.T) {
	needs(t, "sh")
	server := startDemoServer(t)
	keyboard, terminal := openTerminal(t)
	screen := newWatched()
	go io.Copy(screen, keyboard) // ends when the terminal is closed
	const script = `trap 'echo got-INT' INT; trap 'echo got-TERM; kill $!; exit 4' TERM; sleep 1000 & echo begun; while :; do wait; done`
	cmd := exec.Command(os.Args[0], runArgs(t, server, nil, "sh", "-c", script)...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "SSTPROXY_PASSWORD=wonderland")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	screen.wait(t, "begun")
	fmt.Fprint(keyboard, "\x03")
	screen.wait(t, "got-INT")
	cmd.Process.Signal(syscall.SIGTERM) // passed on behind what the Ctrl-C led to
	screen.wait(t, "got-TERM")
	cmd.Wait()
	if n := strings.Count(screen.String(), "got-INT"); cmd.ProcessState.ExitCode() != 4 || n != 1 {
		t.Errorf("got code %d and %d SIGINT, want 4 and 1:\n%s", cmd.ProcessState.ExitCode(), n, screen)
	}
}

// The kernel tells only the leader of the session that the terminal is gone, a
// shell if there is one. Where that is this program, the command hears it too.
func TestRunTerminalGone(t *testing.T) {
	needs(t, "sh")
	needsHangup(t)
	server := startDemoServer(t)
	keyboard, terminal := openTerminal(t)
	c := &command{stdout: newWatched(), stderr: newWatched(), code: make(chan int, 1)}
	cmd := exec.Command(os.Args[0], runArgs(t, server, nil, "sh", "-c", "trap 'exit 6' HUP; echo begun; while :; do sleep 0.02; done")...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "SSTPROXY_PASSWORD=wonderland")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, c.stdout, c.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	go func() { // ends with the process
		cmd.Wait()
		c.code <- cmd.ProcessState.ExitCode()
	}()
	c.stdout.wait(t, "begun")
	keyboard.Close()
	if got := c.end(t); got.code != 6 {
		t.Errorf("got %+v, want the command's code 6", got)
	}
	wantOrderlyEnd(t, server)
}
