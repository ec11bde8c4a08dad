package proxy

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// clientUser returns the user at the other end of a connection from this
// machine, if that can be known.
func clientUser(c net.Conn) (uid uint32, ok bool) {
	if u, unix := c.(*net.UnixConn); unix {
		uid, err := peerUID(u)
		return uid, err == nil
	}
	users := socketUsers("tcp", addrPortOf(c.RemoteAddr()), addrPortOf(c.LocalAddr()))
	if len(users) != 1 {
		return 0, false
	}
	return users[0], true
}

// sentBy reports whether a datagram from this machine can be a user's.
func sentBy(uid uint32, from netip.AddrPort) bool {
	return slices.Contains(socketUsers("udp", from, netip.AddrPort{}), uid)
}

// socketUsers returns whose sockets have an address, or its port of any address,
// and another at the far end, if one is given (/proc/net/tcp, proc_net(5)).
func socketUsers(network string, local, remote netip.AddrPort) (users []uint32) {
	for _, table := range []string{network, network + "6"} {
		f, err := os.Open("/proc/net/" + table)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 8 || !isAt(fields[1], local) || remote.IsValid() && !isAt(fields[2], remote) {
				continue
			}
			if uid, err := strconv.ParseUint(fields[7], 10, 32); err == nil {
				users = append(users, uint32(uid))
			}
		}
		f.Close()
	}
	return users
}

// isAt reports whether a socket's address, as the tables have it, is one, or its
// port of any address. They have the port in hexadecimal digits, and the address
// too, in words of the machine's byte order.
func isAt(text string, at netip.AddrPort) bool {
	host, port, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil || uint16(n) != at.Port() {
		return false
	}
	b, err := hex.DecodeString(host)
	if err != nil || len(b)%4 != 0 {
		return false
	}
	for word := range slices.Chunk(b, 4) {
		binary.BigEndian.PutUint32(word, binary.NativeEndian.Uint32(word))
	}
	addr, ok := netip.AddrFromSlice(b)
	return ok && (addr.Unmap() == at.Addr() || addr.IsUnspecified())
}
