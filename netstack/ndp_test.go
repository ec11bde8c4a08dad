package netstack

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"sstproxy/netstack/ndp"
)

// vector is ndp/testdata/ipv6-rs-ra.json: RFC 4861 §4.1, §4.2, RFC 4862 §5.5.3.
type vector struct {
	id     [8]byte
	rs, ra []byte
	slaac  netip.Addr
	local  netip.Addr
}

func loadVector(t testing.TB) vector {
	t.Helper()
	b, err := os.ReadFile("ndp/testdata/ipv6-rs-ra.json")
	if err != nil {
		t.Fatal(err)
	}
	var j struct {
		In struct {
			ID string `json:"interface_identifier"`
		}
		Out struct {
			RA    string     `json:"ra_ip_packet"`
			RS    string     `json:"rs_ip_packet"`
			Slaac netip.Addr `json:"slaac_address"`
			Local netip.Addr `json:"link_local"`
		}
	}
	if err := json.Unmarshal(b, &j); err != nil {
		t.Fatal(err)
	}
	return vector{[8]byte(unhex(t, j.In.ID)), unhex(t, j.Out.RS), unhex(t, j.Out.RA), j.Out.Slaac, j.Out.Local}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sent waits for the next packet a stack sends.
func sent(t *testing.T, s *Stack, patience time.Duration) []byte {
	t.Helper()
	buf := make([]byte, 2048)
	end := time.After(patience)
	for {
		select {
		case <-s.Ready():
			if n := s.Fill(buf[:testHeadroom+1500]); n > 0 {
				return buf[testHeadroom:n]
			}
		case <-end:
			t.Fatal("nothing was sent")
		}
	}
}

func TestRouterDiscovery(t *testing.T) {
	t.Parallel()
	v := loadVector(t)
	s := newStack(t)
	setLink(t, s, Link{Addrs: hosts(addrA), InterfaceID: v.id})
	if got := sent(t, s, time.Second); !bytes.Equal(got, v.rs) {
		t.Errorf("solicitation\n% x, want\n% x", got, v.rs)
	}
	// Unanswered, it is repeated.
	start := time.Now()
	if got := sent(t, s, 6*time.Second); !bytes.Equal(got, v.rs) || time.Since(start) < 3*time.Second {
		t.Errorf("second solicitation % x after %v", got, time.Since(start))
	}
	if _, err := s.DialContext(t.Context(), "udp", "[2001:db8::1]:53"); err == nil {
		t.Error("IPv6 is routed before the advertisement")
	}
	s.Deliver([][]byte{v.ra})
	waitFor(t, "the address", func() bool { return s.state.Load().has6 })
	if !s.owns(v.slaac) || !s.owns(v.local) {
		t.Errorf("addresses %v, want %v and %v", s.addrs, v.slaac, v.local)
	}
	c, err := s.DialContext(t.Context(), "udp", "[2001:db8::1]:53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr(); got != v.slaac {
		t.Errorf("source %v, want %v", got, v.slaac)
	}

	// The option's MTU of 1400 counts for IPv6 only, here in TCP's MSS.
	for to, want := range map[string]uint16{"[2001:db8::1]:80": 1400 - 60, "10.0.0.1:80": 1500 - 40} {
		if got := synMSS(t, s, to); got != want {
			t.Errorf("MSS to %s = %d, want %d", to, got, want)
		}
	}

	// A reconnect with the same identifier keeps the address, another loses it.
	s.LinkDown()
	setLink(t, s, Link{Addrs: hosts(addrA), InterfaceID: v.id})
	if !s.owns(v.slaac) || !s.state.Load().has6 {
		t.Error("address lost by a reconnect")
	}
	setLink(t, s, Link{Addrs: hosts(addrA), InterfaceID: [8]byte{1}})
	if s.owns(v.slaac) || s.owns(v.local) || s.state.Load().has6 {
		t.Error("address kept though the identifier changed")
	}
	// With too small an MTU there is no IPv6 at all.
	setLink(t, s, Link{Addrs: hosts(addrA), InterfaceID: v.id, MTU: 1279})
	s.Deliver([][]byte{v.ra})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.addrs) != 1 {
		t.Errorf("addresses %v", s.addrs)
	}
}

