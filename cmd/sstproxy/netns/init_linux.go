package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"sstproxy/netstack/offload"
)

// initName is argument 0 of a process that is to make a namespace. The kind of
// device, the number of the socket to its parent, the command's file and its
// arguments follow.
const initName = "sstproxy: making a network namespace"

// The kinds of device.
const (
	kindAny  = "any"
	kindPair = "pair"
)

// made is what that process tells its parent, together with the descriptors of
// the device, a routing socket, and the command's resolv.conf and hosts file.
type made struct {
	TUN     bool
	Index   int      // of the device
	Missing []string // what the command lacks
	Failed  string   // why there are no descriptors
	Errno   syscall.Errno
}

// descriptorCount is how many these are.
const descriptorCount = 4

// Init makes the namespace and becomes the command, in the process that [New]
// started for that; in any other it returns at once.
func Init() {
	if len(os.Args) < 5 || os.Args[0] != initName {
		return
	}
	runtime.LockOSThread() // this thread becomes the command
	fd, err := strconv.Atoi(os.Args[2])
	if err != nil {
		os.Exit(exitNoCommand)
	}
	unix.CloseOnExec(fd)
	if err := prepare(fd, os.Args[1]); err != nil {
		report := made{Failed: err.Error()}
		errors.As(err, &report.Errno)
		tell(fd, report)
		os.Exit(exitNoCommand)
	}
	if n, err := unix.Read(fd, make([]byte, 1)); n != 1 || err != nil {
		os.Exit(exitNoCommand) // the parent is gone, or gave up
	}
	err = unix.Exec(os.Args[3], os.Args[4:], os.Environ())
	unix.Write(fd, []byte(strconv.Itoa(int(err.(syscall.Errno)))))
	os.Exit(exitNoCommand)
}

// exitNoCommand is the exit code of a process that became no command. The parent
// has the reason.
const exitNoCommand = 126

// prepare makes all that the command is to find, tells the parent, and gives up
// the rights to change it.
func prepare(fd int, kind string) error {
	var report made
	device, routes, err := report.makeDevice(kind)
	if err != nil {
		return err
	}
	resolv, hosts, err := bindResolver()
	if err != nil {
		return err
	}
	report.adjust()
	if err := dropCapabilities(); err != nil {
		return err
	}
	return tell(fd, report, device, routes, resolv, hosts)
}

// makeDevice opens the device and the socket for its addresses and routes.
func (m *made) makeDevice(kind string) (device, routes int, err error) {
	without := errors.New("not asked for")
	if kind == kindAny {
		device, without = openTUN()
	}
	if m.TUN = without == nil; !m.TUN {
		if device, err = openPair(); err != nil {
			return 0, 0, fmt.Errorf("%w (and no TUN device: %v)", err, without)
		}
	}
	r, err := openRtnetlink(0)
	if err != nil {
		return 0, 0, err
	}
	const loopback = 1 // its index is the same everywhere (LOOPBACK_IFINDEX)
	if err := r.setUp(loopback, offload.MaxPacket+1); err != nil {
		return 0, 0, fmt.Errorf("loopback: %w", err)
	}
	m.Index, err = r.indexOf(deviceName)
	return device, r.fd, err
}

// adjust sets what a process may only set from inside: that ping needs no right
// of its own (icmp(7)), and that the kernel makes no address out of a router's
// prefix, see [Space.advertised].
func (m *made) adjust() {
	group := strconv.Itoa(os.Getgid())
	if os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(group+" "+group), 0) != nil {
		m.Missing = append(m.Missing, "ping without rights of its own")
	}
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+deviceName+"/autoconf", []byte("0"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
		m.Missing = append(m.Missing, "IPv6 by its interface identifier alone")
	}
}

// keptCapabilities are those that a file may still give to the command
// (capabilities(7)): ping of some distributions has the first, and is not started
// at all where it can't get it.
var keptCapabilities = map[uintptr]bool{unix.CAP_NET_RAW: true, unix.CAP_NET_BIND_SERVICE: true}

// dropCapabilities takes all rights in the namespaces from this thread and from
// what it starts.
func dropCapabilities() error {
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if keptCapabilities[c] {
			continue
		}
		// An older kernel does not know the last ones.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// tell sends a report with descriptors to the parent.
func tell(fd int, report made, descriptors ...int) error {
	b, err := json.Marshal(report)
	if err != nil {
		return err
	}
	return unix.Sendmsg(fd, b, unix.UnixRights(descriptors...), nil, 0)
}

// hear reads a report and its descriptors, of which there are none if it tells
// of a failure.
func hear(fd int) (report made, descriptors []int, err error) {
	b, rights := make([]byte, 8192), make([]byte, unix.CmsgSpace(descriptorCount*int(unsafe.Sizeof(int32(0)))))
	n, m, _, _, err := unix.Recvmsg(fd, b, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return report, nil, err
	}
	if n == 0 {
		return report, nil, errors.New("ended before it was done")
	}
	if err := json.Unmarshal(b[:n], &report); err != nil {
		return report, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil || len(messages) == 0 {
		return report, nil, err
	}
	descriptors, err = unix.ParseUnixRights(&messages[0])
	return report, descriptors, err
}
