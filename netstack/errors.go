package netstack

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// What a caller can tell apart with errors.Is. All but ErrDown are the errno
// itself, so that an error of a direct dial and one of this package are
// handled by the same code.
var (
	// ErrDown means that there is no link: SetLink was not called yet, or
	// LinkDown was. It wraps syscall.ENETDOWN.
	ErrDown = fmt.Errorf("tunnel is down: %w", syscall.ENETDOWN)
	// ErrRefused means that the destination answered that nothing listens.
	ErrRefused error = syscall.ECONNREFUSED
	// ErrHostUnreachable means that a router reported the host unreachable.
	ErrHostUnreachable error = syscall.EHOSTUNREACH
	// ErrNetUnreachable means that no route leads there, for example an IPv6
	// address on a link without IPv6, or that a router reported so.
	ErrNetUnreachable error = syscall.ENETUNREACH
	// ErrTimeout means that nothing answered in time.
	ErrTimeout error = syscall.ETIMEDOUT
	// ErrReset means that the peer reset the connection.
	ErrReset error = syscall.ECONNRESET
	// ErrAborted means that the connection ended on our side: the link's
	// address changed or the stack was closed.
	ErrAborted error = syscall.ECONNABORTED
	// ErrInUse means that the local port is taken.
	ErrInUse error = syscall.EADDRINUSE
)

// errnoOf turns an error of gVisor into one of the standard library. It is the
// only place that knows both.
func errnoOf(err tcpip.Error) error {
	switch err.(type) {
	case nil:
		return nil
	case *tcpip.ErrClosedForReceive:
		return io.EOF
	case *tcpip.ErrClosedForSend:
		return syscall.EPIPE
	case *tcpip.ErrConnectionRefused:
		return ErrRefused
	case *tcpip.ErrConnectionReset:
		return ErrReset
	case *tcpip.ErrTimeout:
		return ErrTimeout
	case *tcpip.ErrHostUnreachable, *tcpip.ErrHostDown:
		return ErrHostUnreachable
	case *tcpip.ErrNetworkUnreachable, *tcpip.ErrNoNet:
		return ErrNetUnreachable
	case *tcpip.ErrAborted, *tcpip.ErrConnectionAborted:
		return ErrAborted
	case *tcpip.ErrPortInUse:
		return ErrInUse
	}
	return localErrnoOf(err)
}

// localErrnoOf maps what the peer has no part in: misuse and lack of means.
func localErrnoOf(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrNoPortAvailable, *tcpip.ErrBadLocalAddress, *tcpip.ErrBadAddress:
		return syscall.EADDRNOTAVAIL
	case *tcpip.ErrMessageTooLong:
		return syscall.EMSGSIZE
	case *tcpip.ErrNotConnected:
		return syscall.ENOTCONN
	case *tcpip.ErrNoBufferSpace:
		return syscall.ENOBUFS
	case *tcpip.ErrNotPermitted, *tcpip.ErrBroadcastDisabled:
		return syscall.EACCES
	case *tcpip.ErrDestinationRequired:
		return syscall.EDESTADDRREQ
	case *tcpip.ErrAddressFamilyNotSupported:
		return syscall.EAFNOSUPPORT
	case *tcpip.ErrInvalidEndpointState:
		return syscall.EINVAL
	case *tcpip.ErrUnknownProtocolOption:
		// What the TCP endpoint makes of ICMP "protocol unreachable".
		return syscall.ENOPROTOOPT
	}
	return fmt.Errorf("%s: %w", err, syscall.EIO)
}

// opError wraps err as the net package does. io.EOF stays bare, because
// readers compare it with ==.
func opError(op, network string, source, addr net.Addr, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return err
	}
	return &net.OpError{Op: op, Net: network, Source: source, Addr: addr, Err: err}
}
