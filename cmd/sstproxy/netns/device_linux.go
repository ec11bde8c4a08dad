package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"sstproxy/netstack/offload"
)

// deviceName is what the command sees.
const deviceName = "sstp0"

// maxFrame is the longest frame of a device: the headers and an IP packet.
const maxFrame = vnetLen + etherLen + offload.MaxPacket

// tunPath is where a TUN device is made.
const tunPath = "/dev/net/tun"

// openTUN makes a TUN device that is up, and whose packets may be long, without
// checksums, and have virtio's header.
func openTUN() (fd int, err error) {
	fd, err = unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", tunPath, err)
	}
	ifr, err := unix.NewIfreq(deviceName)
	if err != nil {
		return -1, err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err == nil {
		const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads)
	}
	if err == nil {
		err = raiseTUN()
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("%s: %w", tunPath, err)
	}
	return fd, nil
}

// raiseTUN brings the device up in this thread's namespace.
func raiseTUN() error {
	r, err := openRtnetlink(carrierGroups)
	if err != nil {
		return err
	}
	defer unix.Close(r.fd)
	return raise(port{r, deviceName})
}

// The hardware addresses of the veth pair, locally administered (IEEE 802).
var (
	nearHardware = [6]byte{0x02, 's', 's', 't', 'p', 0}
	farHardware  = [6]byte{0x02, 's', 's', 't', 'p', 1}
)

const farName = "far"

// openPair makes a veth pair that is up and a packet socket on its far end, and
// moves this thread into another namespace, where the near end is. Neither end
// resolves neighbours: without ARP the kernel puts the sender's own address into
// each frame, and the far end takes that for somebody else's and leaves it alone.
func openPair() (fd int, err error) {
	far, err := openRtnetlink(carrierGroups)
	if err != nil {
		return -1, err
	}
	defer unix.Close(far.fd)
	namespace, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(namespace)
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	if err = enterPair(far, namespace); err == nil {
		err = attach(fd, far)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// enterPair moves this thread into a new namespace and makes the pair there,
// its far end in the one given, which is far's.
func enterPair(far rtnetlink, namespace int) error {
	runtime.LockOSThread() // for good: this thread becomes the command
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	near, err := openRtnetlink(carrierGroups)
	if err != nil {
		return err
	}
	defer unix.Close(near.fd)
	if err := near.addPair(deviceName, nearHardware, farName, namespace); err != nil {
		return fmt.Errorf("veth pair: %w", err)
	}
	return raise(port{near, deviceName}, port{far, farName})
}

// packetBuffer is how much may wait in the packet socket, in octets; the kernel
// gives less if net.core.rmem_max is less.
const packetBuffer = 8 << 20

// attach binds a packet socket to the far end.
func attach(fd int, far rtnetlink) error {
	index, err := far.indexOf(farName)
	if err != nil {
		return err
	}
	for _, option := range []int{unix.PACKET_VNET_HDR, unix.PACKET_IGNORE_OUTGOING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
			return fmt.Errorf("packet socket: option %d: %w", option, err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, packetBuffer); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // in network byte order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	return nil
}

// device is the open device. One goroutine may read while another writes.
type device struct {
	file *os.File
	raw  syscall.RawConn
	link int // octets of its own header behind virtio's

	// What write is about, kept here so that it costs no allocation.
	header [vnetLen + etherLen]byte
	vector [][]byte
	err    error
	try    func(fd uintptr) (done bool)
}

func newDevice(file *os.File, tun bool) (*device, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	d := &device{file: file, raw: raw}
	if !tun {
		d.link = etherLen
		copy(d.header[vnetLen:], nearHardware[:])
		copy(d.header[vnetLen+6:], farHardware[:])
	}
	d.try = func(fd uintptr) bool {
		_, d.err = unix.Writev(int(fd), d.vector)
		return !errors.Is(d.err, unix.EAGAIN)
	}
	return d, nil
}

// maxSegments is how many segments become one packet; the kernel takes a vector of
// 1024 (IOV_MAX).
const maxSegments = 200

// pass hands the kernel a packet as it is.
func (d *device) pass(packet []byte) { d.send(vnet{}, packet, nil) }

// write hands the kernel what was merged, as a network card does that merges.
func (d *device) write(p *offload.Packet) { d.send(mergedVnet(p), p.Header, p.Payload) }

// send hands the kernel one packet, its first octets and the rest in pieces. What
// it refuses is lost, like any packet that a machine does not want.
func (d *device) send(v vnet, first []byte, pieces [][]byte) {
	ether := uint16(etherIPv4)
	if first[0]>>4 == 6 {
		ether = etherIPv6
	}
	if d.link > 0 {
		binary.BigEndian.PutUint16(d.header[vnetLen+etherLen-2:], ether)
		if v.gso != vnetGSONone {
			v.hdrLen += etherLen
			v.checkStart += etherLen
		}
	}
	v.put(d.header[:])
	d.vector = append(append(d.vector[:0], d.header[:vnetLen+d.link], first), pieces...)
	if err := d.raw.Write(d.try); err != nil {
		d.err = err
	}
	clear(d.vector)
}
