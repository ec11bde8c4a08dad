package tunneltest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// TestMain fails if a goroutine is left after the tests.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	for range 100 {
		if runtime.NumGoroutine() <= before {
			break
		}
		runtime.Gosched()
		<-time.After(10 * time.Millisecond)
	}
	fuzzing := flag.Lookup("test.fuzz").Value.String() != "" // has goroutines of its own
	if n := runtime.NumGoroutine(); code == 0 && n > before && !fuzzing {
		buf := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "%d goroutines left, %d before:\n%s", n, before, buf[:runtime.Stack(buf, true)])
		code = 1
	}
	os.Exit(code)
}

// dialTCP connects a scripted client over loopback.
func dialTCP(t testing.TB, server *Server) *tls.Conn {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.CA())
	conn, err := tls.Dial("tcp", server.Addr().String(), &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

func TestTCP(t *testing.T) {
	server, err := Start(Config{Users: map[string]string{testUser: testPassword}, Attach: Reflect})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	addrs := make(map[netip.Addr]bool)
	clients := make([]*client, 4)
	for i := range clients {
		c := &client{t: t, server: server, tls: dialTCP(t, server), user: testUser, pass: testPassword}
		c.up()
		c.sendIP(c.ping(1000))
		c.want("IPv4")
		addrs[c.addr] = true
		clients[i] = c
	}
	if len(addrs) != len(clients) {
		t.Errorf("%d addresses for %d clients", len(addrs), len(clients))
	}
	for _, c := range clients {
		c.hangUp()
	}
	if err := server.WaitCount(t.Context(), EventEnded, len(clients)); err != nil {
		t.Fatal(err)
	}
	if len(server.pool.lent) != 0 {
		t.Errorf("%d addresses not given back", len(server.pool.lent))
	}
	if n := server.Count(EventCloseNotify); n != len(clients) {
		t.Errorf("%d times close_notify, want %d", n, len(clients))
	}
}

func TestServe(t *testing.T) {
	server, err := NewServer(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if server.Addr() != nil {
		t.Error("address without a listener")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := server.Wait(t.Context(), EventAccepted); err != nil {
		t.Fatal(err)
	}
	if n := len(server.Sessions()); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	server.Close()
	if err := <-done; !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: %v, want ErrServerClosed", err)
	}
	if err := server.Serve(l); !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve after Close: %v, want ErrServerClosed", err)
	}
	near, far := net.Pipe()
	defer near.Close()
	server.ServeConn(far)
	if n := len(server.Sessions()); n != 0 {
		t.Errorf("%d sessions after Close", n)
	}
}

func TestNewServerRefuses(t *testing.T) {
	four := netip.MustParseAddr("10.0.0.53")
	for _, cfg := range []Config{
		{DNS: []netip.Addr{four, four, four}},
		{Pool: netip.MustParsePrefix("10.0.0.0/31")},
		{Pool: netip.MustParsePrefix("fd00::/64")},
		{Gateway: netip.MustParseAddr("fd00::1")},
		{Certificate: &tls.Certificate{}},
	} {
		if _, err := NewServer(cfg); err == nil {
			t.Errorf("NewServer(%+v): no error", cfg)
		}
	}
}

func TestWait(t *testing.T) {
	server, err := NewServer(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := server.Wait(ctx, EventTLS); !errors.Is(err, cause) {
		t.Errorf("Wait: %v, want the cause", err)
	}
	if err := server.WaitCount(ctx, EventTLS, 2); !errors.Is(err, cause) {
		t.Errorf("WaitCount: %v, want the cause", err)
	}
	for range eventsKept + 1 {
		server.log.record(Event{Kind: EventTLS, Detail: "x"})
	}
	if n := len(server.Events()); n > eventsKept || server.Count(EventTLS) != eventsKept+1 {
		t.Errorf("%d events kept, %d counted", n, server.Count(EventTLS))
	}
	e, err := server.WaitFunc(t.Context(), func(e Event) bool { return e.Detail == "x" })
	if err != nil || e.String() != "TLS: x" {
		t.Errorf("WaitFunc: %v, %v", e, err)
	}
}

// TestHook replaces one packet, drops another and adds a third.
func TestHook(t *testing.T) {
	hook := func(c *Conn, e Event) bool {
		switch {
		case e.Kind == EventSending && e.Name == "Call Connect Ack" && c.Info().User == "":
			c.SendMessage(sstp.Message{Type: sstp.EchoRequest})
			c.Send(bytes.Clone(e.Packet))
			return true
		case e.Kind == EventReceived && e.Name == "Echo Response":
			return true
		case e.Kind == EventCallConnected:
			c.SendFrame(ppp.ProtoMPLSCP, ppp.Packet{Code: ppp.ConfigureRequest, Identifier: 5})
		}
		return false
	}
	bubble(t, Config{Hook: hook}, func(t *testing.T, c *client) {
		c.start()
		c.message(sstp.CallConnectRequest, pppID)
		c.want("Echo Request")
		c.takeAck(c.want("Call Connect Ack"))
		c.message(sstp.EchoResponse) // too early, but the hook takes it
		c.login()
		c.connected(sstp.HashSHA256, nil)
		c.want("MPLSCP Configure-Request")
		c.wantNoEvents(EventEchoResponse)
	})
}

// TestNoSecretsLogged runs a session with a logger and looks for the password
// and what was made of it.
func TestNoSecretsLogged(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	bubble(t, Config{Logger: logger}, func(t *testing.T, c *client) {
		c.up()
		c.hangUp()
		text := log.String()
		if !strings.Contains(text, "CHAP Success") || strings.Contains(text, testPassword) ||
			strings.Contains(text, fmt.Sprintf("%x", c.hlak)) {
			t.Errorf("log has no line of CHAP Success, or a secret:\n%s", text)
		}
	})
}

// TestDetach wants the network let go once, after the session.
func TestDetach(t *testing.T) {
	detached := 0
	attach := func(c Client) Network {
		if c.User != testUser || c.MTU != 1500 || !c.Addr.IsValid() || c.Conn == nil {
			t.Errorf("attached %+v", c)
		}
		return Network{Detach: func() { detached++ }}
	}
	bubble(t, Config{Attach: attach}, func(t *testing.T, c *client) {
		c.up()
		c.sendIP(c.ping(1))
		c.hangUp()
		if detached != 1 {
			t.Errorf("detached %d times, want 1", detached)
		}
	})
}

// TestDeliverAllocs is the data path: packets of a full buffer, no allocation.
func TestDeliverAllocs(t *testing.T) {
	server, err := NewServer(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	c := newConn(server, newLineConn(server.line, far, nil))
	packets := 0
	c.data.network.Store(&Network{Deliver: func(batch [][]byte) { packets += len(batch) }})
	c.data.open4.Store(true)
	c.data.packetSeen.Store(true)
	stream := bytes.Repeat(sstp.AppendData(nil, ppp.AppendFrame(nil, ppp.ProtoIPv4, make([]byte, 1400))), 40)
	r := packetReader{conn: c, batch: make([][]byte, 0, readBufferLen/64)}
	allocs := testing.AllocsPerRun(100, func() {
		if n, ok := r.take(stream); n != len(stream) || !ok {
			t.Errorf("took %d of %d octets, %v", n, len(stream), ok)
		}
	})
	if allocs != 0 || packets != 101*40 {
		t.Errorf("%v allocations, %d packets; want 0, %d", allocs, packets, 101*40)
	}
}
