//go:build !linux

package netns

import (
	"errors"
	"fmt"
	"os/exec"
)

// Space would be the namespace of a command.
type Space struct{}

// Init does nothing.
func Init() {}

// New returns errors.ErrUnsupported.
func New(*exec.Cmd, Config) (*Space, error) {
	return nil, fmt.Errorf("netns: only Linux has network namespaces: %w", errors.ErrUnsupported)
}

// Missing returns nil.
func (*Space) Missing() []string { return nil }

// SetLink does nothing.
func (*Space) SetLink(Link) error { return nil }

// Release does nothing.
func (*Space) Release() error { return nil }

// Deliver does nothing.
func (*Space) Deliver([][]byte) {}

// Ready returns nil.
func (*Space) Ready() <-chan struct{} { return nil }

// Wake does nothing.
func (*Space) Wake() {}

// Fill returns 0.
func (*Space) Fill([]byte) int { return 0 }

// Close does nothing.
func (*Space) Close() error { return nil }
