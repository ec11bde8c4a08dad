//go:build !unix

package main

import (
	"errors"
	"net"
	"time"
)

// churn wants poll(2).
func (s *side) churn(time.Duration, int) (n int, took time.Duration, err error) {
	return 0, 0, errors.ErrUnsupported
}

// host wants it, too.
func host(*net.TCPListener) error { return errors.ErrUnsupported }
