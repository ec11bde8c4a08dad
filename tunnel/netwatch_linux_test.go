package tunnel

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inNetworkNamespace names the environment variable that tells the test's
// second process that it has a network of its own.
const inNetworkNamespace = "TUNNEL_TEST_IN_NETWORK_NAMESPACE"

// TestHostWatchKernel changes a real network, that of a network namespace in
// which the test starts itself again.
func TestHostWatchKernel(t *testing.T) {
	if os.Getenv(inNetworkNamespace) != "" {
		changeNetwork(t)
		return
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("no ip(8) to change a network with: ", err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), inNetworkNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skip("this system lets nobody make a network namespace: ", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("in a network namespace: %v\n%s", err, &out)
	}
	if strings.Contains(out.String(), "--- SKIP") {
		t.Skip(out.String())
	}
	t.Log(out.String())
}

// changeNetwork runs in a network with two interfaces, which lead to each other.
func changeNetwork(t *testing.T) {
	if out, err := ip("link", "add", "one", "type", "veth", "peer", "name", "two"); err != nil {
		t.Skipf("no pair of interfaces: %v: %s", err, out)
	}
	change(t, "addr", "add", "192.0.2.1/24", "dev", "one")
	change(t, "addr", "add", "192.0.2.2/24", "dev", "one")
	change(t, "addr", "add", "198.51.100.1/24", "dev", "two")
	change(t, "link", "set", "one", "up")
	change(t, "link", "set", "two", "up")
	change(t, "route", "add", "default", "dev", "one")
	conn := endpoints{
		local:  &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4000},
		remote: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 1), Port: 443},
	}
	w := newHostWatch(thisHost())
	defer w.Close()
	if w.src.notices == nil {
		t.Fatal("no notices from this kernel")
	}
	want := func(gone bool) {
		t.Helper()
		if got := localAddressGone(conn); got != gone {
			t.Errorf("local address gone: got %v, want %v", got, gone)
		}
	}
	want(false)
	announced(t, w, "route", "replace", "default", "dev", "two")
	announced(t, w, "route", "del", "default")
	want(false)
	announced(t, w, "addr", "flush", "dev", "one")
	want(true)
	announced(t, w, "addr", "add", "2001:db8::1/64", "dev", "two")
	announced(t, w, "link", "set", "two", "down")
}

// announced changes the network and wants to be told.
func announced(t *testing.T, w *hostWatch, args ...string) {
	t.Helper()
	for { // what came before is none of this change
		select {
		case <-w.events:
			continue
		case <-time.After(2 * settleTime):
		}
		break
	}
	start := time.Now()
	change(t, args...)
	for e := range w.events {
		if e.Network {
			t.Logf("ip %s: told after %v", strings.Join(args, " "), time.Since(start))
			return
		}
	}
}

func change(t *testing.T, args ...string) {
	t.Helper()
	if out, err := ip(args...); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func ip(args ...string) (string, error) {
	out, err := exec.Command("ip", args...).CombinedOutput()
	return string(out), err
}
