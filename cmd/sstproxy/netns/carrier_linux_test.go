package netns

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// linkSays is what the kernel says of an interface: its flags, and of IPv6, if
// there is any, its flags and whether it is off.
func linkSays(flags uint32, inet6 ...uint32) []byte {
	b := attribute(ifinfo(7, flags, 0), unix.IFLA_IFNAME, []byte("sstp0\x00"))
	var spec []byte
	if len(inet6) > 0 {
		settings := make([]byte, 4*30)
		binary.NativeEndian.PutUint32(settings[4*26:], inet6[1])
		values := attribute(nil, unix.IFLA_INET6_FLAGS, binary.NativeEndian.AppendUint32(nil, inet6[0]))
		values = attribute(values, unix.IFLA_INET6_CONF, settings)
		spec = attribute(nil, unix.AF_INET, make([]byte, 8))
		spec = attribute(spec, unix.AF_INET6, values)
	}
	return attribute(b, unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, spec)
}

const (
	running  = unix.IFF_UP | unix.IFF_RUNNING
	ready6   = 1 << 31
	unready6 = 0
)

func TestTakesPackets(t *testing.T) {
	for name, tt := range map[string]struct {
		link []byte
		want bool
	}{
		"only up":           {linkSays(unix.IFF_UP, ready6, 0), false},
		"IPv6 does not see": {linkSays(running, unready6, 0), false},
		"IPv6 sees":         {linkSays(running, ready6, 0), true},
		"IPv6 is off":       {linkSays(running, unready6, 1), true},
		"no IPv6":           {linkSays(running), true},
		"no attribute":      {ifinfo(7, running, 0), true},
	} {
		if got := takesPackets(tt.link); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
		for n := range tt.link { // none may panic
			takesPackets(tt.link[:n:n])
		}
		if n := unix.SizeofIfInfomsg - 1; takesPackets(tt.link[:n:n]) {
			t.Errorf("%s: a message that ends early was believed", name)
		}
	}
}

func TestAttributeOf(t *testing.T) {
	b := attribute(attribute(nil, 1, []byte("abc")), 2|unix.NLA_F_NESTED, []byte("de"))
	for kind, want := range map[uint16]string{1: "abc", 2: "de", 3: ""} {
		if got := string(attributeOf(b, kind)); got != want {
			t.Errorf("%d: got %q, want %q", kind, got, want)
		}
	}
	for _, b := range [][]byte{{4, 0}, {0, 0, 2, 0}, {3, 0, 2, 0}, {9, 0, 2, 0, 1, 2, 3, 4}, {5, 0, 1, 0, 9}} {
		if got := attributeOf(b, 2); got != nil {
			t.Errorf("%x: got %x", b, got)
		}
	}
}

// kernel is the other end of a socket for requests.
type kernel int

func fakeKernel(t *testing.T) (rtnetlink, kernel) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	return rtnetlink{pair[0]}, kernel(pair[1])
}

// say sends one message; a number of 0 is that of a change.
func (k kernel) say(t *testing.T, kind uint16, number uint32, data []byte) {
	t.Helper()
	b := make([]byte, unix.SizeofNlMsghdr)
	*(*unix.NlMsghdr)(unsafe.Pointer(&b[0])) = unix.NlMsghdr{Len: uint32(len(b) + len(data)), Type: kind, Seq: number}
	if _, err := unix.Write(int(k), append(b, data...)); err != nil {
		t.Error(err)
	}
}

// hear waits for the question how an interface is.
func (k kernel) hear(t *testing.T) {
	t.Helper()
	b := make([]byte, 1000)
	n, err := unix.Read(int(k), b)
	if m, perr := syscall.ParseNetlinkMessage(b[:max(n, 0)]); err != nil || perr != nil || len(m) != 1 ||
		m[0].Header.Type != unix.RTM_GETLINK || !slices.Equal(m[0].Data, ifinfo(7, 0, 0)) {
		t.Errorf("got %v, %v, %v", m, err, perr)
	}
}

// Each change is a reason to look again, and only an answer counts: a change may
// be told before it has come to IPv6.
func TestAwaitCarrier(t *testing.T) {
	r, k := fakeKernel(t)
	done := make(chan error, 1)
	go func() { done <- r.awaitCarrier(7, time.Now().Add(time.Hour)) }() // ends with the last answer
	k.hear(t)
	k.say(t, unix.RTM_NEWLINK, 0, linkSays(running, ready6, 0))
	k.say(t, unix.RTM_NEWLINK, unix.RTM_NEWLINK, linkSays(running, ready6, 0)) // by a request of ours
	k.say(t, unix.RTM_NEWLINK, unix.RTM_GETLINK, linkSays(unix.IFF_UP))
	for _, link := range [][]byte{linkSays(running, unready6, 0), linkSays(running, ready6, 0)} {
		k.say(t, unix.RTM_NEWLINK, 0, linkSays(running, ready6, 0))
		k.hear(t)
		k.say(t, unix.RTM_NEWLINK, unix.RTM_GETLINK, link)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAwaitCarrierFails(t *testing.T) {
	gone := -int32(unix.ENODEV)
	for name, tt := range map[string]struct {
		kind   uint16
		answer []byte
		want   error
	}{
		"no carrier":   {unix.RTM_NEWLINK, linkSays(unix.IFF_UP), errNoCarrier},
		"no interface": {unix.NLMSG_ERROR, binary.NativeEndian.AppendUint32(nil, uint32(gone)), unix.ENODEV},
		"too short":    {unix.NLMSG_ERROR, nil, errNoAnswer},
	} {
		r, k := fakeKernel(t)
		k.say(t, tt.kind, unix.RTM_GETLINK, tt.answer)
		if err := r.awaitCarrier(7, time.Now()); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
}

// Of a real pair with both ends in one namespace, the near end has no carrier as
// long as the far end is down. Where IPv6 is off it is not waited for.
func TestRaise(t *testing.T) {
	const inside = "NETNS_TEST_RAISE"
	if os.Getenv(inside) != "" {
		raiseInside(t)
		return
	}
	again(t, unix.CLONE_NEWUSER|unix.CLONE_NEWNET, inside+"=1")
}

func raiseInside(t *testing.T) {
	namespace, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := openRtnetlink(carrierGroups)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.addPair(deviceName, nearHardware, farName, namespace); err != nil {
		t.Fatal(err)
	}
	if err := raise(port{r, deviceName}); !errors.Is(err, errNoCarrier) {
		t.Errorf("the far end is down: got %v, want %v", err, errNoCarrier)
	}
	near, err := r.indexOf(deviceName)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.awaitCarrier(near, time.Now().Add(time.Hour)) }() // ends when the far end is up
	other, err := openRtnetlink(carrierGroups)
	if err != nil {
		t.Fatal(err)
	}
	if err := raise(port{other, farName}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := raise(port{other, deviceName}, port{other, farName}); err != nil {
		t.Errorf("again: %v", err)
	}
	if exists("/proc/net/if_inet6") {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
		if err := other.addPair("near4", nearHardware, "far4", namespace); err != nil {
			t.Fatal(err)
		}
		if err := raise(port{other, "near4"}, port{other, "far4"}); err != nil {
			t.Errorf("without IPv6: %v", err)
		}
	}
	if err := raise(port{r, "other"}); !errors.Is(err, unix.ENODEV) {
		t.Errorf("got %v, want %v", err, unix.ENODEV)
	}
}
