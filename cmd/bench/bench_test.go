package main

import (
	"bytes"
	"io"
	"math"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 9, 2}, 3},
	} {
		given := slices.Clone(tt.values)
		if got := median(given); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.values, got, tt.want)
		}
		if !slices.Equal(given, tt.values) {
			t.Errorf("median changed its argument %v to %v", tt.values, given)
		}
	}
	if got := mean([]float64{1, 2, 6}); got != 3 || mean(nil) != 0 {
		t.Errorf("mean of 1, 2, 6 = %v, want 3; of nothing %v, want 0", got, mean(nil))
	}
}

func TestPercentile(t *testing.T) {
	var d []time.Duration
	for i := 100; i > 0; i-- {
		d = append(d, time.Duration(i)*time.Millisecond)
	}
	for p, want := range map[int]float64{0: 1, 50: 51, 95: 96, 100: 100} {
		if got := percentile(d, p); got != want {
			t.Errorf("percentile %d of 1 to 100 ms = %v, want %v", p, got, want)
		}
	}
	if got := percentile(nil, 50); got != 0 {
		t.Errorf("percentile of nothing = %v, want 0", got)
	}
}

func TestMedians(t *testing.T) {
	a := result{goodput: 1, allocs: 3, resent: 5, cpu: costs{1, 2, 3}, pings: []time.Duration{1}}
	b := result{goodput: 3, allocs: 5, resent: 7, cpu: costs{3, 4, 5}, pings: []time.Duration{2, 3}}
	got := medians([][]result{{a, b}})[0]
	if got.goodput != 2 || got.allocs != 4 || got.resent != 12 || got.cpu != (costs{2, 3, 4}) || len(got.pings) != 3 {
		t.Errorf("medians = %+v", got)
	}
}

func TestBetween(t *testing.T) {
	begun := time.Now()
	from := snapshot{at: begun, octets: 1e9, cpu: [3]time.Duration{1, 2, 3}, stats: clientStats{Mallocs: 10, In: 5, Out: 5, Resent: 1}}
	to := snapshot{
		at: begun.Add(2 * time.Second), octets: 3e9,
		cpu:   [3]time.Duration{2*time.Second + 1, 4*time.Second + 2, 6*time.Second + 3},
		stats: clientStats{Mallocs: 20, In: 10, Out: 20, Resent: 4},
	}
	got := between(from, to)
	if got.goodput != 1e9 || got.cpu != (costs{1, 2, 3}) || got.allocs != 0.5 || got.resent != 3 {
		t.Errorf("between = %+v", got)
	}
}

func TestParseStat(t *testing.T) {
	for _, tt := range []struct {
		stat string
		want time.Duration
	}{
		{"42 (sstproxy) S 1 42 42 0 -1 4194560 1532 0 0 0 123 45 0 0 20 0 9 0 76216 1 2", 1680 * time.Millisecond},
		{"42 (a) b) R 1 42 42 0 -1 4194560 1532 0 0 0 1 2 0 0 20 0 9 0 76216 1 2", 30 * time.Millisecond},
		{"42 (sstproxy) S 1 42", 0},
		{"", 0},
	} {
		if got := parseStat([]byte(tt.stat)); got != tt.want {
			t.Errorf("parseStat(%q) = %v, want %v", tt.stat, got, tt.want)
		}
	}
}

func TestParseRSS(t *testing.T) {
	status := "Name:\tsstproxy\nVmHWM:\t   30000 kB\nVmRSS:\t   12345 kB\nRssAnon:\t 1 kB\n"
	if got := parseRSS([]byte(status)); got != 12345 {
		t.Errorf("parseRSS = %v, want 12345", got)
	}
	if got := parseRSS([]byte("Name:\tzombie\n")); got != 0 {
		t.Errorf("parseRSS without VmRSS = %v, want 0", got)
	}
}

func TestParseState(t *testing.T) {
	line := "time=2026-01-02T03:04:05.678Z level=INFO msg=state connections=7 packets_in=11 packets_out=13 " +
		"bad_checksum=0 dropped=0 retransmits=17 goroutines=5 heap=123456 mallocs=19"
	got, ok := parseState(line)
	if want := (clientStats{Mallocs: 19, In: 11, Out: 13, Resent: 17}); !ok || got != want {
		t.Errorf("parseState = %+v, %v; want %+v", got, ok, want)
	}
	for _, other := range []string{
		"", "level=INFO msg=connecting packets_in=1",
		strings.Replace(line, "mallocs=19", "mallocs=99999999999999999999", 1),
	} {
		if _, ok := parseState(other); ok {
			t.Errorf("parseState(%q) took it for a state", other)
		}
	}
}

