package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"sstproxy/tunnel"
	"sstproxy/tunnel/tunneltest"
)

// recorded runs connect with more flags until its proxy listens, and ends it.
func recorded(t *testing.T, cfg tunneltest.Config, more ...string) outcome {
	t.Helper()
	cfg.Attach = tunneltest.Reflect
	server := startServer(t, cfg)
	c := start(t, withPassword, connectArgs(server.Addr().String(), caFile(t, server.CA()), more...)...)
	c.proxyURL(t, "http://")
	c.stop()
	got := c.end(t)
	if got.code != exitOK {
		t.Errorf("got code %d, stderr:\n%s", got.code, got.stderr)
	}
	return got
}

// wantPrivate reads a file that must be its owner's alone.
func wantPrivate(t *testing.T, path string) []byte {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkPrivate(info); err != nil {
		t.Errorf("%s: %v", path, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The secrets are appended and warned of.
func TestKeylog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("# before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := recorded(t, tunneltest.Config{}, "--keylog", path)
	if !strings.Contains(got.stderr, "WARN") || !strings.Contains(got.stderr, keylogWarning) {
		t.Errorf("no warning in\n%s", got.stderr)
	}
	keys := string(wantPrivate(t, path))
	for _, want := range []string{"# before\n", "\nCLIENT_HANDSHAKE_TRAFFIC_SECRET ", "\nSERVER_TRAFFIC_SECRET_0 "} {
		if !strings.Contains(keys, want) {
			t.Errorf("no %q in the key log:\n%s", want, keys)
		}
	}
}

// A capture is a pcapng file of this run alone, without the password even of PAP;
// what is in it is warned of before, and counted after.
func TestPcap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "packets")
	if err := os.WriteFile(path, []byte("of an earlier run"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := recorded(t, tunneltest.Config{Methods: []tunneltest.Method{tunneltest.PAP}}, "--pcap", path, "--allow-pap")
	if !strings.Contains(got.stderr, "WARN") || !strings.Contains(got.stderr, pcapWarning) {
		t.Errorf("no warning in\n%s", got.stderr)
	}
	file := wantPrivate(t, path)
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	packets := 0
	for ; err == nil; packets++ {
		_, _, err = r.ReadPacketData()
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if want := fmt.Sprintf("packets=%d dropped=0", packets-1); packets < 10 || !strings.Contains(got.stderr, want) {
		t.Errorf("no %q in\n%s", want, got.stderr)
	}
	if bytes.Contains(file, []byte("wonderland")) || bytes.Contains(file, []byte("earlier run")) {
		t.Error("the password or an earlier run is in the capture")
	}
	if link, _ := r.Interface(0); !strings.HasPrefix(link.Description, "PPP in SSTP, server 127.0.0.1:") {
		t.Errorf("description: got %q", link.Description)
	}
}

// A capture that can't be written to says so at once, and why packets are
// missing at the end.
func TestPcapFull(t *testing.T) {
	said := newWatched()
	r := &recording{log: slog.New(slog.NewTextHandler(said, nil))}
	var cfg tunnel.Config
	if err := r.openPackets(filepath.Join(t.TempDir(), "packets"), &cfg); err != nil {
		t.Fatal(err)
	}
	r.packets.Close()
	cfg.Capture(true, [][]byte{[]byte("frame")})
	said.wait(t, "packets no longer captured")
	r.close()
	if got := said.wait(t, "packets=0 dropped=1"); !strings.Contains(got, "WARN") || !strings.Contains(got, "err=") {
		t.Errorf("got %q, want a warning with the error", got)
	}
}

// Without the flag there is no key log, whatever other programs are told.
func TestKeylogOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	t.Setenv("SSLKEYLOGFILE", path)
	recorded(t, tunneltest.Config{})
	if _, err := os.Lstat(path); err == nil {
		t.Error("SSLKEYLOGFILE was obeyed")
	}
}

// A new file is its owner's alone; what is not, or is no plain file, is refused.
func TestOpenPrivate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new")
	for range 2 { // created, then opened again
		f, err := openPrivate(path)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString("x")
		f.Close()
	}
	if got := string(wantPrivate(t, path)); got != "xx" {
		t.Errorf("got %q, want it appended to", got)
	}
	if _, err := openPrivate(dir); err == nil {
		t.Error("a folder was opened")
	}
	if _, err := openPrivate(filepath.Join(dir, "none", "new")); err == nil {
		t.Error("a file in no folder was opened")
	}
}

// A key log that can't be written to is told of, and ends no connection.
func TestKeylogFull(t *testing.T) {
	f, err := openPrivate(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	said := newWatched()
	if n, err := (keyLog{f, slog.New(slog.NewTextHandler(said, nil))}).Write([]byte("secret")); n != 6 || err != nil {
		t.Errorf("got %d, %v, want all written", n, err)
	}
	if got := said.String(); !strings.Contains(got, "TLS secrets not written") || strings.Contains(got, "=secret") {
		t.Errorf("got log %q, want a word about the failure and no secret", got)
	}
}
