package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// inLeakTest tells the test that it is in a network of its own.
const inLeakTest = "SSTPROXY_TEST_LEAK"

// No name and no packet leaves but through the tunnel, whatever the front end,
// with the tunnel up and down. All interfaces are watched, in a network of its
// own where every packet that is nobody's business shows.
func TestNothingLeaks(t *testing.T) {
	if os.Getenv(inLeakTest) != "" {
		browseWatched(t)
		return
	}
	needsNamespaces(t)
	needs(t, "ip")
	needs(t, "mount")
	needs(t, "sh")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNothingLeaks$", "-test.v")
	cmd.Env = append(os.Environ(), inLeakTest+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestNothingLeaks")) {
		t.Errorf("%v:\n%s", err, out)
	}
}

// browseWatched is TestNothingLeaks inside.
func browseWatched(t *testing.T) {
	wayOut(t)
	server := startDemoServer(t)
	seen := watch(t)
	c := start(t, withPassword, connectArgs(server.Addr().String(), caFile(t, server.CA()), "--wait-for-tunnel", "1ms",
		"--dns-listen", "127.0.0.1:0", "--search", "demo", "-L", "0:"+demoHost+":80", "-L", "0:nowhere.demo:80")...)
	via := strings.TrimPrefix(c.proxyURL(t, "http://"), "http://")
	resolver := c.dnsAt(t)
	forwards := c.forwardsAt(t)
	relay := associate(t, via)
	browse := func(hosts ...string) {
		for _, host := range hosts {
			fmt.Fprintf(relay, "\x00\x00\x00\x03%c%s\x00\x35question", len(host), host)
			frontEnds(t, via, resolver, host)
		}
		for _, at := range forwards {
			ask(at, "GET / HTTP/1.0\r\n\r\n")
		}
		ask(via, "GET /proxy.pac HTTP/1.0\r\n\r\n")
	}
	if status, _, body := get(t, "http://"+via, "http://"+demoHost+"/"); status != 200 || !strings.HasPrefix(body, demoGreeting) {
		t.Fatalf("got %d, %q", status, body)
	}
	browse(demoHost, "nowhere.demo", "intranet", "www.example.com")
	wantName(t, relay)
	t.Setenv(asClient, "http://"+demoHost+"/run")
	out := try(t.Context(), withPassword, runArgs(t, server, nil, "sh", "-c", `echo "$http_proxy"; exec "$0"`, os.Args[0])...).stdout
	private, page, _ := strings.Cut(out, "\n")
	if !strings.HasPrefix(page, demoGreeting) {
		t.Errorf("run: got %q", out)
	}
	server.Close()
	c.stderr.wait(t, `msg="connection lost"`)
	browse("late.demo", "late", "late.example.com")

	ours := map[string]bool{}
	for _, at := range append(forwards, via, resolver, private, server.Addr().String(), relay.RemoteAddr().String()) {
		ours[at[strings.LastIndex(at, ":")+1:]] = true
	}
	for _, p := range seen.until(t, "the-control") {
		if !p.within(ours) {
			t.Errorf("a packet outside of the tunnel: %v", p)
		}
	}
}

