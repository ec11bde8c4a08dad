package tunneltest

import (
	"net"
	"sync"
	"time"
)

// Path is what one direction of a Relay does to the octets that cross it, in
// the order of a real path: a bottleneck with a queue before it, which now and
// then stands still, and a distance behind it. The zero value passes all on.
type Path struct {
	Delay time.Duration // one way, behind the bottleneck
	Rate  int64         // of the bottleneck in bits per second; 0 means no limit
	Queue time.Duration // what waits before the bottleneck, as time at Rate; 0 means 10 ms
	Stall Stall
}

// Stall makes the bottleneck stand still for For, once in every Every; the
// first time after Every. Nothing is lost. This is what the loss of a segment
// of the outer TCP connection, or a gap of a radio link, looks like from inside.
type Stall struct {
	Every, For time.Duration
}

// after returns when something that wants to pass at t may, both counted from
// the start of the relay.
func (s Stall) after(t time.Duration) time.Duration {
	if s.Every <= 0 || t < s.Every {
		return t
	}
	if into := t % s.Every; into < s.For {
		return t - into + s.For
	}
	return t
}

// Relay is a TCP relay on loopback with a path in each direction, for
// benchmarks and for tests of bad links.
type Relay struct {
	target   string
	up, down Path
	start    time.Time
	listener net.Listener
	line     *Line
	wg       sync.WaitGroup
}

// NewRelay listens on a free loopback port and relays each connection to
// target; up is the direction to target.
func NewRelay(target string, up, down Path) (*Relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{target: target, up: up, down: down, start: time.Now(), line: newLine()}
	r.line.relays = true
	r.listener = r.line.listen(l)
	r.wg.Go(r.accept) // ends when the listener is closed
	return r, nil
}

// Addr is where the relay listens.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// Line is both sides of every relayed connection, for faults at run time: after
// Cut or Reset neither end has a connection any more, and after HalfOpen
// neither is told that the other can't hear it. A script counts on the side
// of the client.
func (r *Relay) Line() *Line { return r.line }

// Cut closes the connections that are open now; the relay goes on.
func (r *Relay) Cut() { r.line.Cut() }

// Close ends all connections and waits until nothing of the relay is left.
func (r *Relay) Close() {
	r.listener.Close()
	r.line.close()
	r.wg.Wait()
}

func (r *Relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.serve(c) }) // ends with either connection
	}
}

func (r *Relay) serve(accepted net.Conn) {
	client, ok := r.line.admit(accepted)
	if !ok {
		return
	}
	defer client.Close()
	dialed, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	server, ok := r.line.add(dialed)
	if !ok {
		return
	}
	defer server.Close()
	var wg sync.WaitGroup
	wg.Go(func() { r.pump(server, client, r.up) })
	r.pump(client, server, r.down)
	wg.Wait()
}

// chunk is a piece on its way.
type chunk struct {
	b   []byte // from pieces
	n   int
	due time.Duration // since the start of the relay
}

const pieceSize = 64 << 10

var pieces = sync.Pool{New: func() any { b := make([]byte, pieceSize); return &b }}

// pump carries from src to dst over p and ends both when either has ended.
func (r *Relay) pump(dst, src *lineConn, p Path) {
	if p.Rate > 0 {
		// The sender must feel the bottleneck, not a megabyte of socket buffer.
		src.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	}
	flight := make(chan chunk, 4096)
	var wg sync.WaitGroup
	wg.Go(func() { r.arrive(dst, src, flight) }) // ends when flight is closed
	r.depart(src, p, flight)
	close(flight)
	wg.Wait()
}

// depart reads at the pace of the bottleneck and says when each piece arrives.
func (r *Relay) depart(src net.Conn, p Path, flight chan<- chunk) {
	size, queue := pieceSize, p.Queue
	if p.Rate > 0 {
		size = max(1500, min(size, int(p.Rate/8/1000))) // a millisecond's worth
		if queue == 0 {
			queue = 10 * time.Millisecond
		}
	}
	var free time.Duration // when the bottleneck has passed on all it holds
	for {
		b := *pieces.Get().(*[]byte)
		n, err := src.Read(b[:size])
		if n > 0 {
			now := time.Since(r.start)
			free = p.Stall.after(max(free, now))
			if p.Rate > 0 {
				free += time.Duration(int64(n) * 8 * int64(time.Second) / p.Rate)
			}
			flight <- chunk{b, n, free + p.Delay}
			wait(free - now - queue)
		}
		if err != nil {
			return
		}
	}
}

// arrive writes each piece when it is due.
func (r *Relay) arrive(dst, src *lineConn, flight <-chan chunk) {
	for c := range flight {
		wait(c.due - time.Since(r.start))
		_, err := dst.Write(c.b[:c.n])
		pieces.Put(&c.b)
		if err != nil {
			src.Close() // what it still sends has nowhere to go
			break
		}
	}
	dst.CloseWrite()
	for range flight { // depart must not block
	}
}

// wait lets d pass.
func wait(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}
