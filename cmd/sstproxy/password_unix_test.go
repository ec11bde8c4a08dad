//go:build unix

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A file that others can read is named with the command that ends that; whatever
// is no file of its own is not.
func TestWarnReadable(t *testing.T) {
	dir := t.TempDir()
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o622: false} {
		path := filepath.Join(dir, fmt.Sprintf("%o", mode))
		if err := os.WriteFile(path, []byte("hunter2"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		warnReadable(slog.New(slog.NewTextHandler(&out, nil)), "", "-", dir, os.DevNull, filepath.Join(dir, "none"), path)
		got := out.String()
		if strings.Contains(got, "chmod 600 "+path) != warned || strings.Count(got, "\n") > 1 || strings.Contains(got, "hunter2") {
			t.Errorf("%o: got %q, want a warning: %t", mode, got, warned)
		}
	}
}

// A descriptor that the caller opened, as in a shell's 3<file.
func TestReadSecretDescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fmt.Fprintln(w, "wonderland")
	w.Close()
	fd, err := syscall.Dup(int(r.Fd())) // readSecret closes what it is given
	if err != nil {
		t.Fatal(err)
	}
	a := &app{stderr: &bytes.Buffer{}}
	got, err := a.readSecret(t.Context(), secret{file: fmt.Sprintf("/dev/fd/%d", fd)})
	if got != "wonderland" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
