package netns

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sstproxy/netstack/ndp"
	"sstproxy/netstack/offload"
)

// asCommand makes the test binary the command in a namespace: it obeys the words
// on its standard input, one per line, and answers each with one line.
const asCommand = "NETNS_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	Init()
	if os.Getenv(asCommand) != "" {
		obey()
		return
	}
	os.Exit(m.Run())
}

// obey is the command.
func obey() {
	for words := bufio.NewScanner(os.Stdin); words.Scan(); {
		switch words.Text() {
		case "interfaces":
			list, err := net.Interfaces()
			fmt.Println(len(list), list[0].Name, list[len(list)-1].Name, list[len(list)-1].MTU, err)
		case "capabilities":
			b, _ := os.ReadFile("/proc/self/status")
			_, after, _ := strings.Cut(string(b), "CapEff:\t")
			fmt.Println(after[:16])
		case "descriptors":
			var ours []string
			list, _ := os.ReadDir("/proc/self/fd")
			for _, fd := range list {
				to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
				if strings.HasPrefix(to, "socket:") || strings.HasSuffix(to, "/tun") || strings.HasSuffix(to, "resolv.conf") {
					ours = append(ours, to)
				}
			}
			fmt.Println(ours)
		case "resolver":
			b, _ := os.ReadFile(resolvConf)
			fmt.Println(strings.Join(strings.Fields(string(b)), " "))
		case "hosts":
			b, _ := os.ReadFile(hostsFile)
			line, _, _ := strings.Cut(string(b), "\n")
			fmt.Println(line, strings.Contains(string(b), "localhost"))
		case "echo4":
			fmt.Println(echo("192.0.2.7:7"))
		case "echo6":
			fmt.Println(echo("[2001:db8::7]:7"))
		}
	}
}

// echo sends a datagram and tells from where it did when it has come back.
func echo(to string) string {
	conn, err := net.Dial("udp", to)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	b := make([]byte, 2000)
	for range 20 {
		conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
		conn.Write(payloadOf(1400))
		if n, err := conn.Read(b); err == nil && bytes.Equal(b[:n], payloadOf(1400)) {
			return conn.LocalAddr().(*net.UDPAddr).IP.String()
		}
	}
	return "no answer"
}

// reflect is the peer: it sends each datagram back to where it came from.
func reflect(s *Space, done <-chan struct{}) {
	b := make([]byte, 64<<10)
	for {
		select {
		case <-s.Ready():
		case <-done:
			return
		}
		for n := s.Fill(b); n > 0; n = s.Fill(b) {
			for rest := b[:n]; len(rest) > 0; {
				ipLen, proto, whole := offload.UpperLayer(rest)
				if proto == offload.UDP {
					s.Deliver([][]byte{reversed(rest[:whole], ipLen)})
				}
				rest = rest[whole:]
			}
		}
	}
}

// reversed swaps addresses and ports, which leaves the checksums right.
func reversed(b []byte, ipLen int) []byte {
	b = bytes.Clone(b)
	at, n := 12, 4
	if ipLen == 40 {
		at, n = 8, 16
	}
	source := bytes.Clone(b[at : at+n])
	copy(b[at:], b[at+n:at+2*n])
	copy(b[at+n:], source)
	ports := binary.BigEndian.Uint32(b[ipLen:])
	binary.BigEndian.PutUint32(b[ipLen:], ports<<16|ports>>16)
	return b
}

