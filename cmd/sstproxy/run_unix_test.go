//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// spawnAlone runs this test binary as the command, in a session of its own, so
// that no terminal of the tests takes part.
func spawnAlone(t *testing.T, args ...string) *command {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	c := &command{stdout: newWatched(), stderr: newWatched(), code: make(chan int, 1)}
	cmd.Env = append(os.Environ(), asCommand+"=1", "SSTPROXY_PASSWORD=wonderland")
	cmd.Stdout, cmd.Stderr = c.stdout, c.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.process = cmd.Process
	go func() { // ends with the process
		cmd.Wait()
		c.code <- cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() { c.process.Kill() })
	return c
}

// Signals go to the command, as often as they come, and do not end the tunnel
// below it.
func TestRunSignals(t *testing.T) {
	needs(t, "sh")
	needsHangup(t)
	server := startDemoServer(t)
	const script = `for s in INT TERM HUP USR1 USR2 QUIT; do trap "echo got-$s" $s; done
		trap 'n=$((n+1)); echo got-INT-$n; [ $n -lt 3 ] || exit 9' INT
		echo begun; while :; do sleep 0.02; done`
	c := spawnAlone(t, runArgs(t, server, nil, "sh", "-c", script)...)
	c.stdout.wait(t, "begun")
	for name, s := range map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "QUIT": syscall.SIGQUIT} {
		c.process.Signal(s)
		c.stdout.wait(t, "got-"+name)
	}
	for n := range 3 {
		c.process.Signal(os.Interrupt)
		c.stdout.wait(t, fmt.Sprint("got-INT-", n+1))
	}
	if got := c.end(t); got.code != 9 || strings.Contains(got.stderr, "sstproxy:") {
		t.Errorf("got %+v, want the command's code 9", got)
	}
	wantOrderlyEnd(t, server)
}

// A signal that the command does not catch ends it; one that comes before it
// begins ends the program, with the same code.
func TestRunEndedBySignal(t *testing.T) {
	needs(t, "sh")
	server := startDemoServer(t)
	c := spawnAlone(t, runArgs(t, server, nil, "sh", "-c", "echo begun; exec sleep 1000")...)
	c.stdout.wait(t, "begun")
	c.process.Signal(syscall.SIGTERM)
	if got := c.end(t); got.code != 128+15 {
		t.Errorf("got %+v, want code 143", got)
	}
	wantOrderlyEnd(t, server)
	c = spawnAlone(t, runArgs(t, server, []string{"--ready-probe", "10.99.0.80:81", "--log-level", "info"}, "sh", "-c", "echo begun")...)
	c.stderr.wait(t, "proxy listening")
	c.process.Signal(os.Interrupt)
	if got := c.end(t); got.code != 128+2 || got.stdout != "" {
		t.Errorf("before the command: got %+v, want code 130", got)
	}
}

// What was ignored at the beginning stays so for the command, as under nohup.
func TestRunNohup(t *testing.T) {
	needs(t, "sh")
	server := startDemoServer(t)
	args := runArgs(t, server, nil, "sh", "-c", "kill -HUP $$; kill -INT $$; echo still there")
	quoted := "trap '' HUP INT; exec '" + strings.Join(append([]string{os.Args[0]}, args...), "' '") + "'"
	cmd := exec.Command("sh", "-c", quoted)
	cmd.Env = append(os.Environ(), asCommand+"=1", "SSTPROXY_PASSWORD=wonderland")
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "still there\n" {
		t.Errorf("got %v, %q", err, out)
	}
}
