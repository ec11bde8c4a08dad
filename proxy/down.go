package proxy

import (
	"fmt"
	"strings"
	"syscall"
	"time"
)

// DownError is what a [DialFunc] returns, possibly wrapped, while there is no
// tunnel. The client sees SOCKS reply 3 or HTTP status 503, with Retry-After (RFC
// 9110, section 10.2.3) if Next is known.
// errors.Is finds syscall.ENETDOWN in it. The zero value says that the tunnel
// is down and no more. It must not be changed once returned.
type DownError struct {
	Since time.Time // when the tunnel was lost; zero: unknown, or it never was up
	Next  time.Time // of the next try; in the past: under way; zero: unknown, or none
	Cause string    // in words, lower case, without a full stop; may be empty
}

// Error says for example "the tunnel is down since 13:45:02 (the server closed
// the link), next try in 12 s", in local time.
func (e *DownError) Error() string {
	var b strings.Builder
	b.WriteString("the tunnel is down")
	if !e.Since.IsZero() {
		layout := time.TimeOnly
		if time.Since(e.Since) >= 24*time.Hour {
			layout = time.DateTime
		}
		b.WriteString(" since " + e.Since.Local().Format(layout))
	}
	if e.Cause != "" {
		b.WriteString(" (" + e.Cause + ")")
	}
	switch wait := time.Until(e.Next); {
	case e.Next.IsZero():
	case wait <= 0:
		b.WriteString(", trying now")
	default:
		fmt.Fprintf(&b, ", next try in %d s", seconds(wait))
	}
	return b.String()
}

// Unwrap returns syscall.ENETDOWN.
func (e *DownError) Unwrap() error { return syscall.ENETDOWN }

// seconds rounds up, so that who waits so long does not come too early, and to
// 1 at least.
func seconds(d time.Duration) int64 {
	return max(int64((d+time.Second-1)/time.Second), 1)
}
