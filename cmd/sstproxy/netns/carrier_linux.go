package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"sstproxy/netstack/offload"
)

// carrierGroups are the changes that openRtnetlink has to ask for before an
// interface can be raised.
const carrierGroups = unix.RTMGRP_LINK | unix.RTMGRP_IPV6_IFINFO

// carrierTime is how long interfaces may take to have a carrier once they are up.
const carrierTime = 2 * time.Second

// errNoCarrier is what raise returns after that.
var errNoCarrier = fmt.Errorf("no carrier within %v", carrierTime)

// port is an interface, and a socket that is told of its changes.
type port struct {
	rtnetlink
	name string
}

// raise brings interfaces up, silent and for packets of any size, and waits until
// they take some: the kernel notices the other end of a pair in a worker of its
// own, and what is sent before that is lost.
func raise(ports ...port) error {
	indexes := make([]int, len(ports))
	for i, p := range ports {
		var err error
		if indexes[i], err = p.indexOf(p.name); err != nil {
			return err
		}
		if err = p.silence(indexes[i]); err == nil {
			err = p.setUp(indexes[i], offload.MaxPacket)
		}
		if err != nil {
			return fmt.Errorf("interface %s: %w", p.name, err)
		}
	}
	end := time.Now().Add(carrierTime)
	for i, p := range ports {
		if err := p.awaitCarrier(indexes[i], end); err != nil {
			return fmt.Errorf("interface %s: %w", p.name, err)
		}
	}
	return nil
}

// awaitCarrier waits until an interface that is up takes packets. Each change that
// r is told of is a reason to look again.
func (r rtnetlink) awaitCarrier(index int, end time.Time) error {
	for {
		link, err := r.ask(unix.RTM_GETLINK, 0, ifinfo(index, 0, 0))
		if err != nil {
			return err
		}
		if takesPackets(link) {
			return nil
		}
		if err := r.awaitChange(end); err != nil {
			return err
		}
	}
}

// awaitChange waits until r is told of something.
func (r rtnetlink) awaitChange(end time.Time) error {
	for {
		left := max(0, time.Until(end))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n > 0:
			_, err = r.receive()
			return err
		case left < time.Millisecond:
			return errNoCarrier
		}
	}
}

// takesPackets reads what the kernel says of an interface (struct ifinfomsg and
// attributes): it has a carrier, and IPv6, where there is any, knows that.
func takesPackets(link []byte) bool {
	const flags = 8 // where they are in struct ifinfomsg
	if len(link) < unix.SizeofIfInfomsg || binary.NativeEndian.Uint32(link[flags:])&unix.IFF_RUNNING == 0 {
		return false
	}
	inet6 := attributeOf(attributeOf(link[unix.SizeofIfInfomsg:], unix.IFLA_AF_SPEC), unix.AF_INET6)
	state, settings := attributeOf(inet6, unix.IFLA_INET6_FLAGS), attributeOf(inet6, unix.IFLA_INET6_CONF)
	const (
		disabled = 4 * 26  // DEVCONF_DISABLE_IPV6, linux/ipv6.h
		ready    = 1 << 31 // IF_READY, net/if_inet6.h
	)
	if len(state) < 4 || len(settings) >= disabled+4 && binary.NativeEndian.Uint32(settings[disabled:]) != 0 {
		return true
	}
	return binary.NativeEndian.Uint32(state)&ready != 0
}

// attributeOf returns the value of one of several attributes, nil if it is not
// among them.
func attributeOf(b []byte, kind uint16) []byte {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED == kind {
			return b[unix.SizeofRtAttr:n]
		}
		b = b[min((n+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(b)):]
	}
	return nil
}
