package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"sstproxy/tunnel"
)

// keylogWarning is what --keylog gives up, in one sentence.
const keylogWarning = "--keylog: whoever has this file and a copy of the connection's packets can read all of it"

// recording is what a run writes to files for diagnosis. Its zero value writes
// nothing.
type recording struct {
	keys *os.File
}

// open opens the files that are asked for, tells cfg of them and warns of what
// they give away.
func (o *recordOptions) open(cfg *tunnel.Config, log *slog.Logger, warn func(string)) (r recording, err error) {
	if o.keylog != "" {
		if r.keys, err = openPrivate(o.keylog); err != nil {
			return r, fmt.Errorf("--keylog %s: %w", o.keylog, err)
		}
		cfg.TLS.KeyLog = keyLog{r.keys, log}
		warn(keylogWarning)
	}
	return r, nil
}

// close completes the files.
func (r recording) close() {
	if r.keys != nil {
		r.keys.Close()
	}
}

// keyLog is a file for TLS secrets. A full disk must not end the connection, so
// Write logs its errors and never fails.
type keyLog struct {
	file *os.File
	log  *slog.Logger
}

func (k keyLog) Write(b []byte) (int, error) {
	if _, err := k.file.Write(b); err != nil {
		k.log.Warn("TLS secrets not written", "err", err)
	}
	return len(b), nil
}

// openPrivate opens a file for appending and creates it for this user alone. It
// refuses what somebody else may have put there, or may read.
func openPrivate(path string) (*os.File, error) {
	was, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
		return f, withoutPath(err)
	}
	if err != nil {
		return nil, withoutPath(err)
	}
	if !was.Mode().IsRegular() {
		return nil, errors.New("not a plain file")
	}
	if err := checkPrivate(was); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, withoutPath(err)
	}
	if now, err := f.Stat(); err != nil || !os.SameFile(was, now) {
		f.Close()
		return nil, errors.New("replaced while it was opened")
	}
	return f, nil
}

// withoutPath is the cause of a file's error, for who names the file himself.
func withoutPath(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}
