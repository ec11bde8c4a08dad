package netstack

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Memory says how much a stack may use for what is in flight. It is used only
// by connections that need it: an idle one pays nothing.
type Memory uint8

// The choices. Three quarters of it are the window for what is received, so one
// connection reaches, over a round trip of 100 ms, 120 Mbit/s with MemorySmall,
// 1 Gbit/s with MemoryNormal and 4 Gbit/s with MemoryLarge.
const (
	MemoryNormal Memory = iota // up to 16 MiB a connection and direction
	MemorySmall                // up to 2 MiB
	MemoryLarge                // up to 64 MiB
)

var memoryNames = map[Memory]string{MemorySmall: "small", MemoryNormal: "normal", MemoryLarge: "large"}

// String is the name that ParseMemory reads.
func (m Memory) String() string { return memoryNames[m] }

// ParseMemory reads small, normal or large.
func ParseMemory(s string) (Memory, error) {
	for m, name := range memoryNames {
		if name == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("memory %q: want small, normal or large", s)
}

// limits are sizes in octets: of the buffers that a connection begins with, of
// what it may hold when auto-tuning has made the most of them, and of what the
// send queue holds of all connections.
func (m Memory) limits() (begin, most, queue int) {
	switch m {
	case MemorySmall:
		return 256 << 10, 2 << 20, 4 << 20
	case MemoryLarge:
		return 1 << 20, 64 << 20, 2 * streamLimit
	}
	return 1 << 20, 16 << 20, streamLimit
}

// receiveBuffer is the size of a receive buffer that holds most octets. gVisor
// keeps one half of it back for what segments cost besides their octets, and
// offers the other as the window. A segment costs half a KiB and those of a full
// window come merged, many KiB each; so it is told more than it will use.
func receiveBuffer(most int) int { return most + most/2 }

// buffers returns the options for both directions.
func (m Memory) buffers() (*tcpip.TCPReceiveBufferSizeRangeOption, *tcpip.TCPSendBufferSizeRangeOption) {
	begin, most, _ := m.limits()
	return &tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: begin, Max: receiveBuffer(most)},
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: begin, Max: most}
}
