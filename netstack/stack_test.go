package netstack

import (
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// TestLossRecovery: connections have CUBIC (RFC 9438), SACK (RFC 2018) and, where
// timers are fine enough for it, RACK (RFC 8985).
func TestLossRecovery(t *testing.T) {
	t.Parallel()
	w := newWires(t)
	var permitted atomic.Bool
	w.out.setFilter(func(packet []byte) bool {
		if h := header.TCP(header.IPv4(packet).Payload()); h.Flags() == header.TCPFlagSyn {
			permitted.Store(header.ParseSynOptions(h.Options(), false).SACKPermitted)
		}
		return true
	})
	c := w.dial(t, "tcp4", w.serve(t, "tcp4", ":0", func(c net.Conn) { io.Copy(io.Discard, c) })).(*tcpConn)
	if !permitted.Load() {
		t.Error("no SACK-permitted option in the SYN")
	}
	var congestion tcpip.CongestionControlOption
	if terr := c.ep.GetSockOpt(&congestion); terr != nil || congestion != "cubic" {
		t.Errorf("congestion control %q, %v, want cubic", congestion, terr)
	}
	var recovery tcpip.TCPRecovery
	if terr := w.a.net.TransportProtocolOption(tcp.ProtocolNumber, &recovery); terr != nil {
		t.Fatal(terr)
	}
	if rack := recovery&tcpip.TCPRACKLossDetection != 0; rack == (runtime.GOOS == "windows") {
		t.Errorf("RACK %v on %s", rack, runtime.GOOS)
	}
}

// TestMemory: a connection may hold as much in each direction as Memory says. Three
// quarters of it are the window for what is received, half of the buffer for gVisor.
func TestMemory(t *testing.T) {
	t.Parallel()
	for memory, most := range map[Memory]int{MemorySmall: 2 << 20, MemoryNormal: 16 << 20, MemoryLarge: 64 << 20} {
		s, err := New(Config{Memory: memory})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var send tcpip.TCPSendBufferSizeRangeOption
		var receive tcpip.TCPReceiveBufferSizeRangeOption
		for _, o := range []tcpip.GettableTransportProtocolOption{&send, &receive} {
			if terr := s.net.TransportProtocolOption(tcp.ProtocolNumber, o); terr != nil {
				t.Fatal(terr)
			}
		}
		if send.Max != most || receive.Max/2 != most/4*3 {
			t.Errorf("%v: %d octets to send, a window of %d, want %d and three quarters of that", memory, send.Max, receive.Max/2, most)
		}
	}
}
