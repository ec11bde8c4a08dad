package names

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// TestFlood: a client that asks more than its share does not keep a server's
// answers from the others, nor what is known already from anybody.
func TestFlood(t *testing.T) {
	z := &zone{says: func(_, _ string, q *dns.Msg) *dns.Msg {
		if strings.HasPrefix(q.Question[0].Name, "silent") {
			return nil
		}
		return says(q, dns.RcodeSuccess, q.Question[0].Name+" 60 IN A 192.0.2.1")
	}}
	pc, l := listen(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	const most = 8
	go func() { done <- z.server(Config{MaxQueries: most}).Serve(ctx, pc, l) }() // ends with ctx
	flood, err := net.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	flood.SetReadDeadline(time.Now().Add(30 * time.Second))
	refused := make([]byte, maxUDPQuery)
	for i := range 3 * most {
		wire, err := question(fmt.Sprintf("silent%d.example.", i), dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		flood.Write(wire)
		if i < most {
			continue // from here on, each makes one refusal at least
		}
		m := new(dns.Msg)
		if n, err := flood.Read(refused); err != nil || m.Unpack(refused[:n]) != nil || m.Rcode != dns.RcodeServerFailure {
			t.Fatalf("got %v, %v, want SERVFAIL", m, err)
		}
	}
	client := dns.Client{Timeout: 10 * time.Second}
	m, _, err := client.Exchange(question("real.example.", dns.TypeA), pc.LocalAddr().String())
	if err != nil || text(m) != "NOERROR; real.example. 60 IN A 192.0.2.1" {
		t.Errorf("got %v, %v", m, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Where all places are taken, what is in the cache is answered.
func TestBusyButCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{says: func(_, _ string, q *dns.Msg) *dns.Msg {
			if q.Question[0].Name == "known.example." {
				return says(q, dns.RcodeSuccess, "known.example. 60 IN A 192.0.2.1")
			}
			return nil
		}}
		s := z.server(Config{MaxQueries: 1})
		wantText(t, s, question("known.example.", dns.TypeA), "NOERROR; known.example. 60 IN A 192.0.2.1")
		go s.reply(t.Context(), question("silent.example.", dns.TypeA), true) // ends with the bubble's time
		synctest.Wait()
		wantText(t, s, question("known.example.", dns.TypeA), "NOERROR; known.example. 60 IN A 192.0.2.1")
		wantText(t, s, question("other.example.", dns.TypeA), "SERVFAIL")
		time.Sleep(time.Minute)
	})
}

// piped is a listener for pipes.
type piped chan net.Conn

func (p piped) Accept() (net.Conn, error) { return <-p, nil }
func (p piped) Close() error              { return nil }
func (p piped) Addr() net.Addr            { return nil }

// TestClients: one more connection ends the one that has been waited for
// longest; with none to wait for, it does not get in.
func TestClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := make(piped)
		l := &clients{Listener: p, max: 2}
		accept := func() (near, far net.Conn) {
			near, far = net.Pipe()
			go func() { p <- far }() // ends with Accept
			far, _ = l.Accept()
			return near, far
		}
		wantClosed := func(name string, near net.Conn) {
			t.Helper()
			near.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := near.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s: got %v, want it closed", name, err)
			}
		}
		ask := func(near, far net.Conn) {
			go near.Write([]byte{1}) // ends with Read
			if _, err := far.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}
		answer := func(near, far net.Conn) {
			go far.Write([]byte{2}) // ends with Read
			near.SetReadDeadline(time.Time{})
			if _, err := near.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			go far.Read(make([]byte, 1)) // the next question; ends with Close
			synctest.Wait()
		}
		first, firstFar := accept()
		second, _ := accept()
		ask(first, firstFar)
		answer(first, firstFar)
		third, thirdFar := accept()
		wantClosed("second, which never asked", second)

		ask(third, thirdFar)
		fourth, fourthFar := accept()
		wantClosed("first, as the third waits for its answer", first)

		ask(fourth, fourthFar)
		fifth, sixth := net.Pipe()
		go func() { // ends with Accept
			p <- sixth
			synctest.Wait()
			fourthFar.Close() // makes room
			_, again := net.Pipe()
			p <- again
		}()
		last, err := l.Accept()
		wantClosed("fifth, as all wait for answers", fifth)
		if err != nil || l.open.Len() != 2 {
			t.Errorf("%d open, %v", l.open.Len(), err)
		}
		last.Close()
		thirdFar.Close()
		if l.open.Len() != 0 {
			t.Errorf("%d left", l.open.Len())
		}
	})
}
