package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// maxPassword bounds what is read as a password, in octets; PPP carries at
// most 255 (RFC 1334 §2.2.1).
const maxPassword = 255

// secret says where one password comes from. The first of these that is there
// counts: the file, the environment variable, a prompt on the terminal.
type secret struct {
	who  string // whose password it is
	file string // path, "-" or /dev/fd/N; empty: none
	flag string // the flag that names the file
	env  string // the variable that may hold it
}

// readSecret returns the password. Its errors never hold any part of it.
func (a *app) readSecret(ctx context.Context, s secret) (string, error) {
	if s.file != "" {
		password, err := a.readSecretFile(s.file)
		if err != nil {
			return "", fmt.Errorf("%s %s: %w", s.flag, s.file, err)
		}
		return password, nil
	}
	if value, ok := a.env(s.env); ok && value != "" {
		return value, checkPassword(value, s.env)
	}
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", fmt.Errorf("no password for %s: give %s FILE or %s", s.who, s.flag, s.env)
	}
	password, err := prompt(ctx, f, a.stderr, "Password for "+oneLine(s.who)+": ")
	if err != nil {
		return "", err
	}
	return password, checkPassword(password, "password")
}

// readSecretFile reads a password from a file, "-" or /dev/fd/N and strips the
// line ending behind it, once.
func (a *app) readSecretFile(path string) (string, error) {
	r, err := a.openSecret(path)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxPassword+3))
	if err != nil {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if password == "" {
		return "", errors.New("holds no password")
	}
	return password, checkPassword(password, "it")
}

func (a *app) openSecret(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(a.stdin), nil
	}
	if digits, ok := strings.CutPrefix(path, "/dev/fd/"); ok {
		// Not os.Open: that opens a pipe's other name, and fails on a socket.
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			return nil, errors.New("want /dev/fd/N")
		}
		return os.NewFile(uintptr(n), path), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err) // the caller names the path
	}
	return f, nil
}

func checkPassword(password, where string) error {
	switch {
	case len(password) > maxPassword:
		return fmt.Errorf("%s: longer than %d octets", where, maxPassword)
	case strings.ContainsAny(password, "\r\n\x00"):
		return fmt.Errorf("%s: holds more than one line", where)
	}
	return nil
}

// prompt asks on a terminal without echo. When ctx ends first, it gives the
// terminal its echo back and returns the cause; the read it leaves behind ends
// with the process.
func prompt(ctx context.Context, tty *os.File, w io.Writer, question string) (string, error) {
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	fmt.Fprint(w, question)
	defer fmt.Fprintln(w)
	type answer struct {
		password []byte
		err      error
	}
	answers := make(chan answer, 1)
	go func() { // ends with the answer, or with the process
		b, err := term.ReadPassword(fd)
		answers <- answer{b, err}
	}()
	select {
	case got := <-answers:
		return string(got.password), got.err
	case <-ctx.Done():
		return "", errors.Join(context.Cause(ctx), term.Restore(fd, before))
	}
}
