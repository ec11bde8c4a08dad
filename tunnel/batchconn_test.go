package tunnel

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// countingConn counts system calls: reads and writes of the connection below.
type countingConn struct {
	net.Conn
	in     bytes.Buffer
	reads  int
	writes [][]byte
	err    error
}

func (c *countingConn) Read(b []byte) (int, error) { c.reads++; return c.in.Read(b) }

func (c *countingConn) Write(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	c.writes = append(c.writes, bytes.Clone(b))
	return len(b), nil
}

func TestBatchConnWrite(t *testing.T) {
	below := &countingConn{}
	c := newBatchConn(below)
	c.Write([]byte("a"))
	c.cork()
	c.Write([]byte("b"))
	c.Write([]byte("c"))
	if len(below.writes) != 1 {
		t.Errorf("%d writes while corked, want the one before", len(below.writes))
	}
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("d"))
	if got := bytes.Join(below.writes, []byte("|")); string(got) != "a|bc|d" {
		t.Errorf("writes %q, want a|bc|d", got)
	}
	below.err = io.ErrClosedPipe
	c.cork()
	c.Write([]byte("e"))
	if err := c.flush(); err != io.ErrClosedPipe {
		t.Errorf("flush = %v, want the connection's error", err)
	}
}

func TestBatchConnRead(t *testing.T) {
	below := &countingConn{}
	record := append([]byte{23, 3, 3, 0, 4}, "data"...)
	below.in.Write(bytes.Repeat(record, 3))
	below.in.Write(record[:6])
	c := newBatchConn(below)
	b := make([]byte, len(record))
	for range 3 {
		if n, err := io.ReadFull(c, b); err != nil || !bytes.Equal(b, record) {
			t.Fatalf("read %d octets %x, %v, want %x", n, b[:n], err, record)
		}
	}
	if below.reads != 1 {
		t.Errorf("%d reads below, want 1 for all that was there", below.reads)
	}
	if n, err := c.Read(b); n != 6 || err != nil {
		t.Errorf("read %d octets, %v, want the 6 of a part of a record", n, err)
	}
	c.hasty = true
	if _, err := c.Read(b); err != errNothingRead {
		t.Errorf("hasty read: %v, want one that does not wait", err)
	}
	c.hasty = false
	if _, err := c.Read(b); err != io.EOF {
		t.Errorf("read: %v, want EOF", err)
	}
}

// TestBatchConnWatch: what is read may end a stall, and so does Close.
func TestBatchConnWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := newBatchConn(near)
		v := linkView{moved: 1, owed: true}
		c.watch.acked = func() (linkView, bool) { return v, true }
		stalled := make(chan bool, 10)
		c.watch.tell(listener{report: func(still bool) { stalled <- still }})
		send := func() {
			c.cork()
			c.Write([]byte("request"))
			go c.flush() // ends when it is read
			io.ReadFull(far, make([]byte, len("request")))
		}
		want := func(what string, want bool) {
			t.Helper()
			synctest.Wait()
			select {
			case got := <-stalled:
				if got != want {
					t.Errorf("%s: told %v, want %v", what, got, want)
				}
			default:
				t.Errorf("%s: told nothing, want %v", what, want)
			}
		}
		send()
		time.Sleep(2*stallAfter + minLook)
		want("a request without an ACK", true)
		v = linkView{moved: 2}
		go far.Write([]byte("answer")) // ends when it is read
		c.Read(make([]byte, 100))
		want("an ACK with the answer", false)
		v.owed = true
		send()
		time.Sleep(2 * stallAfter)
		want("no more ACKs", true)
		c.Close()
		want("the end", false)
	})
}
