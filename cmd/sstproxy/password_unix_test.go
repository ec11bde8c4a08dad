//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
)

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
