package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sstproxy/netstack"
	"sstproxy/tunnel/tunneltest"
)

// serveInside answers each connection to a port of the private network.
func serveInside(t *testing.T, stack *netstack.Stack, port uint16, answer func(net.Conn)) string {
	t.Helper()
	l, err := stack.Listen("tcp", netip.AddrPortFrom(demoWeb, port).String())
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, answer)
	return l.Addr().String()
}

// echoAtEnd says what it got, when the other end has closed its direction.
func echoAtEnd(c net.Conn) {
	b, err := io.ReadAll(c)
	if err == nil {
		fmt.Fprintf(c, "got %s", b)
	}
}

// hangUp resets the connection behind the first octet.
func hangUp(c net.Conn) {
	c.Read(make([]byte, 1))
	c.(interface{ SetLinger(int) error }).SetLinger(0)
}

// forwardAt waits for a forward to a destination and returns where it listens.
func (c *command) forwardAt(t *testing.T, to string) string {
	t.Helper()
	line := c.stderr.wait(t, " to="+to)
	_, rest, _ := strings.Cut(line, "listen=")
	at, _, _ := strings.Cut(strings.TrimPrefix(rest, `"`), " to=")
	return strings.TrimSuffix(at, `"`)
}

// halfClosed sends text, closes its direction and returns what comes back.
func halfClosed(t *testing.T, c net.Conn, text string) string {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, text)
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func dialLocal(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// wantReset expects that a connection is reset behind its first octet, or before
// that, when the system may report it as the error of connecting.
func wantReset(t *testing.T, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		conn.Write([]byte("x"))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s: got %v, want a reset", address, err)
	}
}

// -L over TCP, on a port and on a socket file: half-closes, resets and refusals
// come through, a connection outlives a reconnect, and names are those of the
// tunnel.
func TestLocalForward(t *testing.T) {
	site, stack := startNetwork(t)
	echo, reset := serveInside(t, stack, 7, echoAtEnd), serveInside(t, stack, 8, hangUp)
	socket := filepath.Join(shortDir(t), "f")
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()),
		"-L", "0:"+echo, "-L", "127.0.0.1:0:"+reset, "-L", "0:10.99.0.80:9", "--local-forward", "0:"+demoHost+":80", "-L", "unix:"+socket+":"+demoWeb.String()+":7")...)
	at := c.forwardAt(t, echo)
	if host, _, _ := net.SplitHostPort(at); host != "127.0.0.1" {
		t.Errorf("listens on %s, want loopback", at)
	}
	if got := halfClosed(t, dialLocal(t, "tcp", at), "hello"); got != "got hello" {
		t.Errorf("echo: got %q", got)
	}
	if got := halfClosed(t, dialLocal(t, "tcp", at), ""); got != "got " {
		t.Errorf("a client that closes at once: got %q", got)
	}
	if got := halfClosed(t, dialLocal(t, "unix", socket), "hello"); got != "got hello" {
		t.Errorf("echo over the socket file: got %q", got)
	}
	for _, to := range []string{reset, "10.99.0.80:9"} {
		wantReset(t, c.forwardAt(t, to))
	}
	c.stderr.wait(t, "the destination refused the connection")

	conn := dialLocal(t, "tcp", at)
	io.WriteString(conn, "across ")
	n := site.Count(tunneltest.EventIPCPOpened)
	site.Line().Reset()
	if err := site.WaitCount(t.Context(), tunneltest.EventIPCPOpened, n+1); err != nil {
		t.Fatal(err)
	}
	if got := halfClosed(t, conn, "sessions"); got != "got across sessions" {
		t.Errorf("over a reconnect: got %q", got)
	}
	web := dialLocal(t, "tcp", c.forwardAt(t, demoHost+":80"))
	fmt.Fprintf(web, "GET / HTTP/1.0\r\n\r\n")
	if b, err := io.ReadAll(web); err != nil || !bytes.Contains(b, []byte(demoGreeting)) {
		t.Errorf("by name: got %q, %v", b, err)
	}
	web.Close()
	c.down(t)
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket file is left behind")
	}
}

// -L and -R over UDP: each client gets its own answers.
func TestUDPForwards(t *testing.T) {
	site, stack := startNetwork(t)
	inside, err := stack.ListenPacket("udp", netip.AddrPortFrom(demoWeb, 7).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inside.Close() })
	go echoPackets(inside) // ends with the socket
	outside, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outside.Close() })
	go echoPackets(outside) // ends with the socket

	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()),
		"-L", "0:10.99.0.80:7/udp", "-R", "5007:"+outside.LocalAddr().String()+"/udp")...)
	at := strings.TrimSuffix(c.forwardAt(t, "10.99.0.80:7"), "/udp")
	clients := []net.Conn{dialLocal(t, "udp", at), dialLocal(t, "udp", at)}
	for round := range 2 {
		for i, conn := range clients {
			wantEcho(t, conn, fmt.Sprintf("client %d, round %d", i, round))
		}
	}
	wantEcho(t, clients[0], strings.Repeat("large ", 1000)) // in fragments
	peer, err := stack.DialContext(t.Context(), "udp", netip.AddrPortFrom(clientAddr(t, c), 5007).String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	wantEcho(t, peer, "from inside")
	c.down(t)
}

