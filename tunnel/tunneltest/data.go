package tunneltest

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// Headroom is the length in octets of the SSTP and PPP headers before an IP
// packet in [Network.Fill].
const Headroom = sstp.HeaderLen + ppp.HeaderLen

// PutHeader writes the headers of a frame: Headroom octets and an IPv4 or IPv6
// packet, together at most 4095 octets.
func PutHeader(frame []byte) {
	sstp.PutHeader(frame, false, len(frame))
	p := ppp.ProtoIPv4
	if len(frame) > Headroom && frame[Headroom]>>4 == 6 {
		p = ppp.ProtoIPv6
	}
	ppp.PutHeader(frame[sstp.HeaderLen:], p)
}

const (
	readBufferLen  = 256 << 10
	writeBufferLen = 128 << 10
)

// dataPath is what reader and writer know of the loop's state.
type dataPath struct {
	network    atomic.Pointer[Network]
	open4      atomic.Bool // IPCP is Opened and the call connected
	open6      atomic.Bool // IPV6CP too
	packetSeen atomic.Bool // the client has sent an IP packet
	earlySeen  atomic.Bool // and one too early
	start      time.Time
	lastHeard  atomic.Int64 // when something was received, since start
}

func (d *dataPath) close() {
	d.open4.Store(false)
	d.open6.Store(false)
}

func (d *dataPath) isOpen() bool { return d.open4.Load() || d.open6.Load() }

func (d *dataPath) heard() { d.lastHeard.Store(int64(time.Since(d.start))) }

// silence is how long nothing has been received.
func (d *dataPath) silence() time.Duration {
	return time.Since(d.start) - time.Duration(d.lastHeard.Load())
}

// reader takes packets from TLS until it or the loop ends. It parses in place:
// what is left of a packet at the end of the buffer moves to the front.
func (c *Conn) reader(rest []byte) {
	buf := make([]byte, readBufferLen)
	r := packetReader{conn: c, batch: make([][]byte, 0, readBufferLen/64)}
	end := copy(buf, rest)
	for {
		n, ok := r.take(buf[:end])
		if !ok {
			return
		}
		end = copy(buf, buf[n:end])
		n, err := c.read(buf[end:])
		if end += n; n > 0 {
			c.data.heard()
		}
		if err != nil {
			if _, ok := r.take(buf[:end]); ok {
				c.hands.hand(inbound{kind: inboundEnd, err: err})
			}
			return
		}
	}
}

// read waits for octets and takes with them what else has arrived, so that one
// batch holds all that one read from TCP brought.
func (c *Conn) read(b []byte) (n int, err error) {
	defer func() { c.raw.hasty = false }()
	for err == nil && (n == 0 || len(b)-n >= maxRecord) {
		var got int
		got, err = c.tls.Read(b[n:])
		n += got
		c.raw.hasty = n > 0
	}
	if errors.Is(err, errNothingRead) {
		err = nil
	}
	return n, err
}

// maxRecord is the largest plaintext of a TLS record (RFC 8446 5.1).
const maxRecord = 16 << 10

// packetReader sorts packets: IP to the network, in batches, all else to the loop.
type packetReader struct {
	conn  *Conn
	batch [][]byte
}

// take handles the whole packets in b and says how many octets they covered;
// ok is false when the reader has to end.
func (r *packetReader) take(b []byte) (n int, ok bool) {
	for {
		p, size, err := sstp.ParsePacket(b[n:])
		if err != nil {
			r.deliver()
			r.conn.hands.hand(inbound{kind: inboundFraming, err: err})
			return n, false
		}
		if size == 0 {
			r.deliver()
			return n, true
		}
		if !r.sort(p) {
			return n, false
		}
		n += size
	}
}

func (r *packetReader) sort(p sstp.Packet) bool {
	if !p.Control {
		if ip, v6, ok := ipPacket(p.Payload); ok {
			return r.takeIP(ip, v6)
		}
	}
	// What came before must not be overtaken.
	r.deliver()
	kind := inboundFrame
	if p.Control {
		kind = inboundControl
	}
	return r.conn.hands.hand(inbound{kind: kind, payload: p.Payload})
}

// ipPacket takes the IP packet out of a frame; most have the full header.
func ipPacket(frame []byte) (ip []byte, v6, ok bool) {
	p, info, err := ppp.ParseFrame(frame)
	if err != nil || p != ppp.ProtoIPv4 && p != ppp.ProtoIPv6 {
		return nil, false, false
	}
	return info, p == ppp.ProtoIPv6, true
}

