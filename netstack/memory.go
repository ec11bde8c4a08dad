package netstack

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Memory says how much a stack may use for what is in flight. It is used only
// by connections that need it: an idle one pays nothing.
type Memory uint8

// The choices. Half of a receive buffer is usable window, so one connection
// reaches, over a round trip of 100 ms, 80 Mbit/s with MemorySmall, 640 Mbit/s
// with MemoryNormal and 2.5 Gbit/s with MemoryLarge.
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

// limits are buffer sizes in octets: what a connection begins with, what
// auto-tuning may make of it, and what the send queue holds of all of them.
func (m Memory) limits() (begin, most, queue int) {
	switch m {
	case MemorySmall:
		return 256 << 10, 2 << 20, 4 << 20
	case MemoryLarge:
		return 1 << 20, 64 << 20, 2 * streamLimit
	}
	return 1 << 20, 16 << 20, streamLimit
}

// buffers returns the options for both directions.
func (m Memory) buffers() (*tcpip.TCPReceiveBufferSizeRangeOption, *tcpip.TCPSendBufferSizeRangeOption) {
	begin, most, _ := m.limits()
	return &tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: begin, Max: most},
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: begin, Max: most}
}