func echoPackets(pc net.PacketConn) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		pc.WriteTo(b[:n], from)
	}
}

// wantEcho sends a datagram until it comes back: one may be lost.
func wantEcho(t *testing.T, c net.Conn, text string) {
	t.Helper()
	b := make([]byte, 1<<16)
	for range 10 {
		io.WriteString(c, text)
		c.SetReadDeadline(time.Now().Add(patience / 10))
		n, err := c.Read(b)
		if err == nil && string(b[:n]) == text {
			return
		}
	}
	t.Errorf("%q: no answer", text)
}

// clientAddr is the client's address in the tunnel.
func clientAddr(t *testing.T, c *command) netip.Addr {
	t.Helper()
	c.proxyURL(t, "http://")
	for word := range strings.FieldsSeq(c.stderr.wait(t, "addr=")) {
		if text, ok := strings.CutPrefix(word, "addr="); ok {
			return netip.MustParseAddr(text)
		}
	}
	t.Fatal("no address in the log")
	panic("unreachable")
}

// -R: a port of the client's address in the tunnel leads to a server on this
// machine, before and after a reconnect, and with another address too.
func TestRemoteForward(t *testing.T) {
	site, stack := startNetwork(t)
	here := serveTCP(t, echoAtEnd)
	c := start(t, withPassword, connectArgs(site.Addr().String(), caFile(t, site.CA()), "-R", "5007:"+here, "-R", "5008:127.0.0.1:1")...)
	addr := clientAddr(t, c)
	if at := c.forwardAt(t, here); at != "port 5007 in the tunnel" {
		t.Errorf("listens on %q", at)
	}
	if got := halfClosed(t, dialInside(t, stack, addr, 5007), "hello"); got != "got hello" {
		t.Errorf("got %q", got)
	}
	refused, err := stack.DialContext(t.Context(), "tcp", netip.AddrPortFrom(addr, 5008).String())
	if err == nil { // else it came before the dial was over
		t.Cleanup(func() { refused.Close() })
		refused.SetDeadline(time.Now().Add(patience))
		_, err = refused.Read(make([]byte, 1))
	}
	if !errors.Is(err, netstack.ErrReset) {
		t.Errorf("nothing there: got %v, want a reset", err)
	}
	n := site.Count(tunneltest.EventIPCPOpened)
	if err := site.SetPool(netip.MustParsePrefix("10.98.0.0/24"), demoGateway); err != nil {
		t.Fatal(err)
	}
	site.Line().Reset()
	if err := site.WaitCount(t.Context(), tunneltest.EventIPCPOpened, n+1); err != nil {
		t.Fatal(err)
	}
	status, _, body := get(t, c.proxyURL(t, "http://"), "http://"+demoHost+"/")
	_, rest, _ := strings.Cut(body, "you come from ")
	text, _, _ := strings.Cut(rest, ",")
	now, err := netip.ParseAddr(text)
	if err != nil || now == addr {
		t.Fatalf("status %d, %q: want another address than %v", status, body, addr)
	}
	if got := halfClosed(t, dialInside(t, stack, now, 5007), "again"); got != "got again" {
		t.Errorf("with another address: got %q", got)
	}
	c.down(t)
}

func dialInside(t *testing.T, stack *netstack.Stack, addr netip.Addr, port uint16) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := stack.DialContext(ctx, "tcp", netip.AddrPortFrom(addr, port).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// A forward that can't listen is an error at once, before any password.
func TestForwardInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	args := []string{"connect", "vpn.example.com", "-u", "alice", "--listen", "127.0.0.1:0", "-L", port + ":intranet:80"}
	wantFailure(t, try(t.Context(), nil, args...), exitFailed, "can't listen on 127.0.0.1:"+port+": it is in use", "choose another place with -L")
}

// Why a socket file can't be made is said once, in the system's words.
func TestForwardNoDirectory(t *testing.T) {
	path := filepath.Join(shortDir(t), "missing", "socket")
	args := []string{"connect", "vpn.example.com", "-u", "alice", "--listen", "127.0.0.1:0", "-L", "unix:" + path + ":intranet:80"}
	wantFailure(t, try(t.Context(), nil, args...), exitFailed, "can't listen on unix:"+path+": no such file or directory", "the directory is not there")
}
