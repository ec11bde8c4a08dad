package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The sources of a password, and which of them counts.
func TestReadSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	tests := []struct {
		name                  string
		file, content         string // content of the file
		stdin, variable, want string
	}{
		{name: "file", file: file, content: "wonderland\n", want: "wonderland"},
		{name: "file before variable", file: file, content: "wonderland", variable: "other", want: "wonderland"},
		{name: "carriage return", file: file, content: "wonderland\r\n", want: "wonderland"},
		{name: "blanks belong to it", file: file, content: " b0b: has $pace \n", want: " b0b: has $pace "},
		{name: "utf-8", file: file, content: "pässwörd\n", want: "pässwörd"},
		{name: "the longest", file: file, content: strings.Repeat("x", 255) + "\r\n", want: strings.Repeat("x", 255)},
		{name: "standard input", file: "-", stdin: "wonderland\n", want: "wonderland"},
		{name: "variable", variable: "wonderland", want: "wonderland"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			a := &app{stdin: strings.NewReader(test.stdin), stderr: &bytes.Buffer{}, env: func(key string) (string, bool) {
				return test.variable, key == "VARIABLE"
			}}
			got, err := a.readSecret(t.Context(), secret{who: "alice", file: test.file, flag: "--password-file", env: "VARIABLE"})
			if got != test.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

// Whatever is wrong with a password, the error does not show it.
func TestSecretErrorsShowNothing(t *testing.T) {
	for _, password := range []string{
		"hunter2\nhunter2", "hunter2\n\n", strings.Repeat("hunter2", 40), "\ufeffhunter2", "hunter2\x00",
	} {
		a := &app{stdin: strings.NewReader(password), stderr: &bytes.Buffer{}, env: func(string) (string, bool) { return password, true }}
		for _, file := range []string{"-", ""} {
			_, err := a.readSecret(t.Context(), secret{who: "alice", file: file, flag: "--password-file", env: "VARIABLE"})
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("file %q: got %v, want an error without the password", file, err)
			}
		}
	}
}

// An end on request is not held up by a pipe in which no password comes.
func TestStopAtPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close() // ends the read that is left behind
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := &app{stdin: r, stderr: &bytes.Buffer{}, env: func(string) (string, bool) { return "", false }}
	if _, err := a.readSecret(ctx, secret{who: "alice", file: "-", flag: "--password-file"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// A password in the wrong place is not repeated in the error.
func TestMisplacedPassword(t *testing.T) {
	for _, args := range [][]string{
		{"connect", "alice:hunter2@vpn.test", "-u", "alice"},
		{"connect", "vpn.test", "-u", "alice", "--listen", "socks5://bob:hunter2@127.0.0.1:1080"},
	} {
		var stderr bytes.Buffer
		code := run(t.Context(), args, strings.NewReader(""), io.Discard, &stderr, func(string) (string, bool) { return "", false })
		if code != exitUsage || strings.Contains(stderr.String(), "hunter2") {
			t.Errorf("%q: got code %d and %q", args, code, stderr.String())
		}
	}
}

// keptReader keeps the buffer that its content was read into.
type keptReader struct {
	io.Reader
	buf []byte
}

func (k *keptReader) Read(b []byte) (int, error) {
	n, err := k.Reader.Read(b)
	if n > 0 {
		k.buf = b[:n]
	}
	return n, err
}

// What a password was read into is wiped, whatever came of it.
func TestReadSecretWipes(t *testing.T) {
	for _, content := range []string{"wonderland\n", "two\nlines\n", strings.Repeat("x", 600)} {
		stdin := &keptReader{Reader: strings.NewReader(content)}
		a := &app{stdin: stdin, stderr: io.Discard}
		a.readSecretFile("-")
		if len(stdin.buf) == 0 || bytes.Count(stdin.buf, []byte{0}) != len(stdin.buf) {
			t.Errorf("left in memory: %q", stdin.buf)
		}
	}
}
