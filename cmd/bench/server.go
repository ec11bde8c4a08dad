package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"time"

	"sstproxy/netstack"
	"sstproxy/tunnel/tunneltest"
)

// The account, and the service inside the tunnel.
const (
	benchUser     = "bench"
	lightUser     = "light" // whose network is a responder
	benchPassword = "bench"
	servicePort   = 9000
	tunnelMTU     = 1400
)

// farEnd is what the server process tells once it serves.
type farEnd struct {
	SSTP    string // address of the SSTP server
	Watched string // the same server, with a far end that notices stalls
	Raw     string // address of the service over bare TLS
	Plain   string // the same over bare TCP, for a tunnel that ends on this machine
	Light   string // a host over bare TCP
	Service string // address of the service inside the tunnel
	Control string // HTTP: /N says what the uploads of side N have brought
	CA      []byte // PEM
}

// runServer is the far end of both sides: an SSTP server with the service
// inside its network, and the same service behind bare TLS. It ends when it is
// interrupted.
func runServer() error {
	halfProcessors()
	gateway := netip.MustParseAddr("10.66.0.1")
	authority, err := tunneltest.NewAuthority()
	if err != nil {
		return err
	}
	leaf, err := authority.Issue(tunneltest.GoodLeaf())
	if err != nil {
		return err
	}
	server, err := tunneltest.NewServer(tunneltest.Config{
		Users:       accounts(),
		Gateway:     gateway,
		DNS:         []netip.Addr{gateway},
		Certificate: leaf,
		TLS:         benchTLS(),
		Attach:      attach,
	})
	if err != nil {
		return err
	}
	defer server.Close()
	far := farEnd{CA: authority.PEM(), Service: netip.AddrPortFrom(gateway, servicePort).String()}
	var listeners [6]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
		defer listeners[i].Close()
	}
	for i, address := range []*string{&far.SSTP, &far.Raw, &far.Control, &far.Watched, &far.Plain, &far.Light} {
		*address = listeners[i].Addr().String()
	}
	config := benchTLS()
	config.Certificates = []tls.Certificate{*leaf}
	go server.Serve(listeners[0])                   // ends with server.Close
	go server.Serve(watchedListener{listeners[3]})  // the same
	go serve(tls.NewListener(listeners[1], config)) // ends with the listener
	go serve(listeners[4])                          // the same
	go func() {                                     // ends with the process
		fmt.Fprintln(os.Stderr, "bench server:", host(listeners[5].(*net.TCPListener)))
	}()
	go http.Serve(listeners[2], http.HandlerFunc(control)) // ends with the listener
	if err := json.NewEncoder(os.Stdout).Encode(far); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
	return nil
}

// benchTLS is what both sides speak: TLS 1.3 with AES-128-GCM, which Go prefers
// where the processor has AES.
func benchTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true}
}

func control(w http.ResponseWriter, r *http.Request) {
	side, err := strconv.ParseUint(strings.TrimPrefix(r.URL.Path, "/"), 10, 8)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, sunk[side].Load())
}

// sunk asks a server process how many octets the uploads of a side have
// brought it.
func (f farEnd) sunk(side byte) (n int64, err error) {
	resp, err := http.Get(fmt.Sprintf("http://%s/%d", f.Control, side))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return n, json.NewDecoder(resp.Body).Decode(&n)
}

// attach gives each session a stack of its own, with the service on it, or a
// responder.
func attach(c tunneltest.Client) tunneltest.Network {
	if c.User == lightUser {
		return newResponder()
	}
	stack, err := netstack.New(netstack.Config{
		Headroom: tunneltest.Headroom, PutHeader: tunneltest.PutHeader,
		Memory: netstack.MemoryLarge, // the figures are about the client's
	})
	if err != nil {
		return tunneltest.Network{}
	}
	err = stack.SetLink(netstack.Link{
		Addrs: []netip.Prefix{netip.PrefixFrom(c.Gateway, 32)},
		MTU:   min(c.MTU, tunnelMTU),
	})
	if err == nil {
		var l net.Listener
		if l, err = stack.Listen("tcp", netip.AddrPortFrom(c.Gateway, servicePort).String()); err == nil {
			go serve(l) // ends with the stack
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench server:", err)
	}
	origins.Store(c.Conn.Info().RemoteAddr.String(), stack)
	return lossOf(c.User).on(tunneltest.Network{
		Deliver: stack.Deliver, Ready: stack.Ready(), Fill: stack.Fill,
		Detach: func() {
			origins.Delete(c.Conn.Info().RemoteAddr.String())
			stack.Close()
		},
	})
}

// origins are the stacks at the far end, by the address of their client.
var origins sync.Map

// watchedListener accepts connections that tell their stack when they stand
// still. The stack stands for an origin behind a VPN server, and those are of
// systems that notice that a timeout was spurious (RFC 5682) and undo it; gVisor's
// TCP does not, so its clock is stopped instead.
type watchedListener struct{ net.Listener }

func (l watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	// A write must wait soon after the path stops, not megabytes later.
	if err := c.(*net.TCPConn).SetWriteBuffer(64 << 10); err != nil {
		return nil, err
	}
	return watchedConn{c}, nil
}

type watchedConn struct{ net.Conn }

func (c watchedConn) Write(b []byte) (int, error) {
	stalled := func(still bool) {
		if stack, ok := origins.Load(c.RemoteAddr().String()); ok {
			stack.(*netstack.Stack).Stalled(still)
		}
	}
	watch := time.AfterFunc(50*time.Millisecond, func() { stalled(true) })
	n, err := c.Conn.Write(b)
	if !watch.Stop() {
		stalled(false)
	}
	return n, err
}
