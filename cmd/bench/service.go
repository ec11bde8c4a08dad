package main

import (
	"io"
	"net"
	"sync/atomic"
)

// What a connection to the bench's service asks for with the first of its
// first two octets. The second says whose it is.
const (
	askDownload = 'd' // the service writes until the client is gone
	askUpload   = 'u' // the service reads and counts
	askEcho     = 'e' // what comes goes back
	askIdle     = 'i' // one octet comes back, then nothing
)

// bulkBuffer is the size of one read or write of a bulk transfer.
const bulkBuffer = 256 << 10

// sunk counts the octets that the uploads of each side have brought to the far
// end. Counting there, not at the sender, leaves out every buffer on the way.
var sunk [256]atomic.Int64

// serve runs the service on l until it is closed. The same code stands at the
// far end of the tunnel and at the far end of the raw TLS connection. Goroutines
// that are done take the next connection, with the stacks that they have.
func serve(l net.Listener) {
	next := make(chan net.Conn)
	defer close(next)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case next <- c:
			continue
		default:
		}
		go func() { // ends with its connection when l is closed
			for c := c; c != nil; c = <-next {
				answer(c)
				c.Close()
			}
		}()
	}
}

func answer(c net.Conn) {
	var ask [2]byte
	if _, err := io.ReadFull(c, ask[:]); err != nil {
		return
	}
	switch ask[0] {
	case askDownload:
		for b := make([]byte, bulkBuffer); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	case askUpload:
		for b := make([]byte, bulkBuffer); ; {
			n, err := c.Read(b)
			sunk[ask[1]].Add(int64(n))
			if err != nil {
				return
			}
		}
	case askEcho:
		echo(c)
	case askIdle:
		c.Write(ask[:1])
		c.Read(ask[:1]) // until the client is gone
	}
}

func echo(c net.Conn) {
	for b := make([]byte, 2048); ; {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}
