package netstack

import (
	"errors"
	"sync"
	"testing"
)

// TestInterrupted: what the link went down under says so even if the link is
// back before anybody looks, so that the caller knows that it can try again.
func TestInterrupted(t *testing.T) {
	for name, do := range map[string]func(*Stack) error{
		"dial":   func(s *Stack) error { _, err := s.DialContext(t.Context(), "tcp", addrB.String()+":80"); return err },
		"lookup": func(s *Stack) error { _, err := s.LookupNetIP(t.Context(), "ip", "host.example"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWires(t)
			var once sync.Once
			begun, ended := make(chan struct{}), make(chan error, 1)
			w.out.setFilter(func([]byte) bool { once.Do(func() { close(begun) }); return false })
			go func() { ended <- do(w.a) }() // ends with the call
			<-begun
			w.a.LinkDown()
			setLink(t, w.a, linkA())
			if err := <-ended; !errors.Is(err, ErrDown) {
				t.Errorf("got %v, want %v", err, ErrDown)
			}
		})
	}
}
