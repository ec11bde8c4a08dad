package tunnel_test

import (
	"bytes"
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel"
	"sstproxy/tunnel/tunneltest"
)

// slowConn takes what is written at a rate.
type slowConn struct {
	net.Conn
	octetsPerSecond int
}

func (c *slowConn) Write(b []byte) (int, error) {
	time.Sleep(time.Duration(len(b)) * time.Second / time.Duration(c.octetsPerSecond))
	return c.Conn.Write(b)
}

// TestSlowLinkTakesLittle: what Fill has given can't be overtaken, so on a slow
// link it is asked for little at a time. A keystroke must not wait behind half a
// second of an upload.
func TestSlowLinkTakesLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, tunneltest.Config{
			Attach: func(tunneltest.Client) tunneltest.Network { return tunneltest.Network{Deliver: func([][]byte) {}} },
		})
		dial := p.cfg.DialContext
		p.cfg.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			return &slowConn{c, 1_000_000 / 8}, err
		}
		s := p.dial()
		frame := framed(ipPacket(4, 1400, 1))
		asked := make(chan int, 1000)
		cancel, ended := run(t, s, tunnel.Packets{
			Ready:   make(chan struct{}),
			Deliver: func([][]byte) {},
			Fill: func(b []byte) int {
				asked <- len(b)
				return copy(b, bytes.Repeat(frame, len(b)/len(frame)))
			},
		})
		octets := 0
		for range 100 {
			octets = <-asked
		}
		if octets > 8<<10 {
			t.Errorf("asks for %d octets at a time, half a second of this link", octets)
		}
		cancel()
		for {
			select {
			case <-asked:
				continue
			case err := <-ended:
				if err != nil {
					t.Errorf("Run = %v", err)
				}
			}
			return
		}
	})
}