func TestChoose(t *testing.T) {
	all := []figure{{name: "a"}, {name: "b"}, {name: "c"}}
	for _, tt := range []struct{ ask, want string }{{"", "a b c"}, {"c a", "a c"}, {"b", "b"}} {
		chosen, err := choose(all, strings.Fields(tt.ask))
		var got []string
		for _, f := range chosen {
			got = append(got, f.name)
		}
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("choose(%q) = %v, %v; want %s", tt.ask, got, err, tt.want)
		}
	}
	if _, err := choose(all, []string{"a", "d"}); err == nil || !strings.Contains(err.Error(), `"d"`) {
		t.Errorf(`choose("d") = %v, want an error that names it`, err)
	}
}

// TestAnswer: the service does what the first octet says, and counts an upload
// for the side that the second names.
func TestAnswer(t *testing.T) {
	for _, tt := range []struct{ send, want string }{
		{"i\x05", "i"}, {"e\x05hello", "hello"}, {"d\x05", strings.Repeat("\x00", 1000)},
	} {
		near, far := net.Pipe()
		go func() { // ends when near is closed
			defer far.Close()
			answer(far)
		}()
		go near.Write([]byte(tt.send)) // ends when it is read
		got := make([]byte, len(tt.want))
		if _, err := io.ReadFull(near, got); err != nil || string(got) != tt.want {
			t.Errorf("answer to %q: %q, %v; want %q", tt.send, got, err, tt.want)
		}
		near.Close()
	}
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() { answer(far); close(done) }() // ends when near is closed
	before := sunk[7].Load()
	if _, err := near.Write([]byte("u\x07hello")); err != nil {
		t.Fatal(err)
	}
	near.Close()
	<-done
	if got := sunk[7].Load() - before; got != 5 {
		t.Errorf("counted %d octets of an upload of 5", got)
	}
}

// pipeListener accepts what is sent to it, until it is closed.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l pipeListener) Close() error { close(l); return nil }

func (pipeListener) Addr() net.Addr { return nil }

// servedConn notes which goroutine reads from it: the number in "goroutine N
// [running]", the first line of its stack.
type servedConn struct {
	net.Conn
	by string
}

func (c *servedConn) Read(b []byte) (int, error) {
	line := make([]byte, 64)
	c.by = string(bytes.Fields(line[:runtime.Stack(line, false)])[1])
	return c.Conn.Read(b)
}

// TestServe: no connection waits for another, a goroutine that is done takes the
// next, and none outlives the listener.
func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := make(pipeListener)
		go serve(l) // ends when l is closed
		ask := func() (near net.Conn, by string) {
			near, far := net.Pipe()
			c := &servedConn{Conn: far}
			l <- c
			near.Write([]byte{askIdle, 0})
			io.ReadFull(near, make([]byte, 1))
			synctest.Wait()
			return near, c.by
		}
		idle, first := ask()
		other, second := ask()
		if second == first {
			t.Error("one goroutine serves two at once")
		}
		idle.Close()
		synctest.Wait()
		next, again := ask()
		if again != first {
			t.Errorf("served by goroutine %s, want %s, which is done", again, first)
		}
		next.Close()
		l.Close()
		synctest.Wait()
		other.Close()
	})
}

// TestRatioError: what pairs have in common does not count, all else does.
func TestRatioError(t *testing.T) {
	for _, tt := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{3, 5, 10}, []float64{6, 10, 20}, 0},
		{[]float64{3, 5}, []float64{4, 4}, 0.25},
		{[]float64{4, 4}, []float64{7, 9}, 0.25},
	} {
		if got := ratioError(tt.a, tt.b); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("ratioError(%v, %v) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestReport(t *testing.T) {
	var r report
	r.compare("both", "k1", "s", 2, 3, ">= 1")
	r.compareStock("stock", "k2", []float64{3, 5}, []float64{4, 4}, "")
	r.absolute("alone", "k3", "ms", 12345.6, "")
	var b bytes.Buffer
	r.write(&b)
	for _, want := range []string{"1.50", ">= 1", "4 (stock)", "1.00 ±0.25", "12346"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}