// command is the test binary in a namespace.
type command struct {
	*Space
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

// begin starts the command; the test is skipped where there are no namespaces.
func begin(t *testing.T, pair bool, link Link) *command {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(cmd, Config{noTUN: pair, Hosts: map[string][]netip.Addr{"db": {server}}})
	if forbidden, ok := errors.AsType[*ForbiddenError](err); ok {
		t.Skip(forbidden)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.device.link == 0 && pair || s.device.link != 0 && !pair && os.Getuid() == 0 && exists(tunPath) {
		t.Errorf("got a device with a header of %d octets", s.device.link)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { reflect(s, done) }) // ends when done is closed
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
		s.Close()
		close(done)
		wg.Wait()
	})
	if err := s.SetLink(link); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	return &command{s, cmd, in, bufio.NewScanner(out)}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ask tells the command a word and returns its answer.
func (c *command) ask(t *testing.T, word string) string {
	t.Helper()
	fmt.Fprintln(c.in, word)
	if !c.out.Scan() {
		t.Fatalf("%s: the command has ended: %v", word, c.out.Err())
	}
	return c.out.Text()
}

func (c *command) want(t *testing.T, word, answer string) {
	t.Helper()
	if got := c.ask(t, word); got != answer {
		t.Errorf("%s: got %q, want %q", word, got, answer)
	}
}

// eachDevice runs a test with either device.
func eachDevice(t *testing.T, f func(t *testing.T, pair bool)) {
	t.Run("any device", func(t *testing.T) { f(t, false) })
	t.Run("veth pair", func(t *testing.T) { f(t, true) })
}

var (
	first, second = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2")
	server        = netip.MustParseAddr("192.0.2.53")
)

// The command finds a network with one way out and no rights in it, and nothing
// of the machinery.
func TestSpace(t *testing.T) {
	eachDevice(t, func(t *testing.T, pair bool) {
		c := begin(t, pair, Link{Addrs: []netip.Addr{first}, MTU: 1432, DNS: []netip.Addr{server}, Search: []string{"corp.example", "example"}})
		c.want(t, "interfaces", "2 lo sstp0 1432 <nil>")
		rights := "0000000000000000"
		if os.Getuid() == 0 {
			rights = "0000000000002400" // those in keptCapabilities
		}
		c.want(t, "capabilities", rights)
		c.want(t, "descriptors", "[]")
		c.want(t, "resolver", "# of the tunnel nameserver 192.0.2.53 search corp.example example")
		machine, _ := os.ReadFile(hostsFile)
		c.want(t, "hosts", fmt.Sprint("192.0.2.53\tdb ", strings.Contains(string(machine), "localhost")))
		c.want(t, "echo4", "10.1.0.1")
	})
}

// Another session gives another address, other servers and another MTU, or the
// same ones.
func TestSpaceSetLink(t *testing.T) {
	eachDevice(t, func(t *testing.T, pair bool) {
		c := begin(t, pair, Link{Addrs: []netip.Addr{first}})
		c.want(t, "resolver", "# of the tunnel")
		c.want(t, "echo4", "10.1.0.1")
		for range 2 {
			if err := c.SetLink(Link{Addrs: []netip.Addr{second}, MTU: 1500, DNS: []netip.Addr{server}}); err != nil {
				t.Fatal(err)
			}
			c.want(t, "echo4", "10.1.0.2")
			c.want(t, "resolver", "# of the tunnel nameserver 192.0.2.53")
		}
		if err := c.SetLink(Link{}); err == nil {
			t.Error("a link without an address was taken")
		}
	})
}

// The addresses of IPv6 are the ones of the interface identifier, behind each
// prefix that a router advertises.
func TestSpaceIPv6(t *testing.T) {
	if !exists("/proc/net/if_inet6") {
		t.Skip("this kernel has no IPv6")
	}
	eachDevice(t, func(t *testing.T, pair bool) {
		id := [8]byte{2, 0, 0, 0, 0, 0, 0, 9}
		c := begin(t, pair, Link{Addrs: []netip.Addr{first}, InterfaceID: id})
		advertisement := []byte{ndp.TypeRouterAdvertisement, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0,
			5, 1, 0, 0, 0, 0, 0x05, 0xDC, // MTU 1500
			3, 4, 64, 0xC0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0} // a prefix, on link and autonomous, for an hour
		advertisement = append(advertisement, netip.MustParseAddr("fd73::").AsSlice()...)
		router := ndp.Packet(netip.MustParseAddr("fe80::1"), ndp.AllNodes, advertisement)
		c.Deliver([][]byte{router})
		c.want(t, "echo6", "fd73::200:0:0:9")
		if got, want := c.addrs, []netip.Addr{first, netip.MustParseAddr("fe80::200:0:0:9"), netip.MustParseAddr("fd73::200:0:0:9")}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if err := c.SetLink(Link{Addrs: []netip.Addr{first}, InterfaceID: id}); err != nil {
			t.Fatal(err)
		}
		c.want(t, "echo6", "fd73::200:0:0:9")
	})
}

// A command that can't be started is told from a namespace that can't be made.
func TestSpaceNoCommand(t *testing.T) {
	path := t.TempDir() + "/command"
	if err := os.WriteFile(path, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	s, err := New(cmd, Config{})
	if forbidden, ok := errors.AsType[*ForbiddenError](err); ok {
		t.Skip(forbidden)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Release(); !errors.Is(err, ErrCommand) || !errors.Is(err, syscall.ENOEXEC) {
		t.Errorf("got %v, want %v", err, syscall.ENOEXEC)
	}
	cmd.Wait()
	s.Close()
	s.Close()
	if err := s.SetLink(Link{Addrs: []netip.Addr{first}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
	if _, err := New(exec.Command("no-such-command-anywhere"), Config{}); !errors.Is(err, ErrCommand) || !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v, want %v", err, exec.ErrNotFound)
	}
}

// A process that waits for its link ends when nobody wants it any more.
func TestSpaceNeverReleased(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	s, err := New(cmd, Config{})
	if forbidden, ok := errors.AsType[*ForbiddenError](err); ok {
		t.Skip(forbidden)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitNoCommand {
		t.Errorf("got %v, want exit code %d", err, exitNoCommand)
	}
}

// bans are what forbids namespaces, and what the error says then.
var bans = map[string]struct {
	impose  func() error
	setting string
	errno   syscall.Errno
}{
	"limit":  {func() error { return os.WriteFile("/proc/sys/user/max_net_namespaces", []byte("0"), 0) }, "user.max_net_namespaces is 0", syscall.ENOSPC},
	"filter": {filterClone, "a seccomp filter, such as containers have, forbids them", syscall.EPERM},
}

// Where namespaces are forbidden the error names what does it. That is done in a
// user namespace of the test's own.
func TestForbidden(t *testing.T) {
	const inside = "NETNS_TEST_FORBIDDEN"
	if ban, ok := bans[os.Getenv(inside)]; ok {
		if err := ban.impose(); err != nil {
			t.Fatal(err)
		}
		_, err := New(exec.Command(os.Args[0]), Config{})
		forbidden, ok := errors.AsType[*ForbiddenError](err)
		if !ok || forbidden.Setting != ban.setting || !errors.Is(err, ban.errno) {
			t.Errorf("got %v, want %s", err, ban.setting)
		}
		return
	}
	for name := range bans {
		again(t, unix.CLONE_NEWUSER, inside+"="+name)
	}
}

// again runs the test once more as root of new namespaces, with a variable that
// tells it so.
func again(t *testing.T, namespaces uintptr, variable string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  namespaces,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skip("no user namespaces here: ", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v\n%s", variable, err, &out)
	}
}

// filterClone makes clone(2) with a new user namespace fail in this process, as
// the seccomp filters of containers do (seccomp(2)).
func filterClone() error {
	const nr, firstArgument = 0, 16 // struct seccomp_data; little endian
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: firstArgument},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_NEWUSER, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// What looks like no ban stays as it is.
func TestForbiddenOthers(t *testing.T) {
	for _, err := range []error{errors.New("text"), fmt.Errorf("wrapped: %w", syscall.ENOENT)} {
		if got := forbidden(err); got != err {
			t.Errorf("got %v, want %v", got, err)
		}
	}
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.EINVAL, syscall.ENOSPC} {
		e, ok := errors.AsType[*ForbiddenError](forbidden(fmt.Errorf("netns: %w", errno)))
		if !ok || e.Setting == "" || e.Remedy == "" || !errors.Is(e, errno) {
			t.Errorf("%v: got %+v", errno, e)
		}
	}
}

func TestWithHosts(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "hosts: files dns\n",
		"passwd: files sss": "passwd: files sss\nhosts: files dns\n",
		"a: b\n hosts:\tfiles mdns4_minimal [NOTFOUND=return] resolve dns\nc: d\n": "a: b\nc: d\nhosts: files dns\n",
	} {
		if got := string(withHosts([]byte(in))); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
