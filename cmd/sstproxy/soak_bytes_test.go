package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// payload is a sequence of octets that both ends can make, and how fast they
// are sent.
type payload struct {
	seed uint64
	size int
	rate int // octets per second; 0 means as fast as it goes
}

func (p payload) query() string {
	return fmt.Sprintf("seed=%d&size=%d&rate=%d", p.seed, p.size, p.rate)
}

func parsePayload(r *http.Request) (p payload, err error) {
	_, err = fmt.Sscanf(r.URL.RawQuery, "seed=%d&size=%d&rate=%d", &p.seed, &p.size, &p.rate)
	return p, err
}

func (p payload) source() *rand.ChaCha8 {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], p.seed)
	return rand.NewChaCha8(seed)
}

// reader yields the octets at the given rate, until done is closed.
func (p payload) reader(done <-chan struct{}) io.Reader {
	return &payloadReader{payload: p, from: p.source(), left: p.size, done: done}
}

type payloadReader struct {
	payload
	from *rand.ChaCha8
	left int
	done <-chan struct{}
}

// payloadPart is what a slow sender sends at a time.
const payloadPart = 8 << 10

func (r *payloadReader) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	b = b[:min(len(b), r.left)]
	if r.rate > 0 {
		b = b[:min(len(b), payloadPart)]
		if !pauseFor(r.done, time.Duration(len(b))*time.Second/time.Duration(r.rate)) {
			return 0, io.ErrUnexpectedEOF
		}
	}
	r.left -= len(b)
	return r.from.Read(b)
}

// pauseFor waits; it returns false if done is closed before.
func pauseFor(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}

// checker is written to what should be the octets and counts those that are not.
func (p payload) checker() *payloadChecker { return &payloadChecker{want: p.source(), left: p.size} }

type payloadChecker struct {
	want              *rand.ChaCha8
	left, seen, wrong int
	buf               [4096]byte
}

func (c *payloadChecker) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(len(rest), len(c.buf))
		c.want.Read(c.buf[:n])
		for i, got := range rest[:n] {
			if got != c.buf[i] || c.seen+i >= c.left {
				c.wrong++
			}
		}
		c.seen += n
		rest = rest[n:]
	}
	return len(b), nil
}
