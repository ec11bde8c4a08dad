// Package capture writes the PPP frames of a tunnel to a file that Wireshark
// and tcpdump read (pcapng, draft-ietf-opsawg-pcapng). It knows nothing of the
// tunnel, and shows the file all it is given: who has secrets to keep blanks
// them before.
//
// The two functions most callers need are [New] and [Writer.Frames]:
//
//	w, err := capture.New(file, capture.Config{Program: "sstproxy 1.0", Link: "PPP in SSTP to vpn.example.com"})
//	if err != nil {
//		return err
//	}
//	defer w.Close()
//	cfg.Capture = w.Frames
package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

const (
	// maxQueued bounds, in octets, what waits to be written: some milliseconds
	// of the fastest tunnel, and most of a second of one with 50 Mbit/s.
	maxQueued = 4 << 20
	// overhead is what counts for a frame besides its own octets.
	overhead = 48
)

// ErrClosed is what Close returns when it was called before.
var ErrClosed = errors.New("capture: closed")

// Config says what stands at the head of the file, for its reader.
type Config struct {
	Program string // what wrote it
	Link    string // what was captured
	Comment string // what else there is to know
}

// Stats counts frames.
type Stats struct {
	Written uint64
	Dropped uint64 // for want of room in the queue, or because the file failed
}

// Writer writes to one file, by a goroutine of its own. Its methods may be
// called from any goroutine.
type Writer struct {
	ready chan struct{} // capacity 1: something is queued, or Close was called
	done  chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	queue  queue
	stats  Stats
	closed bool

	// Owned by the goroutine until done is closed.
	file io.Writer
	out  bytes.Buffer // whole blocks, for one write
	ng   *pcapgo.NgWriter
	err  error // why the file is given up
}

// queue holds frames, one behind the other, and what belongs to each.
type queue struct {
	octets []byte
	marks  []mark
}

type mark struct {
	end  int // of the frame in octets
	at   time.Time
	sent bool
}

func (q *queue) size() int { return len(q.octets) + overhead*len(q.marks) }

// New writes the head of the file and starts the goroutine, which Close ends.
func New(file io.Writer, cfg Config) (*Writer, error) {
	w := &Writer{file: file, ready: make(chan struct{}, 1), done: make(chan struct{})}
	var err error
	w.ng, err = pcapgo.NewNgWriterInterface(&w.out, pcapgo.NgInterface{
		Name: "tunnel", Description: cfg.Link, OS: runtime.GOOS, LinkType: layers.LinkTypePPP,
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: cfg.Program, Comment: cfg.Comment,
	}})
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	go w.run() // ends with Close
	return w, nil
}

// Frames records frames that were sent or received just now. It does not wait
// for the file: what finds no room is dropped, and counted. The frames are
// borrowed until it returns.
func (w *Writer) Frames(sent bool, frames [][]byte) {
	now := time.Now()
	w.mu.Lock()
	for _, f := range frames {
		if w.closed || w.queue.size()+overhead+len(f) > maxQueued {
			w.stats.Dropped++
			continue
		}
		w.queue.octets = append(w.queue.octets, f...)
		w.queue.marks = append(w.queue.marks, mark{len(w.queue.octets), now, sent})
	}
	w.mu.Unlock()
	w.wake()
}

// Stats counts the frames up to now.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// Close writes what waits, and the counters, and returns the error because of
// which frames are missing, if there was one. The file stays open.
func (w *Writer) Close() error {
	w.mu.Lock()
	again := w.closed
	w.closed = true
	w.mu.Unlock()
	if again {
		return ErrClosed
	}
	w.wake()
	<-w.done
	if w.err != nil {
		return fmt.Errorf("capture: %w", w.err)
	}
	return nil
}

func (w *Writer) wake() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// run writes what is queued, all of it at once, until Close.
func (w *Writer) run() {
	defer close(w.done)
	var spare queue
	for range w.ready {
		var closed bool
		spare, closed = w.take(spare)
		w.write(spare)
		if closed {
			w.finish()
			return
		}
	}
}

// take swaps the queue for an empty one.
func (w *Writer) take(empty queue) (full queue, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	full, w.queue = w.queue, queue{empty.octets[:0], empty.marks[:0]}
	return full, w.closed
}

// write appends frames to the file, or counts them as dropped if that fails or
// has failed: what follows half a block can't be read.
func (w *Writer) write(q queue) {
	if len(q.marks) == 0 {
		return
	}
	start := 0
	for _, m := range q.marks {
		if w.err == nil {
			w.err = w.encode(m, q.octets[start:m.end])
		}
		start = m.end
	}
	if w.err == nil {
		w.err = w.flush()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		w.stats.Dropped += uint64(len(q.marks))
	} else {
		w.stats.Written += uint64(len(q.marks))
	}
}

// encode adds a frame to the blocks that are written next. The direction stands
// in the block's flags: LINKTYPE_PPP_WITH_DIR, which has an octet for it, is one
// that tcpdump can't read.
func (w *Writer) encode(m mark, frame []byte) error {
	flags := pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}
	if m.sent {
		flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	return w.ng.WritePacketWithOptions(
		gopacket.CaptureInfo{Timestamp: m.at, CaptureLength: len(frame), Length: len(frame)},
		frame, pcapgo.NgPacketOptions{Flags: &flags})
}

// finish writes the counters: a reader of the file sees what is missing.
func (w *Writer) finish() {
	if w.err != nil {
		return
	}
	stats := w.Stats()
	w.err = w.ng.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{
		LastUpdate: time.Now(), PacketsReceived: stats.Written + stats.Dropped, PacketsDropped: stats.Dropped,
	})
	if w.err == nil {
		w.err = w.flush()
	}
}

// flush writes whole blocks only, in one write, so that the file can be read at
// any time, and after a crash.
func (w *Writer) flush() error {
	if err := w.ng.Flush(); err != nil {
		return err
	}
	_, err := w.out.WriteTo(w.file)
	return err
}