func (r *packetReader) takeIP(ip []byte, v6 bool) bool {
	d := &r.conn.data
	open := d.open4.Load()
	if v6 {
		open = d.open6.Load()
	}
	if !open {
		// "IP frame: drop" (3.3.5.2.3)
		return d.earlySeen.Swap(true) || r.conn.hands.hand(inbound{kind: inboundEarly})
	}
	if !d.packetSeen.Load() && !d.packetSeen.Swap(true) {
		r.conn.out.signal()
		if !r.conn.hands.hand(inbound{kind: inboundFirst}) {
			return false
		}
	}
	r.batch = append(r.batch, ip)
	return true
}

func (r *packetReader) deliver() {
	if n := r.conn.data.network.Load(); n != nil && n.Deliver != nil && len(r.batch) > 0 {
		n.Deliver(r.batch)
	}
	r.batch = r.batch[:0]
}

// hand gives the loop one thing and waits until it is done with it. It reports
// whether the loop is still there.
func (h *handoff) hand(m inbound) bool {
	select {
	case h.in <- m:
	case <-h.ended:
		return false
	}
	select {
	case <-h.handled:
		return true
	case <-h.ended:
		return false
	}
}

// outbox holds the octets the writer sends before any data.
type outbox struct {
	mu       sync.Mutex
	octets   []byte
	acts     []outAct // in the order of the octets
	finished bool
	wake     chan struct{} // capacity 1
	failed   chan error    // capacity 1
}

// outAct is something to do once the octets before it have gone out.
type outAct struct {
	at int // octets before it
	do func()
}

// maxOutbox is when a client that does not read has lost its connection.
const maxOutbox = 4 << 20

var errOutboxFull = errors.New("the client does not read")

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), failed: make(chan error, 1)}
}

func (o *outbox) push(octets []byte) {
	o.mu.Lock()
	full := len(o.octets)+len(octets) > maxOutbox
	if !full {
		o.octets = append(o.octets, octets...)
	}
	o.mu.Unlock()
	if full {
		o.fail(errOutboxFull)
	}
	o.signal()
}

// finish lets the writer end when it has sent what there is.
func (o *outbox) finish() {
	o.mu.Lock()
	o.finished = true
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) fail(err error) {
	select {
	case o.failed <- err:
	default:
	}
}

// then has f run by the writer behind what is queued, and before what follows.
func (o *outbox) then(f func()) {
	o.mu.Lock()
	o.acts = append(o.acts, outAct{len(o.octets), f})
	o.mu.Unlock()
	o.signal()
}

// take moves what is queued to b, up to what is to be done behind it.
func (o *outbox) take(b []byte) (octets []byte, act func(), finished bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.acts) == 0 {
		b = append(b, o.octets...)
		o.octets = o.octets[:0]
		return b, nil, o.finished
	}
	first := o.acts[0]
	b = append(b, o.octets[:first.at]...)
	o.octets = append(o.octets[:0], o.octets[first.at:]...)
	o.acts = o.acts[1:]
	for i := range o.acts {
		o.acts[i].at -= first.at
	}
	return b, first.do, o.finished
}

// writer sends control packets first, then what the network has, all that
// waits in one write.
func (c *Conn) writer() {
	buf := make([]byte, 0, writeBufferLen)
	for {
		octets, act, finished := c.out.take(buf[:0])
		octets, ready := c.fill(octets)
		if len(octets) > 0 {
			if err := c.write(octets); err != nil {
				c.out.fail(err)
				c.raw.Close()
				return
			}
		}
		if act != nil {
			act()
		}
		if act != nil || len(octets) > 0 {
			continue
		}
		if finished {
			c.closeTLS()
			return
		}
		select {
		case <-c.out.wake:
		case <-ready:
			runtime.Gosched() // those about to send run first and share the write
		}
	}
}

// fill appends data frames, and returns the channel that tells of more.
func (c *Conn) fill(b []byte) ([]byte, <-chan struct{}) {
	n := c.data.network.Load()
	if n == nil || n.Fill == nil || !c.data.isOpen() {
		return b, nil
	}
	if c.quirks.Wire.HoldsData && !c.data.packetSeen.Load() {
		return b, nil
	}
	if room := b[len(b):cap(b)]; len(room) >= sstp.MaxPacketLen {
		b = b[:len(b)+n.Fill(room)]
	}
	return b, n.Ready
}

func (c *Conn) closeTLS() {
	if c.quirks.Wire.NoCloseNotify {
		c.raw.Close()
		return
	}
	c.tls.Close()
}

// write sends octets, which are whole packets unless a test sent others.
func (c *Conn) write(octets []byte) error {
	w := &c.quirks.Wire
	if w.ReservedBits || w.Compressed {
		octets = w.rewrite(octets)
	}
	c.raw.cork()
	err := w.records(octets, func(record []byte) error {
		_, err := c.tls.Write(record)
		return err
	})
	return errors.Join(err, c.raw.uncork())
}