// associate is a socket to a relay of UDP ASSOCIATE.
func associate(t *testing.T, via string) net.Conn {
	t.Helper()
	_, at := socksRequest(t, "http://"+via, 3, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	c, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// frontEnds asks for a host in every way there is over TCP, and for names. What comes back is the
// business of other tests.
func frontEnds(t *testing.T, via, resolver, host string) {
	for _, request := range []string{
		"GET http://" + host + "/ HTTP/1.0\r\n\r\n",
		"CONNECT " + host + ":80 HTTP/1.1\r\nHost: " + host + ":80\r\n\r\n",
		"\x04\x01\x00\x50\x00\x00\x00\x01\x00" + host + "\x00",
		"\x04\xf0\x00\x00\x00\x00\x00\x01\x00" + host + "\x00",
		"\x05\x01\x00\x05\x01\x00\x03" + string(rune(len(host))) + host + "\x00\x50",
		"\x05\x01\x00\x05\xf0\x00\x03" + string(rune(len(host))) + host + "\x00\x00",
		"\x05\x01\x00\x05\xf1\x00\x01\x0a\x63\x00\x07\x00\x00",
	} {
		ask(via, request)
	}
	for _, network := range []string{"udp", "tcp"} {
		askAt(t, resolver, network, dns.Fqdn(host), dns.TypeA)
	}
	try(t.Context(), nil, "nc", "--listen", via, host, "80")
}

// ask sends a request and waits for the first octets of what comes back.
func ask(at, request string) {
	c, err := net.Dial("tcp", at)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	c.Write([]byte(request))
	var b [512]byte
	for n := 1; n > 0; { // the SOCKS5 method, then the reply
		n, _ = c.Read(b[:])
		if n != 2 {
			return
		}
	}
}

// wayOut gives the network an interface with a route to everywhere, and a name
// server there that answers nothing.
func wayOut(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0); err != nil {
		t.Log("IPv6 stays as it is:", err)
	}
	conf, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(own, []byte("nameserver 192.0.2.53\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"ip link set lo up",
		"ip link add out0 type veth peer name out1",
		"ip link set out0 up",
		"ip link set out1 up",
		"ip addr add 192.0.2.1/24 dev out0",
		"ip neigh add 192.0.2.53 lladdr 02:00:00:00:00:53 dev out0",
		"ip route add default via 192.0.2.53",
		"mount --bind " + own + " " + conf,
	} {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
}

// sighting is a packet on an interface.
type sighting struct {
	iface string
	ip    []byte
}

func (s sighting) String() string { return fmt.Sprintf("%s %x %q", s.iface, s.ip, s.ip) }

// within tells whether the packet is between this machine and one of our ports.
func (s sighting) within(ours map[string]bool) bool {
	if s.iface != "lo" || len(s.ip) < 20 || s.ip[0]>>4 != 4 {
		return false
	}
	l4 := s.ip[int(s.ip[0]&15)*4:]
	if addr, _ := netip.AddrFromSlice(s.ip[16:20]); !addr.IsLoopback() || len(l4) < 4 {
		return false
	}
	port := func(b []byte) string { return strconv.Itoa(int(binary.BigEndian.Uint16(b))) }
	return ours[port(l4)] || ours[port(l4[2:])]
}

// watcher holds all packets on all interfaces.
type watcher struct {
	mu   sync.Mutex
	all  []sighting
	more chan struct{} // holds a token when there is more in all
}

// watch begins to look at every packet on every interface.
func watch(t *testing.T) *watcher {
	t.Helper()
	const everything = syscall.ETH_P_ALL<<8 | syscall.ETH_P_ALL>>8 // in network order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, everything&0xffff)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "packets")
	t.Cleanup(func() { f.Close() })
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{more: make(chan struct{}, 1)}
	go func() { // ends when the file is closed
		b := make([]byte, 1<<16)
		raw.Read(func(fd uintptr) bool {
			for {
				n, from, err := syscall.Recvfrom(int(fd), b, 0)
				if err != nil {
					return false
				}
				w.add(from, b[:n])
			}
		})
	}()
	return w
}

func (w *watcher) add(from syscall.Sockaddr, ip []byte) {
	name := "?"
	if i, err := net.InterfaceByIndex(from.(*syscall.SockaddrLinklayer).Ifindex); err == nil {
		name = i.Name
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, sighting{name, bytes.Clone(ip)})
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// until asks this machine's resolver for a name, and returns the packets that
// were seen before that left: that it is seen shows that any would be.
func (w *watcher) until(t *testing.T, name string) (before []sighting) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	asked := make(chan struct{})
	go func() { // ends with ctx
		defer close(asked)
		(&net.Resolver{PreferGo: true}).LookupHost(ctx, name+".example.")
	}()
	defer func() { cancel(); <-asked }()
	for {
		select {
		case <-w.more:
		case <-ctx.Done():
			t.Fatal("the control was not seen")
		}
		w.mu.Lock()
		all := w.all
		w.mu.Unlock()
		for i, p := range all {
			if p.iface != "lo" && bytes.Contains(p.ip, []byte(name)) {
				return all[:i]
			}
		}
	}
}

// forwardsAt is where the two forwards listen.
func (c *command) forwardsAt(t *testing.T) (at []string) {
	t.Helper()
	for _, to := range []string{"to=" + demoHost + ":80", "to=nowhere.demo:80"} {
		_, rest, _ := strings.Cut(c.stderr.wait(t, to), "listen=")
		where, _, _ := strings.Cut(rest, " ")
		at = append(at, where)
	}
	return at
}
