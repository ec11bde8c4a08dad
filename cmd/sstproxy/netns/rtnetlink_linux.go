package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rtnetlink is a socket to the routing tables of the namespace it was made in
// (rtnetlink(7)). Six kinds of request are all that is needed of it.
type rtnetlink struct{ fd int }

// openRtnetlink opens a socket that is also told of all changes in these groups.
func openRtnetlink(groups uint32) (rtnetlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return rtnetlink{-1}, fmt.Errorf("rtnetlink: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return rtnetlink{-1}, fmt.Errorf("rtnetlink: %w", err)
	}
	return rtnetlink{fd}, nil
}

// request sends one message and waits for its acknowledgement.
func (r rtnetlink) request(kind, flags uint16, body []byte) error {
	_, err := r.ask(kind, flags|unix.NLM_F_ACK, body)
	return err
}

// ask sends one message and returns what answers it, an acknowledgement if that
// was asked for. The kernel gives the answer before the call that sends returns;
// what it tells of changes may stand before it.
func (r rtnetlink) ask(kind, flags uint16, body []byte) (answer []byte, err error) {
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	*(*unix.NlMsghdr)(unsafe.Pointer(&b[0])) = unix.NlMsghdr{
		Len: uint32(len(b) + len(body)), Type: kind, Flags: flags | unix.NLM_F_REQUEST, Seq: uint32(kind),
	}
	if err := unix.Sendto(r.fd, append(b, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	for {
		messages, err := r.receive()
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			// What a request changes is told under its own number.
			failed := m.Header.Type == unix.NLMSG_ERROR
			if m.Header.Seq == uint32(kind) && (failed || flags&unix.NLM_F_ACK == 0) {
				return m.Data, acknowledged(m.Header.Type, m.Data)
			}
		}
	}
}

var errNoAnswer = errors.New("rtnetlink: an answer ends early")

// acknowledged is the error that an answer holds (struct nlmsgerr).
func acknowledged(kind uint16, answer []byte) error {
	if kind != unix.NLMSG_ERROR {
		return nil
	}
	if len(answer) < 4 {
		return errNoAnswer
	}
	if code := -int32(binary.NativeEndian.Uint32(answer)); code != 0 {
		return unix.Errno(code)
	}
	return nil
}

// receive waits for the next messages.
func (r rtnetlink) receive() ([]syscall.NetlinkMessage, error) {
	b := make([]byte, 8192)
	n, _, err := unix.Recvfrom(r.fd, b, 0)
	if err != nil {
		return nil, err
	}
	return syscall.ParseNetlinkMessage(b[:n])
}

// attribute appends one to a message (struct rtattr).
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%unix.RTA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func uint32Of(n int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

// ifinfo is the fixed part of a message on an interface (struct ifinfomsg).
func ifinfo(index int, flags, change uint32) []byte {
	m := unix.IfInfomsg{Index: int32(index), Flags: flags, Change: change}
	return append([]byte(nil), (*[unix.SizeofIfInfomsg]byte)(unsafe.Pointer(&m))[:]...)
}

// setUp brings an interface up, with the given MTU.
func (r rtnetlink) setUp(index, mtu int) error {
	b := ifinfo(index, unix.IFF_UP, unix.IFF_UP)
	return r.request(unix.RTM_NEWLINK, 0, attribute(b, unix.IFLA_MTU, uint32Of(mtu)))
}

// silence ends ARP and neighbour discovery on an interface, and addresses that
// the kernel would make up.
func (r rtnetlink) silence(index int) error {
	b := ifinfo(index, unix.IFF_NOARP, unix.IFF_NOARP)
	const genModeNone = 1 // IN6_ADDR_GEN_MODE_NONE, linux/if_link.h
	mode := attribute(nil, unix.IFLA_INET6_ADDR_GEN_MODE, []byte{genModeNone})
	spec := attribute(nil, unix.AF_INET6, mode)
	err := r.request(unix.RTM_NEWLINK, 0, attribute(b, unix.IFLA_AF_SPEC, spec))
	if errors.Is(err, unix.EAFNOSUPPORT) { // a kernel without IPv6
		err = r.request(unix.RTM_NEWLINK, 0, b)
	}
	return err
}

// addPair makes a veth pair (veth(4)): name here, peer in the namespace given.
func (r rtnetlink) addPair(name string, hardware [6]byte, peer string, namespace int) error {
	other := ifinfo(0, 0, 0)
	other = attribute(other, unix.IFLA_IFNAME, append([]byte(peer), 0))
	other = attribute(other, unix.IFLA_NET_NS_FD, uint32Of(namespace))
	const vethInfoPeer = 1 // linux/veth.h
	info := attribute(nil, unix.IFLA_INFO_KIND, []byte("veth"))
	info = attribute(info, unix.IFLA_INFO_DATA, attribute(nil, vethInfoPeer, other))
	b := attribute(ifinfo(0, 0, 0), unix.IFLA_IFNAME, append([]byte(name), 0))
	b = attribute(b, unix.IFLA_ADDRESS, hardware[:])
	b = attribute(b, unix.IFLA_LINKINFO, info)
	return r.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b)
}

// ifaddr is a message on an address (struct ifaddrmsg), which is the only one of
// its network.
func ifaddr(index int, a netip.Addr) []byte {
	m := unix.IfAddrmsg{Family: family(a), Prefixlen: uint8(a.BitLen()), Index: uint32(index)}
	if a.IsLinkLocalUnicast() {
		m.Prefixlen = 64
	}
	b := append([]byte(nil), (*[unix.SizeofIfAddrmsg]byte)(unsafe.Pointer(&m))[:]...)
	b = attribute(b, unix.IFA_LOCAL, a.AsSlice())
	b = attribute(b, unix.IFA_ADDRESS, a.AsSlice())
	return attribute(b, unix.IFA_FLAGS, uint32Of(unix.IFA_F_NODAD))
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func (r rtnetlink) addAddr(index int, a netip.Addr) error {
	return r.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, ifaddr(index, a))
}

func (r rtnetlink) removeAddr(index int, a netip.Addr) error {
	return r.request(unix.RTM_DELADDR, 0, ifaddr(index, a))
}

// setDefault makes an interface the way to everything of a family.
func (r rtnetlink) setDefault(index int, family uint8) error {
	m := unix.RtMsg{
		Family: family, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC,
		Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST,
	}
	if family == unix.AF_INET {
		m.Scope = unix.RT_SCOPE_LINK
	}
	b := append([]byte(nil), (*[unix.SizeofRtMsg]byte)(unsafe.Pointer(&m))[:]...)
	b = attribute(b, unix.RTA_OIF, uint32Of(index))
	return r.request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, b)
}

// indexOf finds an interface by its name.
func (r rtnetlink) indexOf(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(r.fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	return int(ifr.Uint32()), nil
}
