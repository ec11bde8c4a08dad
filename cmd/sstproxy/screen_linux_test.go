package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns the two ends of a pseudo terminal.
func openTerminal(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return keyboard, terminal
}

// On a terminal: a prompt without echo, a line per phase, the facts, the URLs.
func TestScreen(t *testing.T) {
	server := startDemoServer(t)
	keyboard, terminal := openTerminal(t)
	screen := newWatched()
	go io.Copy(screen, keyboard) // ends when the terminal is closed
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code := make(chan int, 1)
	go func() { // ends with the command
		args := connectArgs(server.Addr().String(), caFile(t, server.CA()))
		code <- run(ctx, args, terminal, terminal, terminal, func(string) (string, bool) { return "", false })
	}()
	for asked := false; echo(t, terminal); { // until the prompt has turned it off
		if asked || len(code) > 0 {
			t.Fatalf("asked with echo, or ended without asking:\n%s", screen)
		}
		asked = strings.Contains(screen.String(), "Password")
		runtime.Gosched()
	}
	fmt.Fprint(keyboard, "wonderland\r")
	screen.wait(t, "Ctrl-C disconnects")
	cancel()
	if got := <-code; got != exitOK {
		t.Errorf("got code %d", got)
	}
	screen.wait(t, "disconnected")
	text := screen.String()
	if strings.Contains(text, "wonderland") {
		t.Errorf("the password is on the screen:\n%s", text)
	}
	for _, want := range []string{
		"Password for alice: ", "connecting to 127.0.0.1:", "  tcp ", "  tls ", "  http ", "  sstp ", "  lcp ", "  auth ", "  ipcp ", "connected in ",
		"  address  10.99.0.", "  dns      10.99.0.1", "  mtu      1500", "  server   Windows RRAS, 127.0.0.1:",
		"  auth     MS-CHAPv2", "  binding  SHA-256", "  socks5h://127.0.0.1:", "  http://127.0.0.1:",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q on the screen:\n%s", want, text)
		}
	}
}

// A request to stop at the prompt ends the program, and the terminal echoes again.
func TestStopAtPrompt(t *testing.T) {
	_, terminal := openTerminal(t)
	before := echo(t, terminal)
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	prompted := newWatched()
	go func() { // ends with the command
		args := []string{"connect", "192.0.2.1", "-u", "alice", "--listen", "127.0.0.1:0"}
		code <- run(ctx, args, terminal, io.Discard, prompted, func(string) (string, bool) { return "", false })
	}()
	for echo(t, terminal) { // until the prompt has turned it off
		runtime.Gosched()
	}
	cancel()
	if got := <-code; got != exitOK {
		t.Errorf("got code %d, stderr:\n%s", got, prompted)
	}
	if after := echo(t, terminal); after != before || !after {
		t.Errorf("echo: got %v, want %v", after, before)
	}
}

// An empty answer is no password: servers count tries. A terminal given as the
// password's file is prompted on like any other.
func TestNothingAtPrompt(t *testing.T) {
	keyboard, terminal := openTerminal(t)
	code := make(chan int, 1)
	said := newWatched()
	go func() { // ends with the command
		args := []string{"connect", "192.0.2.1", "-u", "alice", "--listen", "127.0.0.1:0", "--password-file", "-"}
		code <- run(t.Context(), args, terminal, io.Discard, said, func(string) (string, bool) { return "", false })
	}()
	for echo(t, terminal) { // until the prompt has turned it off
		runtime.Gosched()
	}
	fmt.Fprint(keyboard, "\r")
	if got := <-code; got != exitUsage || !strings.Contains(said.String(), "holds no password") {
		t.Errorf("got code %d, stderr:\n%s", got, said)
	}
}

// Ctrl-C at the prompt is a request to stop.
func TestCtrlCAtPrompt(t *testing.T) {
	keyboard, terminal := openTerminal(t)
	code := make(chan int, 1)
	go func() { // ends with the command
		args := []string{"connect", "192.0.2.1", "-u", "alice", "--listen", "127.0.0.1:0"}
		code <- run(t.Context(), args, terminal, io.Discard, io.Discard, func(string) (string, bool) { return "", false })
	}()
	for echo(t, terminal) { // until the prompt has turned it off
		runtime.Gosched()
	}
	fmt.Fprint(keyboard, "wonder\x03")
	if got := <-code; got != exitOK || !echo(t, terminal) {
		t.Errorf("got code %d, echo %v, want %d and true", got, echo(t, terminal), exitOK)
	}
}

// echo tells whether a terminal shows what is typed.
func echo(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}
