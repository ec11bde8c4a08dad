package main

import (
	"bytes"
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
	for _, password := range []string{"hunter2\nhunter2", strings.Repeat("hunter2", 40)} {
		a := &app{stdin: strings.NewReader(password), stderr: &bytes.Buffer{}, env: func(string) (string, bool) { return password, true }}
		for _, file := range []string{"-", ""} {
			_, err := a.readSecret(t.Context(), secret{who: "alice", file: file, flag: "--password-file", env: "VARIABLE"})
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("file %q: got %v, want an error without the password", file, err)
			}
		}
	}
}
