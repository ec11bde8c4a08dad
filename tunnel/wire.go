package tunnel

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

const (
	// readBuffer holds what one turn of the reader parses.
	readBuffer = 256 << 10
	// writeBatch is the most that one write to TLS takes; a control packet waits
	// no longer. Four full TLS records share a system call.
	writeBatch = 64 << 10
	// maxQueued bounds, in octets, the control packets that wait to be sent.
	maxQueued = 256 << 10
)

// read parses the SSTP packets that TLS brings, in place: IP packets go to
// Deliver in batches, the rest to the loop. rest holds octets already read.
func (s *Session) read(rest []byte) {
	defer close(s.inbound)
	buf := make([]byte, max(readBuffer, 2*len(rest)))
	n := copy(buf, rest)
	var batch [][]byte
	for {
		used, err := s.parse(buf[:n], &batch)
		if err != nil {
			s.readErr = err
			return
		}
		n = copy(buf, buf[used:n])
		got, err := s.fill(buf[n:])
		if got == 0 && err != nil {
			s.readErr = err
			return
		}
		n += got
		s.heard.Store(int64(time.Since(s.base)))
	}
}

// fill reads from TLS until nothing more is there without waiting, so that one
// batch holds all that one read from TCP brought, and is not kept back by a part
// of a record, or by one that brings no data.
func (s *Session) fill(b []byte) (n int, err error) {
	defer func() { s.raw.hasty = false }()
	for err == nil && (n == 0 || len(b)-n >= maxRecord) {
		var got int
		got, err = s.conn.Read(b[n:])
		n += got
		s.raw.hasty = n > 0
	}
	if errors.Is(err, errNothingRead) {
		err = nil
	}
	return n, err
}

// maxRecord is the largest plaintext of a TLS record (RFC 8446 5.1).
const maxRecord = 16 << 10

// parse walks the whole packets at the front of b and returns their length.
func (s *Session) parse(b []byte, batch *[][]byte) (used int, err error) {
	packets := (*batch)[:0]
	for {
		p, n, e := sstp.ParsePacket(b[used:])
		if n == 0 || e != nil {
			err = e
			break
		}
		used += n
		if ip, ok := s.ipPacket(p); ok {
			packets = append(packets, ip)
		} else if ip == nil {
			s.inbound <- frame{control: p.Control, payload: bytes.Clone(p.Payload)}
		}
	}
	if s.capture != nil {
		s.record(false, b[:used])
	}
	if to := s.packets.Load(); to != nil && len(packets) > 0 {
		to.Deliver(packets)
	}
	*batch = packets
	return used, err
}

// ipPacket returns the IP packet in p; ok is false if p is none (ip is nil) or
// may not travel now: servers and we drop it then.
func (s *Session) ipPacket(p sstp.Packet) (ip []byte, ok bool) {
	if p.Control {
		return nil, false
	}
	proto, info, err := ppp.ParseFrame(p.Payload)
	if err != nil || proto != ppp.ProtoIPv4 && proto != ppp.ProtoIPv6 {
		return nil, false
	}
	version := byte(4)
	if proto == ppp.ProtoIPv6 {
		version = 6
	}
	if len(info) == 0 || info[0]>>4 != version {
		return p.Payload, false
	}
	return info, s.open.Load()
}

// write sends what the loop has queued, then what Fill gives, until stop.
func (s *Session) write() {
	defer close(s.out.drained)
	buf := make([]byte, 0, writeBatch+maxQueued)
	for stopped := false; ; {
		// Looked at on both sides of take: an Ack that opens a protocol is in
		// the queue before open is set, and open is cleared before a request
		// to end it is queued. No IP packet goes before the one or after the other.
		open := s.open.Load()
		b := s.out.take(buf)
		var ready <-chan struct{}
		if from := s.packets.Load(); from != nil && open && s.open.Load() && !stopped {
			b = b[:len(b)+from.Fill(b[len(b):min(len(b)+s.room(), cap(b))])]
			ready = from.Ready
		}
		if len(b) == 0 {
			if stopped {
				return
			}
			select {
			case <-s.out.ready:
			case <-ready:
				// Goroutines that are about to send run first, so that their
				// packets share the write.
				runtime.Gosched()
			case <-s.stop:
				stopped = true
			}
			continue
		}
		if s.capture != nil {
			s.record(true, b)
		}
		if err := s.send(b); err != nil {
			s.out.broken = true
			s.writeErr <- err
			return
		}
		s.sent.Store(int64(time.Since(s.base)))
	}
}

// room is how much to take from Fill: what has been taken can't be overtaken any
// more, so on a slow link no more than it takes in a short time.
func (s *Session) room() int { return min(writeBatch, s.raw.watch.chunk) }

// send writes a batch as TLS records that share one system call.
func (s *Session) send(b []byte) error {
	s.raw.cork()
	_, err := s.conn.Write(b)
	if e := s.raw.flush(); err == nil {
		err = e
	}
	return err
}

// sendQueue holds the control packets that wait for the writer.
type sendQueue struct {
	mu      sync.Mutex
	queued  []byte
	ready   chan struct{} // capacity 1
	drained chan struct{} // closed when the writer has ended
	broken  bool          // because a write failed; valid after drained is closed
}

func (q *sendQueue) init() {
	q.ready, q.drained = make(chan struct{}, 1), make(chan struct{})
}

// add queues a copy of an SSTP packet.
func (q *sendQueue) add(packet []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queued)+len(packet) > maxQueued {
		return ErrFlood
	}
	q.queued = append(q.queued, packet...)
	q.wake()
	return nil
}

// take moves what is queued to the front of buf, which has room for all of it.
func (q *sendQueue) take(buf []byte) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	buf = append(buf[:0], q.queued...)
	clear(q.queued) // a login may be in it
	q.queued = q.queued[:0]
	return buf
}

// wake makes the writer look again.
func (q *sendQueue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// logMessage writes one line for a control packet.
func (s *Session) logMessage(event string, payload []byte) {
	if !s.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	m, err := sstp.ParseMessage(payload)
	if err != nil {
		s.log.Debug(event, "proto", "SSTP", "err", err)
		return
	}
	s.log.Debug(event, "proto", "SSTP", "message", m.String())
}

// logFrame writes one line for a PPP frame. Its data is left out: it holds
// credentials.
func (s *Session) logFrame(event string, b []byte) {
	if !s.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	proto, info, err := ppp.ParseFrame(b)
	if err != nil {
		s.log.Debug(event, "err", err)
		return
	}
	p, err := ppp.ParsePacket(info)
	if err != nil {
		s.log.Debug(event, "proto", proto, "err", err)
		return
	}
	var code any = p.Code
	if proto == ppp.ProtoPAP || proto == ppp.ProtoCHAP || proto == ppp.ProtoEAP {
		code = uint8(p.Code) // their codes are others
	}
	s.log.Debug(event, "proto", proto, "code", code, "id", p.Identifier, "len", len(p.Data)+4)
}
