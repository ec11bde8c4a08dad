package tunnel

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestViewOf(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name string
		info unix.TCPInfo
		want linkView
	}{
		{"all acknowledged", unix.TCPInfo{Bytes_acked: 9, Last_ack_recv: 7, Last_data_sent: 5, Rtt: 20e3, Rttvar: 1e3},
			linkView{moved: 9, since: 5 * ms, usual: 24 * ms}},
		{"in flight", unix.TCPInfo{Bytes_acked: 9, Unacked: 1, Last_ack_recv: 3, Last_data_sent: 5},
			linkView{moved: 9, since: 3 * ms, owed: true}},
		{"window closed", unix.TCPInfo{Bytes_acked: 9, Notsent_bytes: 1}, linkView{moved: 9, owed: true}},
		{"ACKs delayed now and then", unix.TCPInfo{Bytes_acked: 9, Rtt: 40e3, Rttvar: 20e3}, linkView{moved: 9, usual: 80 * ms}},
	} {
		if got := viewOf(&tt.info); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestAckedBy: the system counts what the peer has acknowledged, and what it
// has not yet taken is owed.
func TestAckedBy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	c.(*net.TCPConn).SetWriteBuffer(64 << 10)
	far.(*net.TCPConn).SetReadBuffer(64 << 10)
	acked := ackedBy(rawConn(c))
	before, ok := acked()
	if !ok || before.owed {
		t.Fatalf("a new connection: %+v, %v; want it known and nothing owed", before, ok)
	}
	// Nobody reads, so some of it stays with us. A slow machine may need several
	// turns to get anything across.
	after := before
	for range 100 {
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := c.Write(make([]byte, 64<<20)); err == nil {
			t.Fatal("64 MiB went into a connection that nobody reads")
		}
		if after, ok = acked(); !ok || after.owed && after.moved > before.moved {
			break
		}
	}
	if !ok || !after.owed || after.moved <= before.moved {
		t.Errorf("a full connection: %+v, %v; want more acknowledged than %d, and the rest owed", after, ok, before.moved)
	}
	c.Close()
	if v, ok := acked(); ok {
		t.Errorf("a closed connection: %+v", v)
	}
	if ackedBy(nil) != nil {
		t.Error("something to ask where there is no socket")
	}
}
