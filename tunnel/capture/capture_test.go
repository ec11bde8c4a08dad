package capture

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// packet is what a reader finds in the file.
type packet struct {
	at   time.Time
	sent bool
	data string
}

// read reads a whole file, which must be one.
func read(t *testing.T, file []byte) (packets []packet, r *pcapgo.NgReader) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, ci, options, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			return packets, r
		}
		if err != nil {
			t.Fatalf("after %d packets: %v", len(packets), err)
		}
		if options.Flags == nil {
			t.Fatalf("packet %d has no direction", len(packets))
		}
		packets = append(packets, packet{ci.Timestamp, options.Flags.Direction == pcapgo.NgEpbFlagDirectionOutbound, string(data)})
	}
}

// slowFile takes nothing while it is held, and fails if it shall.
type slowFile struct {
	bytes.Buffer
	hold sync.Mutex
	err  error
}

func (f *slowFile) Write(b []byte) (int, error) {
	f.hold.Lock()
	defer f.hold.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	return f.Buffer.Write(b)
}

func start(t *testing.T, file io.Writer) *Writer {
	t.Helper()
	w, err := New(file, Config{Program: "sstproxy 1", Link: "PPP to vpn.example.test", Comment: "no passwords"})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestFile: what went in comes out, with time and direction, as soon as there is
// nothing else to do; then the counters.
func TestFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file slowFile
		w := start(t, &file)
		synctest.Wait()
		if packets, r := read(t, file.Bytes()); len(packets) != 0 || r.LinkType() != layers.LinkTypePPP {
			t.Errorf("new file: %d packets of link type %v, want none of %v", len(packets), r.LinkType(), layers.LinkTypePPP)
		}
		var want []packet
		for i, text := range []string{"\xff\x03\xc0\x21first", "\xff\x03\x00\x21second", ""} {
			time.Sleep(time.Second + time.Nanosecond)
			out := i%2 == 0
			borrowed := []byte(text)
			w.Frames(out, [][]byte{borrowed, []byte("x")})
			clear(borrowed)
			want = append(want, packet{time.Now(), out, text}, packet{time.Now(), out, "x"})
			synctest.Wait()
			got, _ := read(t, file.Bytes()) // whole without Close
			if !slices.EqualFunc(got, want, func(a, b packet) bool { return a.at.Equal(b.at) && a.sent == b.sent && a.data == b.data }) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, r := read(t, file.Bytes())
		link, err := r.Interface(0)
		if err != nil {
			t.Fatal(err)
		}
		if got := link.Statistics; got.PacketsReceived != 6 || got.PacketsDropped != 0 {
			t.Errorf("counters: got %d, %d dropped, want 6 and 0", got.PacketsReceived, got.PacketsDropped)
		}
		if got := r.SectionInfo(); link.Description != "PPP to vpn.example.test" || got.Application != "sstproxy 1" || got.Comment != "no passwords" {
			t.Errorf("head: got %q, %+v", link.Description, got)
		}
	})
}

// TestSlowFile: a file that takes nothing holds up nobody; what does not fit
// is counted.
func TestSlowFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file slowFile
		w := start(t, &file)
		file.hold.Lock()
		frame := []byte(strings.Repeat("f", 1000))
		const frames = 3 * maxQueued / 1000
		for range frames {
			w.Frames(true, [][]byte{frame})
		}
		w.mu.Lock()
		if n := w.queue.size(); n > maxQueued {
			t.Errorf("%d octets queued, want %d at most", n, maxQueued)
		}
		w.mu.Unlock()
		file.hold.Unlock()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		stats := w.Stats()
		if stats.Dropped < frames/3 || stats.Written < maxQueued/(1000+overhead) || stats.Written+stats.Dropped != frames {
			t.Errorf("got %+v of %d frames", stats, frames)
		}
		packets, r := read(t, file.Bytes())
		if uint64(len(packets)) != stats.Written {
			t.Errorf("%d frames in the file, %d counted", len(packets), stats.Written)
		}
		if link, _ := r.Interface(0); link.Statistics.PacketsDropped != stats.Dropped {
			t.Errorf("file tells of %d dropped, want %d", link.Statistics.PacketsDropped, stats.Dropped)
		}
	})
}

// TestFullDisk: after an error nothing more is written, and Close tells it.
func TestFullDisk(t *testing.T) {
	full := errors.New("no space left")
	synctest.Test(t, func(t *testing.T) {
		if _, err := New(&slowFile{err: full}, Config{}); !errors.Is(err, full) {
			t.Errorf("New: got %v, want %v", err, full)
		}
		var file slowFile
		w := start(t, &file)
		w.Frames(false, [][]byte{[]byte("written")})
		synctest.Wait()
		file.err = full
		w.Frames(false, [][]byte{[]byte("lost")})
		synctest.Wait()
		file.err = nil
		w.Frames(false, [][]byte{[]byte("not tried")})
		if err := w.Close(); !errors.Is(err, full) {
			t.Errorf("Close: got %v, want %v", err, full)
		}
		w.Frames(false, [][]byte{[]byte("too late")})
		if got, want := w.Stats(), (Stats{Written: 1, Dropped: 3}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if err := w.Close(); !errors.Is(err, ErrClosed) {
			t.Errorf("second Close: got %v, want %v", err, ErrClosed)
		}
		if packets, _ := read(t, file.Bytes()); len(packets) != 1 {
			t.Errorf("%d frames in the file, want 1", len(packets))
		}
	})
}

// TestFramesAllocate: in the long run a batch costs its sender no allocation.
func TestFramesAllocate(t *testing.T) {
	w := &Writer{ready: make(chan struct{}, 1), queue: queue{make([]byte, 0, maxQueued), make([]mark, 0, maxQueued/overhead)}}
	batch := [][]byte{make([]byte, 1500), make([]byte, 1500)}
	if n := testing.AllocsPerRun(100, func() { w.Frames(true, batch) }); n != 0 || w.Stats().Dropped != 0 {
		t.Errorf("%v allocations for each batch and %d frames dropped, want none", n, w.Stats().Dropped)
	}
}
