package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Mode says which protocols a listener speaks. The zero value is [ModeAuto].
type Mode uint8

const (
	ModeAuto   Mode = iota // SOCKS5 or HTTP, by the first octet
	ModeSOCKS5             // SOCKS5 only
	ModeHTTP               // HTTP only
)

// String returns "auto", "socks5" or "http".
func (m Mode) String() string {
	switch m {
	case ModeAuto:
		return "auto"
	case ModeSOCKS5:
		return "socks5"
	case ModeHTTP:
		return "http"
	}
	return fmt.Sprintf("Mode(%#x)", uint8(m))
}

// Endpoint is an address to listen on and the protocols spoken there. It is a
// plain value; the zero value can't be listened on.
type Endpoint struct {
	Mode    Mode
	Network string // "tcp" or "unix"
	Address string // HOST:PORT, or the path of the socket file
}

// ParseEndpoint reads what a user types: HOST:PORT, socks5://HOST:PORT,
// http://HOST:PORT or unix:PATH. HOST may be empty for all interfaces or a name
// or an address, IPv6 in brackets; PORT is a number, 0 for any free one. The
// error says which form was wanted.
func ParseEndpoint(spec string) (Endpoint, error) {
	e, err := parseEndpoint(spec)
	if err != nil {
		return Endpoint{}, fmt.Errorf("proxy: listen address %q: %w", spec, err)
	}
	return e, nil
}

func parseEndpoint(spec string) (Endpoint, error) {
	if path, ok := strings.CutPrefix(spec, "unix:"); ok {
		return unixEndpoint(path)
	}
	e := Endpoint{Network: "tcp", Address: spec}
	if scheme, rest, ok := strings.Cut(spec, "://"); ok {
		switch strings.ToLower(scheme) {
		case "socks5":
			e.Mode = ModeSOCKS5
		case "http":
			e.Mode = ModeHTTP
		default:
			return e, fmt.Errorf("unknown scheme %q, want socks5 or http", scheme)
		}
		e.Address = strings.TrimSuffix(rest, "/")
	}
	return e, checkListenAddress(e.Address)
}

// unixEndpoint refuses the abstract names of Linux ("@name"), because they have
// no file mode: any user could connect.
func unixEndpoint(path string) (Endpoint, error) {
	switch {
	case path == "":
		return Endpoint{}, errors.New("want unix:PATH")
	case path[0] == '@' || strings.IndexByte(path, 0) >= 0:
		return Endpoint{}, errors.New("the path of a socket file must not start with @ or hold a NUL")
	}
	return Endpoint{Network: "unix", Address: path}, nil
}

func checkListenAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New("want HOST:PORT")
	}
	if strings.ContainsAny(host, "@/?# \t\r\n\x00") {
		return fmt.Errorf("host %q is not a name or an address", host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	return nil
}

// String returns the endpoint in a form that [ParseEndpoint] reads.
func (e Endpoint) String() string {
	switch {
	case e.Network == "unix":
		return "unix:" + e.Address
	case e.Mode == ModeAuto:
		return e.Address
	}
	return e.Mode.String() + "://" + e.Address
}

// Exposed reports whether others than this machine's users may reach the
// endpoint: true for every TCP address that is not certainly loopback.
func (e Endpoint) Exposed() bool {
	if e.Network == "unix" {
		return false
	}
	host, _, err := net.SplitHostPort(e.Address)
	if err != nil {
		return true
	}
	if strings.EqualFold(host, "localhost") {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err != nil || !addr.Unmap().IsLoopback()
}

// Listen opens the listener; the caller closes it. A socket file is created
// with mode 0600. If there is one already, it is replaced only if nobody
// answers on it; if somebody does, the error is EADDRINUSE, and anything that
// is not a socket is left alone.
func (e Endpoint) Listen() (net.Listener, error) {
	if e.Network != "unix" {
		l, err := net.Listen(e.Network, e.Address)
		if err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
		return l, nil
	}
	l, err := listenUnix(e.Address)
	if err != nil {
		return nil, fmt.Errorf("proxy: listen unix %s: %w", e.Address, err)
	}
	return l, nil
}

func listenUnix(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: restrictMode}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	// Where restrictMode has no effect (it has on Linux) there is a moment in
	// which the mode is the process's umask.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket file that a process which died left behind.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("the path exists and is not a socket")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(syscall.EADDRINUSE, c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
