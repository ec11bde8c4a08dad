//go:build unix

package main

import (
	"net"

	"golang.org/x/sys/unix"
)

// host does what a responder does, on TCP of the kernel: it gives back the first
// octet that comes, and closes a connection when the client does. One thread sees
// to all of them. It returns an error alone.
func host(l *net.TCPListener) error {
	f, err := l.File() // has a descriptor of its own, which closing l leaves open
	if err != nil {
		return err
	}
	defer f.Close()
	listener := int(f.Fd())
	guests := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}} // after the listener
	for {
		_, err := unix.Poll(guests, -1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		}
		arrived := guests[0].Revents != 0
		for i := len(guests) - 1; i > 0; i-- {
			if guests[i].Revents != 0 && !echoes(int(guests[i].Fd)) {
				unix.Close(int(guests[i].Fd))
				guests[i] = guests[len(guests)-1]
				guests = guests[:len(guests)-1]
			}
		}
		if arrived {
			fd, _, err := unix.Accept(listener)
			if err != nil {
				return err
			}
			guests = append(guests, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
}

// echoes gives back the first octet of what has come. It tells whether more may.
func echoes(fd int) bool {
	var b [16]byte
	n, err := unix.Read(fd, b[:])
	if n <= 0 || err != nil {
		return false
	}
	_, err = unix.Write(fd, b[:1])
	return err == nil
}