func synMSS(t *testing.T, s *Stack, to string) uint16 {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := s.DialContext(t.Context(), "tcp", to); err == nil {
			c.Close()
		}
	}()
	for {
		packet := sent(t, s, time.Second)
		tcp := header.TCP(packet[header.IPv4MinimumSize:])
		if packet[0]>>4 == 6 {
			if packet[6] != uint8(header.TCPProtocolNumber) {
				continue
			}
			tcp = packet[header.IPv6MinimumSize:]
		}
		mss := header.ParseSynOptions(tcp.Options(), false).MSS
		s.Deliver([][]byte{reset(packet, tcp)})
		<-done
		return mss
	}
}

// reset refuses a SYN.
func reset(packet []byte, syn header.TCP) []byte {
	b := bytes.Clone(packet[:len(packet)-len(syn)+header.TCPMinimumSize])
	tcp := header.TCP(b[len(b)-header.TCPMinimumSize:])
	tcp.Encode(&header.TCPFields{
		SrcPort: syn.DestinationPort(), DstPort: syn.SourcePort(), AckNum: syn.SequenceNumber() + 1,
		DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagRst | header.TCPFlagAck,
	})
	var sum uint16
	if b[0]>>4 == 4 {
		ip := header.IPv4(b)
		src := ip.SourceAddress()
		ip.SetSourceAddress(ip.DestinationAddress())
		ip.SetDestinationAddress(src)
		ip.SetTotalLength(uint16(len(b)))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		sum = header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), header.TCPMinimumSize)
	} else {
		ip := header.IPv6(b)
		src := ip.SourceAddress()
		ip.SetSourceAddress(ip.DestinationAddress())
		ip.SetDestinationAddress(src)
		ip.SetPayloadLength(header.TCPMinimumSize)
		sum = header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), header.TCPMinimumSize)
	}
	tcp.SetChecksum(^checksumOf(tcp, sum))
	return b
}

// TestManyPrefixes: what a peer can make us assign is bounded.
func TestManyPrefixes(t *testing.T) {
	t.Parallel()
	v := loadVector(t)
	s := newStack(t)
	setLink(t, s, Link{InterfaceID: v.id})
	for i := range byte(50) {
		b := bytes.Clone(v.ra)
		b[40+16+16+7] = i
		ndp.Seal(b)
		s.Deliver([][]byte{b})
	}
	waitFor(t, "addresses", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.addrs) == 1+maxPrefixes && len(s.slow) == 0
	})
}

// TestNeighborSolicitation: hosts behind a bridging server look for us, with
// the link-layer option removed, which gVisor alone would ignore.
func TestNeighborSolicitation(t *testing.T) {
	t.Parallel()
	v := loadVector(t)
	s := newStack(t)
	setLink(t, s, Link{InterfaceID: v.id})
	sent(t, s, time.Second) // the Router Solicitation
	host := netip.MustParseAddr("fe80::1234")
	group := addrOf(header.SolicitedNodeAddr(addressOf(v.local)))
	for _, tt := range []struct {
		from, to netip.Addr
		wantTo   netip.Addr
		flags    byte
	}{
		{host, group, host, 0x60},
		{host, v.local, host, 0x60},
		{netip.IPv6Unspecified(), group, ndp.AllNodes, 0x20},
	} {
		body := make([]byte, 24)
		body[0] = uint8(header.ICMPv6NeighborSolicit)
		copy(body[8:], v.local.AsSlice())
		s.Deliver([][]byte{ndp.Packet(tt.from, tt.to, body)})
		got := header.IPv6(sent(t, s, time.Second))
		na := got.Payload()
		src, dst, _, ok := ndp.Parse(got, ndp.TypeNeighborAdvertisement)
		if !ok || src != v.local || dst != tt.wantTo || na[0] != 136 || na[4] != tt.flags || !bytes.Equal(na[8:24], v.local.AsSlice()) {
			t.Errorf("from %v: answer % x", tt.from, []byte(got))
		}
	}
	// Not ours, and malformed: no answer.
	for _, target := range []netip.Addr{host, ndp.AllNodes} {
		body := make([]byte, 24)
		body[0] = uint8(header.ICMPv6NeighborSolicit)
		copy(body[8:], target.AsSlice())
		packet := ndp.Packet(host, v.local, body)
		s.Deliver([][]byte{packet})
	}
	waitFor(t, "the slow path", func() bool { return len(s.slow) == 0 })
	if n := s.Fill(make([]byte, 2048)); n != 0 {
		t.Errorf("answered with %d octets", n)
	}
}
