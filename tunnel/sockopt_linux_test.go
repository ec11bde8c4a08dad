package tunnel_test

import (
	"context"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"sstproxy/tunnel/tunneltest"
)

// TestNotSentLowat: little waits unsent in a session's socket, where nothing can
// overtake it; no more than the writer gives it at once.
func TestNotSentLowat(t *testing.T) {
	p := newPair(t, tunneltest.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go p.server.Serve(l) // ends with the server
	defer p.server.Close()
	var socket *net.TCPConn
	p.cfg.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		socket, _ = c.(*net.TCPConn)
		return c, err
	}
	defer p.dial().Close()
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var lowat int
	if e := raw.Control(func(fd uintptr) {
		lowat, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
	}); e != nil || err != nil {
		t.Fatal(e, err)
	}
	if lowat <= 0 || lowat > 64<<10 { // 0: not set
		t.Errorf("TCP_NOTSENT_LOWAT is %d octets", lowat)
	}
}
