//go:build unix

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// churn opens and closes connections for d, so many at a time, and says how many
// and how long that took. One thread sees to all of them with as few system
// calls as can be: the load shares the processors with what it is to measure.
func (s *side) churn(d time.Duration, atOnce int) (n int, took time.Duration, err error) {
	proxy, err := netip.ParseAddrPort(s.proxy)
	if err != nil {
		return 0, 0, err
	}
	service, err := netip.ParseAddrPort(s.service)
	if err != nil {
		return 0, 0, err
	}
	c := churner{
		proxy:  &unix.SockaddrInet4{Port: int(proxy.Port()), Addr: proxy.Addr().As4()},
		script: scriptOf(service, s.number),
		visits: make([]visit, atOnce),
		fds:    make([]unix.PollFd, atOnce),
	}
	defer c.close()
	begun := time.Now()
	for i := range c.visits {
		if err := c.open(i); err != nil {
			return 0, 0, err
		}
	}
	for c.opened > 0 {
		ready, err := unix.Poll(c.fds, int(patience.Milliseconds()))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, 0, err
		case ready == 0:
			return 0, 0, fmt.Errorf("%s: no answer on %d connections in %v", s.name, c.opened, patience)
		}
		for i, fd := range c.fds {
			if fd.Revents == 0 {
				continue
			}
			over, err := c.advance(i)
			switch {
			case err != nil:
				return 0, 0, fmt.Errorf("%s: %w", s.name, err)
			case over:
				n++
				if err := c.shut(i); err != nil {
					return 0, 0, err
				}
				if time.Since(begun) < d {
					if err := c.open(i); err != nil {
						return 0, 0, err
					}
				}
			}
		}
	}
	return n, time.Since(begun), nil
}

// patience is how long a load waits for any answer.
const patience = 20 * time.Second

// churner makes visits of the same kind, many at a time.
type churner struct {
	proxy  unix.Sockaddr
	script []exchange
	visits []visit
	fds    []unix.PollFd // of the visits; negative if there is none
	opened int
}

// exchange is what a visitor says and the answer.
type exchange struct{ say, want []byte }

// anything stands in want for an octet that may be any.
const anything = 0xEE

// scriptOf is what is said to reach a service through SOCKS5 (RFC 1928), and to
// it.
func scriptOf(service netip.AddrPort, number byte) []exchange {
	ip := service.Addr().As4()
	connect := append([]byte{5, 1, 0, 1}, ip[:]...)
	connect = append(connect, byte(service.Port()>>8), byte(service.Port()))
	bound := []byte{anything, anything, anything, anything, anything, anything}
	return []exchange{
		{[]byte{5, 1, 0}, []byte{5, 0}},
		{connect, append([]byte{5, 0, 0, 1}, bound...)},
		{[]byte{askIdle, number}, []byte{askIdle}},
	}
}

// visit is one connection.
type visit struct {
	step int // of the script
	got  int // octets of the answer
}

func (c *churner) open(i int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	c.fds[i], c.visits[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}, visit{}
	c.opened++
	if err := unix.Connect(fd, c.proxy); err != nil {
		return err
	}
	return c.say(i)
}

func (c *churner) shut(i int) error {
	c.opened--
	fd := int(c.fds[i].Fd)
	c.fds[i] = unix.PollFd{Fd: -1}
	return unix.Close(fd)
}

// close ends the visits that are left.
func (c *churner) close() {
	for i, fd := range c.fds {
		if fd.Fd > 0 {
			_ = c.shut(i)
		}
	}
}

func (c *churner) say(i int) error {
	_, err := unix.Write(int(c.fds[i].Fd), c.script[c.visits[i].step].say)
	return err
}

// advance takes what has been answered. It tells whether that was the last.
func (c *churner) advance(i int) (over bool, err error) {
	v := &c.visits[i]
	want := c.script[v.step].want
	var b [16]byte
	n, err := unix.Read(int(c.fds[i].Fd), b[:len(want)-v.got])
	switch {
	case err != nil:
		return false, err
	case n == 0:
		return false, errors.New("the connection was closed")
	}
	for _, got := range b[:n] {
		if w := want[v.got]; w != anything && w != got {
			return false, fmt.Errorf("octet %d of answer %d is %#x, want %#x", v.got, v.step, got, w)
		}
		v.got++
	}
	if v.got < len(want) {
		return false, nil
	}
	v.step, v.got = v.step+1, 0
	if v.step == len(c.script) {
		return true, nil
	}
	return false, c.say(i)
}
