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
	ModeAuto   Mode = iota // SOCKS or HTTP, by the first octet
	ModeSOCKS5             // SOCKS only, SOCKS4 included
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

	// Perm is the mode of the socket file; 0 = 0600. If it has no rights for
	// group or others, then only this process's user and root are let in, by
	// what the system knows of who connects (Linux, macOS and FreeBSD), unless
	// AnyUser is set. Windows has no modes: there the access control list of
	// the directory decides.
	Perm    fs.FileMode
	AnyUser bool
}

// ParseEndpoint reads what a user types: HOST:PORT, socks5://HOST:PORT,
// http://HOST:PORT, unix:PATH or unix:PATH,mode=660. HOST may be empty for all
// interfaces or a name or an address, IPv6 in brackets; PORT is a number, 0 for
// any free one; the mode is octal. The error says which form was wanted.
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

// maxSocketPath is the longest path of a socket file on this system, in octets.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// unixEndpoint refuses the abstract names of Linux ("@name"), because they have
// no file mode: any user could connect.
func unixEndpoint(path string) (Endpoint, error) {
	var perm fs.FileMode
	if i := strings.LastIndex(path, ",mode="); i >= 0 {
		n, err := strconv.ParseUint(path[i+len(",mode="):], 8, 9)
		if perm = fs.FileMode(n); err != nil || perm&0o600 != 0o600 {
			return Endpoint{}, errors.New("want an octal mode of 600 to 777, with 6 or 7 first")
		}
		path = path[:i]
	}
	switch {
	case path == "":
		return Endpoint{}, errors.New("want unix:PATH")
	case path[0] == '@' || strings.IndexByte(path, 0) >= 0:
		return Endpoint{}, errors.New("the path of a socket file must not start with @ or hold a NUL")
	case len(path) > maxSocketPath:
		return Endpoint{}, fmt.Errorf("the path has %d octets, and that of a socket file at most %d here", len(path), maxSocketPath)
	}
	return Endpoint{Network: "unix", Address: path, Perm: perm}, nil
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
	case e.Network == "unix" && e.Perm != 0:
		return fmt.Sprintf("unix:%s,mode=%o", e.Address, e.Perm)
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

// Listen opens the listener; the caller closes it. A socket file has its mode
// from the first moment. If there is one already, it is replaced only if it is
// this user's and nobody answers on it; if somebody does, the error is
// EADDRINUSE, and anything that is not a socket, a symbolic link included, is
// left alone. Where strangers are refused, Accept returns an error for each; it
// says that it is temporary.
func (e Endpoint) Listen() (net.Listener, error) {
	if e.Network != "unix" {
		var c net.ListenConfig
		if !e.Exposed() {
			c.KeepAlive = -1 // on this machine no peer vanishes unnoticed
		}
		l, err := c.Listen(context.Background(), e.Network, e.Address)
		if err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
		return l, nil
	}
	l, err := e.listenUnix()
	if err != nil {
		return nil, fmt.Errorf("proxy: listen unix %s: %w", e.Address, err)
	}
	return l, nil
}

func (e Endpoint) listenUnix() (net.Listener, error) {
	perm := e.Perm
	if perm == 0 {
		perm = 0o600
	}
	if err := removeStale(e.Address); err != nil {
		return nil, err
	}
	l, err := bindUnix(e.Address, perm)
	if err != nil {
		return nil, err
	}
	if err := widen(e.Address, perm); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if u, ok := l.(*net.UnixListener); ok && perm&0o077 == 0 && !e.AnyUser {
		return ownListener{u}, nil
	}
	return l, nil
}

// widen gives a socket file the rights that the process's umask took.
func widen(path string, perm fs.FileMode) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm()&perm == perm {
		return err
	}
	return os.Chmod(path, perm)
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
	if !isOwn(info) {
		return errors.New("the socket there is another user's")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(syscall.EADDRINUSE, c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	if again, err := os.Lstat(path); err != nil || !os.SameFile(info, again) {
		return syscall.EADDRINUSE // somebody was faster
	}
	return os.Remove(path)
}

// ownListener lets nobody in but this process's user and root.
type ownListener struct{ *net.UnixListener }

// Accept implements net.Listener. A stranger's connection is closed, and the
// error is a *strangerError.
func (l ownListener) Accept() (net.Conn, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	uid, err := peerUID(c)
	switch {
	case errors.Is(err, errors.ErrUnsupported): // the file's mode has to do
		return c, nil
	case err == nil && (uid == 0 || int(uid) == os.Geteuid()):
		return c, nil
	}
	c.Close()
	return nil, &strangerError{uid, err}
}

// strangerError is about one connection to an ownListener.
type strangerError struct {
	uid uint32
	err error // why the user is not known, or nil
}

func (e *strangerError) Error() string {
	if e.err != nil {
		return "proxy: user of a connection: " + e.err.Error()
	}
	return fmt.Sprintf("proxy: connection of user %d refused", e.uid)
}

func (e *strangerError) Unwrap() error { return e.err }

// Temporary is for those who accept connections: the next may do.
func (e *strangerError) Temporary() bool { return true }
