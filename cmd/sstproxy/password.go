package main

import (
	"bytes"
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
// counts: the file, the environment variable, a prompt on the terminal, which
// standard input is read by as well if it is one.
type secret struct {
	who  string // whose password it is
	file string // path, "-" or /dev/fd/N; empty: none
	flag string // the flag that names the file
	env  string // the variable that may hold it
}

// readSecret returns the password. Its errors never hold any part of it. When
// ctx ends first, it returns the cause.
func (a *app) readSecret(ctx context.Context, s secret) (string, error) {
	tty, ok := a.stdin.(*os.File)
	terminal := ok && term.IsTerminal(int(tty.Fd()))
	if s.file != "" && (s.file != "-" || !terminal) {
		password, err := unless(ctx, func() (string, error) { return a.readSecretFile(s.file) })
		return password, named(s.flag+" "+s.file, err)
	}
	if value, _ := a.env(s.env); s.file == "" && value != "" {
		return value, named(s.env, checkPassword(value))
	}
	if !terminal {
		return "", fmt.Errorf("no password for %s: give %s FILE or %s", s.who, s.flag, s.env)
	}
	password, err := prompt(ctx, tty, a.stderr, "Password for "+oneLine(s.who)+": ")
	if err != nil {
		return "", err
	}
	return password, named("the prompt", checkPassword(password))
}

// named says where an error comes from.
func named(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", where, err)
}

// unless reads a password, or returns the cause of ctx's end when that comes
// first: a pipe may never have a writer. The read it leaves behind ends with
// the process.
func unless(ctx context.Context, read func() (string, error)) (string, error) {
	type answer struct {
		password string
		err      error
	}
	answers := make(chan answer, 1)
	go func() { // ends with the answer, or with the process
		password, err := read()
		answers <- answer{password, err}
	}()
	select {
	case got := <-answers:
		return got.password, got.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
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
	return password, checkPassword(password)
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

// checkPassword finds what is no password, so that it is not tried: servers
// lock accounts.
func checkPassword(password string) error {
	switch {
	case password == "":
		return errors.New("holds no password")
	case strings.Contains(password, "\x00") || strings.HasPrefix(password, "\ufeff"):
		return errors.New("is not plain text: save it as UTF-8 without a byte order mark")
	case len(password) > maxPassword:
		return fmt.Errorf("longer than %d octets", maxPassword)
	case strings.ContainsAny(password, "\r\n"):
		return errors.New("holds more than one line")
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
