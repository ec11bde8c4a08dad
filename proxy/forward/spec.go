package forward

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Spec is one forward: where to listen, and what is reached from there. It is a
// plain value.
type Spec struct {
	Network string // "tcp", "udp" or "unix"
	Listen  string // HOST:PORT, HOST empty for all addresses; of "unix", what follows "unix:"
	To      string // HOST:PORT
}

const (
	wantLocal  = "want [BIND:]PORT:HOST:PORT, the same with /udp, or unix:PATH:HOST:PORT; IPv6 addresses in brackets"
	wantRemote = "want PORT:HOST:PORT or PORT:HOST:PORT/udp; an IPv6 address in brackets"
)

// ParseLocal reads a forward into the tunnel as for ssh's -L:
// [BIND:]PORT:HOST:PORT, with /udp behind it for UDP, or unix:PATH:HOST:PORT
// for a socket file. Without BIND it listens on 127.0.0.1, with an empty one or
// * on all addresses. The first PORT may be 0 for a free one. HOST is not
// looked at.
func ParseLocal(text string) (Spec, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return parseUnix(path)
	}
	spec, front, err := parse(text, wantLocal)
	if err != nil {
		return Spec{}, err
	}
	host := "127.0.0.1"
	if strings.Contains(front, ":") {
		if host, front, err = net.SplitHostPort(front); err != nil {
			return Spec{}, errors.New(wantLocal)
		}
	}
	if host == "*" {
		host = ""
	}
	if strings.ContainsAny(host, "@/?#[] \t\r\n\x00") {
		return Spec{}, fmt.Errorf("BIND %q is not a name or an address", host)
	}
	spec.Listen, err = join(host, front, 0)
	return spec, err
}

// ParseRemote reads a forward out of the tunnel as for ssh's -R:
// PORT:HOST:PORT, with /udp behind it for UDP. It listens on the client's
// address in the tunnel; there is no other to choose.
func ParseRemote(text string) (Spec, error) {
	spec, front, err := parse(text, wantRemote)
	if err != nil {
		return Spec{}, err
	}
	if strings.Contains(front, ":") {
		return Spec{}, errors.New(wantRemote + ". It always listens on the address in the tunnel")
	}
	spec.Listen, err = join("", front, 0)
	return spec, err
}

func parseUnix(text string) (Spec, error) {
	spec, path, err := parse(text, wantLocal)
	if err == nil && (spec.Network != "tcp" || path == "") {
		err = errors.New(wantLocal)
	}
	if err != nil {
		return Spec{}, err
	}
	return Spec{Network: "unix", Listen: path, To: spec.To}, nil
}

// parse reads the end of a forward, :HOST:PORT and what may follow that, and
// returns what is in front.
func parse(text, want string) (spec Spec, front string, err error) {
	spec.Network = "tcp"
	if rest, network, ok := cutLast(text, '/'); ok && (network == "udp" || network == "tcp") {
		text, spec.Network = rest, network
	}
	rest, port, ok := cutLast(text, ':')
	if !ok {
		return Spec{}, "", errors.New(want)
	}
	var host string
	if inside, closed := strings.CutSuffix(rest, "]"); closed {
		front, host, ok = cutLast(inside, '[')
		front, closed = strings.CutSuffix(front, ":")
		ok = ok && closed && strings.Contains(host, ":")
	} else {
		front, host, ok = cutLast(rest, ':')
	}
	if !ok || host == "" || strings.ContainsAny(host, "[]") {
		return Spec{}, "", errors.New(want)
	}
	spec.To, err = join(host, port, 1)
	return spec, front, err
}

// cutLast cuts around the last occurrence of sep.
func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// join makes HOST:PORT of its parts, if the port is a number from least on.
func join(host, port string, least uint64) (string, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n < least || strconv.FormatUint(n, 10) != port {
		return "", fmt.Errorf("port %q is not a number from %d to 65535", port, least)
	}
	return net.JoinHostPort(host, port), nil
}

// String returns the forward in a form that [ParseLocal] reads.
func (s Spec) String() string {
	switch s.Network {
	case "unix":
		return "unix:" + s.Listen + ":" + s.To
	case "udp":
		return s.Listen + ":" + s.To + "/udp"
	}
	return s.Listen + ":" + s.To
}
