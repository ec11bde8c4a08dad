package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
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
	tty, terminal := terminalOf(a.stdin)
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
	if err := a.asking.acquire(ctx); err != nil {
		return "", err
	}
	defer a.asking.release()
	password, err := prompt(ctx, tty, a.stderr, "Password for "+oneLine(s.who)+": ")
	if err != nil {
		return "", err
	}
	return password, named("the prompt", checkPassword(password))
}

// turn is whose turn it is at the terminal: profiles with one-time passwords may
// ask at any time.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// acquire waits for the turn. When ctx ends first, it returns the cause.
func (t turn) acquire(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t turn) release() { <-t }

// terminalOf returns the terminal that a stream is, if it is one.
func terminalOf(stream io.Reader) (tty *os.File, ok bool) {
	tty, ok = stream.(*os.File)
	return tty, ok && term.IsTerminal(int(tty.Fd()))
}

// named says where an error comes from.
func named(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", where, err)
}

// unless reads a password or a file, or returns the cause of ctx's end when that
// comes first: a pipe may never have a writer. The read it leaves behind ends
// with the process.
func unless[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type answer struct {
		what T
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // ends with the answer, or with the process
		what, err := read()
		answers <- answer{what, err}
	}()
	select {
	case got := <-answers:
		return got.what, got.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
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
	b, err := io.ReadAll(io.LimitReader(r, maxPassword+3)) // in one piece: ReadAll begins with 512
	defer clear(b)
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

// warnReadable warns of each of these files that others on this machine can
// read. Windows has access control lists instead of modes, which are not looked
// at.
func warnReadable(log *slog.Logger, files ...string) {
	for _, path := range files {
		if path == "" || path == "-" || runtime.GOOS == "windows" {
			continue
		}
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o044 != 0 {
			log.Warn("others on this machine can read a password", "file", path, "hint", "chmod 600 "+path)
		}
	}
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

// prompt asks on a terminal without echo, which is off before the question is
// there: a program that answers at once must not be echoed either. Ctrl-C is
// errStopped. When ctx ends first, prompt returns the cause; the read it leaves
// behind ends with the process. Either way the terminal is as before.
func prompt(ctx context.Context, tty *os.File, w io.Writer, question string) (string, error) {
	fd := int(tty.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return "", err
	}
	password, err := readPassword(ctx, tty, w, question)
	err = errors.Join(err, term.Restore(fd, before))
	if err != nil {
		fmt.Fprintln(w) // the answer would have ended the line
	}
	return password, err
}

// readPassword is prompt on a terminal in raw mode. Ctrl-D is an empty answer.
func readPassword(ctx context.Context, tty io.Reader, w io.Writer, question string) (string, error) {
	keys := &keyboard{Reader: tty, Writer: w}
	return unless(ctx, func() (string, error) {
		password, err := term.NewTerminal(keys, "").ReadPassword(question)
		switch {
		case keys.interrupted:
			return "", errStopped
		case err == io.EOF:
			return "", nil
		}
		return password, err
	})
}

// keyboard is a terminal in raw mode, where Ctrl-C is no signal but an octet.
type keyboard struct {
	io.Reader
	io.Writer
	interrupted bool
}

func (k *keyboard) Read(b []byte) (int, error) {
	const ctrlC = 3
	n, err := k.Reader.Read(b)
	k.interrupted = k.interrupted || bytes.IndexByte(b[:n], ctrlC) >= 0
	return n, err
}
