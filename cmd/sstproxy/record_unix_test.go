//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What others can read, or have put there, gets no secrets.
func TestOpenPrivateRefuses(t *testing.T) {
	dir := t.TempDir()
	open, link := filepath.Join(dir, "open"), filepath.Join(dir, "link")
	if err := os.WriteFile(open, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(open, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		open:       "the file has mode 0640, so that others can read or write it",
		link:       "not a plain file",
		os.DevNull: "not a plain file",
	} {
		f, err := openPrivate(path)
		if err == nil {
			f.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %q", path, err, want)
		}
	}
}
