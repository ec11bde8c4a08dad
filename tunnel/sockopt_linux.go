package tunnel

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setNotSentLowat makes a socket writable only while less than n octets wait
// in it unsent (tcp(7), TCP_NOTSENT_LOWAT).
func setNotSentLowat(fd uintptr, n int) error {
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
}

// ackedBy returns what tells how a TCP connection stands, or nil if there is
// none to ask.
func ackedBy(raw syscall.RawConn) func() (linkView, bool) {
	if raw == nil {
		return nil
	}
	return func() (v linkView, ok bool) {
		err := raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			// Before Linux 4.1 nothing is counted; the SYN would be, otherwise.
			if ok = err == nil && info.Bytes_acked > 0; ok {
				v = viewOf(info)
			}
		})
		return v, ok && err == nil
	}
}

// viewOf reads a TCP_INFO. ACKs that acknowledge nothing new do not count: they
// come from a peer with its window closed, or with a hole before what it has.
//
// As a rule an ACK takes no longer than srtt and four times its deviation (RFC
// 6298 2.3). Twice srtt bounds it: a peer that delays some of its ACKs makes the
// deviation large, and the timers above count in round trips too (RFC 8985 7.2).
func viewOf(info *unix.TCPInfo) linkView {
	const ms, us = time.Millisecond, time.Microsecond
	return linkView{
		moved: info.Bytes_acked,
		since: time.Duration(min(info.Last_ack_recv, info.Last_data_sent)) * ms,
		owed:  info.Unacked > 0 || info.Notsent_bytes > 0,
		usual: time.Duration(min(info.Rtt+4*info.Rttvar, 2*info.Rtt)) * us,
	}
}
