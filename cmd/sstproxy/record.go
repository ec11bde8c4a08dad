package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"sstproxy/tunnel"
	"sstproxy/tunnel/capture"
)

// keylogWarning is what --keylog gives up, in one sentence.
const keylogWarning = "--keylog: whoever has this file and a copy of the connection's packets can read all of it"

// pcapWarning is what --pcap gives up.
const pcapWarning = "--pcap: the file shows everything that passes through the tunnel, in the clear"

// recording is what a run writes to files for diagnosis. Its zero value writes
// nothing.
type recording struct {
	keys, packets *os.File
	capture       *capture.Writer
	log           *slog.Logger
}

// open opens the files that are asked for, tells cfg of them and warns of what
// they give away.
func (o *recordOptions) open(cfg *tunnel.Config, log *slog.Logger, warn func(string)) (*recording, error) {
	r := &recording{log: log}
	if o.keylog != "" {
		if err := r.openKeys(o.keylog, cfg); err != nil {
			return nil, fmt.Errorf("--keylog %s: %w", o.keylog, err)
		}
		warn(keylogWarning)
	}
	if o.pcap != "" {
		if err := r.openPackets(o.pcap, cfg); err != nil {
			r.close()
			return nil, fmt.Errorf("--pcap %s: %w", o.pcap, err)
		}
		warn(pcapWarning)
	}
	return r, nil
}

func (r *recording) openKeys(path string, cfg *tunnel.Config) (err error) {
	if r.keys, err = openPrivate(path); err != nil {
		return err
	}
	cfg.TLS.KeyLog = keyLog{r.keys, r.log}
	return nil
}

// openPackets overwrites the file, as tcpdump does.
func (r *recording) openPackets(path string, cfg *tunnel.Config) error {
	f, err := openPrivate(path)
	if err != nil {
		return err
	}
	if err = f.Truncate(0); err == nil {
		r.capture, err = capture.New(packetFile{f, r.log}, capture.Config{
			Program: name + " " + version().short(),
			Link:    "PPP in SSTP, server " + cfg.Server,
			Comment: "passwords and the answers to CHAP challenges are zeroed",
		})
	}
	if err != nil {
		f.Close()
		return withoutPath(err)
	}
	r.packets, cfg.Capture = f, r.capture.Frames
	return nil
}

// close completes the files and tells how many packets are missing.
func (r *recording) close() {
	if r.keys != nil {
		r.keys.Close()
	}
	if r.capture == nil {
		return
	}
	err := r.capture.Close()
	r.packets.Close()
	stats, level := r.capture.Stats(), slog.LevelInfo
	if err != nil || stats.Dropped > 0 {
		level = slog.LevelWarn
	}
	attrs := []any{"packets", stats.Written, "dropped", stats.Dropped}
	if err != nil {
		attrs = append(attrs, "err", err)
	}
	r.log.Log(context.Background(), level, "packets captured", attrs...)
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

// packetFile is a file for packets; the capture stops after its first error,
// which is said at once.
type packetFile struct {
	file *os.File
	log  *slog.Logger
}

func (p packetFile) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	if err != nil {
		p.log.Warn("packets no longer captured", "err", err)
	}
	return n, err
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
