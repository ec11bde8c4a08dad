package proxy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

// Reply codes of SOCKS4.
const (
	reply4Granted  = 90
	reply4Rejected = 91
)

// maxField4 bounds the user id and the name of a request, in octets.
const maxField4 = 255

var errLongField = errors.New("proxy: socks4: user id or name too long")

// readSOCKS4 reads a request of SOCKS4 (Ying-Da Lee, "SOCKS: A protocol for TCP
// proxy across firewalls") or SOCKS4A, its extension by names: version, command,
// port, IPv4 address, user id and a NUL, and if the address is 0.0.0.x with x not
// 0, a name and a NUL. The user id proves nothing, so it is not looked at.
func readSOCKS4(br *bufio.Reader) (socksRequest, error) {
	var head [8]byte
	for i := range head {
		var err error
		if head[i], err = br.ReadByte(); err != nil {
			return socksRequest{}, err
		}
	}
	req := socksRequest{version: socksVersion4, command: head[1], port: int(binary.BigEndian.Uint16(head[2:]))}
	if _, err := readField4(br); err != nil {
		return req, err
	}
	addr := [4]byte(head[4:])
	req.host = netip.AddrFrom4(addr).String()
	if [3]byte(addr[:3]) == [3]byte{} && addr[3] != 0 {
		var err error
		if req.host, err = readField4(br); err != nil {
			return req, err
		}
	}
	return req, nil
}

// readField4 reads text that ends with a NUL, which it leaves out.
func readField4(br *bufio.Reader) (string, error) {
	var text []byte
	for {
		c, err := br.ReadByte()
		switch {
		case err != nil:
			return "", err
		case c == 0:
			return string(text), nil
		case len(text) == maxField4:
			return "", errLongField
		}
		text = append(text, c)
	}
}

// appendReply4 appends a reply: a NUL where the version would be, the code, port
// and address. "No" has one code, because the others are about user ids.
func appendReply4(b []byte, code byte, bound net.Addr) []byte {
	ap := addrPortOf(bound)
	if !ap.Addr().Is4() {
		ap = netip.AddrPortFrom(netip.IPv4Unspecified(), ap.Port())
	}
	says := byte(reply4Granted)
	if code != replySucceeded {
		says = reply4Rejected
	}
	b = binary.BigEndian.AppendUint16(append(b, 0, says), ap.Port())
	return append(b, ap.Addr().AsSlice()...)
}
