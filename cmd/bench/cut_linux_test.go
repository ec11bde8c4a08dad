package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sstproxy/netstack"
	"sstproxy/tunnel"
	"sstproxy/tunnel/tunneltest"
)

// cutEnv asks for TestCut; its value is cutInside in the test's own namespace.
const (
	cutEnv    = "SSTPROXY_TEST_CUT"
	cutInside = "inside"
)

// TestCut takes the packets of the outer connection away for a second, which no
// relay in user space can do: the kernel has data then that nobody acknowledges.
// A client that tells its stack when the tunnel stands still sends nothing again;
// beside it stands what one does that is silent.
func TestCut(t *testing.T) {
	switch os.Getenv(cutEnv) {
	case cutInside:
		testCut(t)
		return
	case "":
		t.Skipf("%s is not set: takes a minute, network namespaces, ip and nft", cutEnv)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCut$", "-test.v")
	cmd.Env = append(os.Environ(), cutEnv+"="+cutInside)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	t.Logf("in a namespace: %v\n%s", err, out)
	if err != nil {
		t.Fail()
	}
}

// cuts is how many each client gets, each for cutFor and then as long again twice.
const (
	cuts   = 3
	cutFor = time.Second
)

// trickle is what a client sends meanwhile on one connection.
type trickle struct {
	name   string
	ask    byte
	octets int           // in one write
	pause  time.Duration // between two
}

func testCut(t *testing.T) {
	tool(t, "ip", "link", "set", "lo", "up")
	tool(t, "nft", "add", "table", "inet", "cut")
	tool(t, "nft", "add", "chain", "inet", "cut", "out", "{ type filter hook output priority 0; }")
	address := distantServer(t)
	for _, tr := range []trickle{
		{"requests of 64 octets", askEcho, 64, 100 * time.Millisecond},
		{"upload that the socket's buffer holds", askUpload, 8 << 10, 50 * time.Millisecond},
		{"upload without a pause", askUpload, bulkBuffer, time.Nanosecond},
	} {
		told := newCutClient(t, address, true).suffer(t, tr)
		silent := newCutClient(t, address, false).suffer(t, tr)
		t.Logf("%s, %d cuts of %v: %v; silent: %v", tr.name, cuts, cutFor, told, silent)
		if told.stalls < cuts || told.resent > 0 {
			t.Errorf("%s: want each of %d stalls told, and nothing sent again", tr.name, cuts)
		}
	}
}

// distantServer returns the address of a server 20 ms away.
func distantServer(t *testing.T) string {
	server, err := tunneltest.Start(tunneltest.Config{
		Users: accounts(), Gateway: netip.MustParseAddr("10.66.0.1"), TLS: benchTLS(), Attach: attach,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	path := tunneltest.Path{Delay: 10 * time.Millisecond, Rate: slowRate}
	relay, err := tunneltest.NewRelay(server.Addr().String(), path, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(relay.Close)
	return relay.Addr()
}

// cutClient is a session with a stack.
type cutClient struct {
	address string // of the server
	stack   *netstack.Stack
	stalls  atomic.Int64
}

// newCutClient connects; tells says whether the stack is told of stalls.
func newCutClient(t *testing.T, address string, tells bool) *cutClient {
	stack, err := netstack.New(netstack.Config{Headroom: tunnel.Headroom, PutHeader: tunnel.PutHeader})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stack.Close() })
	session, err := tunnel.Dial(t.Context(), tunnel.Config{
		Server: address, TLS: tunnel.TLSConfig{Insecure: true},
		User: benchUser, Password: benchPassword, MTU: tunnelMTU,
	})
	if err != nil {
		t.Fatal(err)
	}
	info := session.Info()
	link := netstack.Link{MTU: info.MTU, RTT: info.RTT, Addrs: []netip.Prefix{netip.PrefixFrom(info.IPv4.Addr, 32)}}
	if err := stack.SetLink(link); err != nil {
		t.Fatal(err)
	}
	c := &cutClient{address: address, stack: stack}
	packets := tunnel.Packets{Deliver: stack.Deliver, Ready: stack.Ready(), Fill: stack.Fill}
	if tells {
		packets.Awaits = stack.Awaits
		packets.Stalled = func(still bool) {
			if still {
				c.stalls.Add(1)
			}
			stack.Stalled(still)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- session.Run(ctx, packets) }() // ends with ctx
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return c
}

// suffering is what the cuts did to a client.
type suffering struct {
	stalls, resent int64
	mbit           float64 // per second, of an upload
}

func (s suffering) String() string {
	return fmt.Sprintf("%d segments sent again, %.2f Mbit/s", s.resent, s.mbit)
}

// suffer lets the client send while its packets are cut off again and again.
func (c *cutClient) suffer(t *testing.T, tr trickle) suffering {
	conn, err := c.stack.DialContext(t.Context(), "tcp", fmt.Sprintf("10.66.0.1:%d", servicePort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go io.Copy(io.Discard, conn) // ends with conn
	go tr.run(conn)              // the same
	<-time.After(cutFor)
	resent, sunkBefore, begun := c.stack.Stats().Retransmits, sunk[0].Load(), time.Now()
	_, port, _ := net.SplitHostPort(c.address)
	for range cuts {
		tool(t, "nft", "add", "rule", "inet", "cut", "out", "tcp", "dport", port, "drop")
		tool(t, "nft", "add", "rule", "inet", "cut", "out", "tcp", "sport", port, "drop")
		<-time.After(cutFor)
		tool(t, "nft", "flush", "chain", "inet", "cut", "out")
		<-time.After(2 * cutFor)
	}
	octets := sunk[0].Load() - sunkBefore
	return suffering{
		stalls: c.stalls.Load(), resent: int64(c.stack.Stats().Retransmits - resent),
		mbit: float64(octets) * mbit / time.Since(begun).Seconds(),
	}
}

// run sends until the connection is closed. The first two octets ask for what
// becomes of the others.
func (tr trickle) run(conn net.Conn) {
	_, err := conn.Write([]byte{tr.ask, 0})
	for b := make([]byte, tr.octets); err == nil; <-time.After(tr.pause) {
		_, err = conn.Write(b)
	}
}

// tool runs one of the programs that shape the namespace's network.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
