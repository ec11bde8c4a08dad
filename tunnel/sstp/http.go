package sstp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// Method is the HTTP method of the exchange (2.1).
	Method = "SSTP_DUPLEX_POST"

	// URI is the request URI (2.1). Its case and its raw braces are part of
	// it, so it is not to go through net/url.
	URI = "/sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/"

	// ContentLength is the Content-Length of request and reply, 2⁶⁴−1 (2.1).
	// It does not fit in an int64, which is why net/http is no help here.
	ContentLength = "18446744073709551615"

	// MaxHeaderLen bounds what is read in search of the blank line, in octets
	// and with all 1xx replies.
	MaxHeaderLen = 16 << 10
)

var (
	// ErrNotHTTP means that the peer's octets are not an HTTP/1 message.
	ErrNotHTTP = errors.New("not an HTTP/1 message")

	// ErrReplyTooLarge means that no blank line came within [MaxHeaderLen].
	ErrReplyTooLarge = errors.New("HTTP header larger than 16 KiB")
)

// Field is one header field, its value without the blanks around it.
type Field struct{ Name, Value string }

// get is the value of the first field of that name in any letter case.
func get(fields []Field, name string) string {
	for _, f := range fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// AppendRequest appends the HTTPS request that opens a call (2.1, 3.2.4.1).
// host is the server's name, with its port if that is not 443; correlationID
// is a fresh GUID in braces, or empty to leave the header out. Both are written
// as they are and must hold no control characters.
//
// Nothing may follow the request before the reply is there: sorz/sstp-server
// and ogital-net/sstp-server throw away what comes with it.
func AppendRequest(b []byte, host, correlationID string) []byte {
	b = fmt.Appendf(b, "%s %s HTTP/1.1\r\nHost: %s\r\n", Method, URI, host)
	if correlationID != "" {
		b = fmt.Appendf(b, "SSTPCORRELATIONID: %s\r\n", correlationID)
	}
	return fmt.Appendf(b, "Content-Length: %s\r\n\r\n", ContentLength)
}

// Reply is the head of an HTTP reply.
type Reply struct {
	StatusCode int     // 100 to 999
	Reason     string  // may be empty, as with MikroTik
	Header     []Field // in the order of the wire
}

// Get is the value of the first header field of that name, in any letter case,
// or the empty string.
func (r Reply) Get(name string) string { return get(r.Header, name) }

// ParseReply reads the head of the reply at the start of b. n is the number of
// octets up to and with the blank line; those behind it are SSTP. n = 0 without
// an error means that the blank line is not there yet: the caller reads on and
// calls again with all octets. Interim replies (1xx) are passed over, n covers
// them. Errors are [ErrNotHTTP] and [ErrReplyTooLarge], wrapped and reported as
// soon as the octets prove them. A refusal is no error here; see [Reply.Err].
//
// Lines may end in a bare LF (RFC 9112 §2.2) and be folded (§5.2); blanks around
// a field's name and value do not count, and a line that is no field is passed
// over. Content-Length may have any value or be missing.
func ParseReply(b []byte) (r Reply, n int, err error) {
	for {
		h, size, err := parseHead(b[n:], MaxHeaderLen-n, checkStatusLine)
		if err != nil {
			return Reply{}, 0, fmt.Errorf("sstp: https reply: %w", err)
		}
		if size == 0 {
			return Reply{}, 0, nil
		}
		n += size
		r = Reply{Header: h.fields}
		r.StatusCode, r.Reason, _ = parseStatusLine(h.start)
		if r.StatusCode >= 200 {
			return r, n, nil
		}
	}
}

// checkStatusLine reports whether line is a status line or, as long as it is
// not whole, may still become one.
func checkStatusLine(line string, whole bool) bool {
	const proto = "HTTP/1."
	if !whole {
		k := min(len(line), len(proto))
		return line[:k] == proto[:k]
	}
	_, _, ok := parseStatusLine(line)
	return ok
}

// parseStatusLine takes "HTTP/1.x NNN" with or without a reason phrase.
func parseStatusLine(line string) (code int, reason string, ok bool) {
	proto, rest, _ := strings.Cut(line, " ")
	if len(proto) != len("HTTP/1.1") || !strings.HasPrefix(proto, "HTTP/1.") || !isDigit(proto[7]) {
		return 0, "", false
	}
	digits, reason, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	if len(digits) != 3 || !isDigit(digits[0]) || !isDigit(digits[1]) || !isDigit(digits[2]) {
		return 0, "", false
	}
	code, _ = strconv.Atoi(digits)
	return code, strings.TrimSpace(reason), code >= 100
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// head is a start line with the header fields below it.
type head struct {
	start  string
	fields []Field
}

// parseHead reads a start line and header fields up to the blank line, which
// must end within limit octets. n = 0 without an error means: not there yet.
// check judges the start line, also while it is not whole.
func parseHead(b []byte, limit int, check func(line string, whole bool) bool) (h head, n int, err error) {
	full := len(b) >= limit
	b = b[:min(len(b), limit)]
	for i := 0; ; i++ {
		end := bytes.IndexByte(b[n:], '\n')
		if end < 0 {
			if i == 0 && !check(string(b[n:]), false) {
				return head{}, 0, ErrNotHTTP
			}
			if full {
				return head{}, 0, ErrReplyTooLarge
			}
			return head{}, 0, nil
		}
		line := strings.TrimSuffix(string(b[n:n+end]), "\r")
		n += end + 1
		switch {
		case i == 0 && !check(line, true):
			return head{}, 0, ErrNotHTTP
		case i == 0:
			h.start = line
		case line == "":
			return h, n, nil
		default:
			h.fields = appendField(h.fields, line)
		}
	}
}

// appendField adds a header line: a field, or the continuation of the one
// before it.
func appendField(fields []Field, line string) []Field {
	if line[0] == ' ' || line[0] == '\t' {
		if len(fields) > 0 {
			last := &fields[len(fields)-1]
			last.Value = strings.TrimSpace(last.Value + " " + strings.TrimSpace(line))
		}
		return fields
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return fields
	}
	return append(fields, Field{strings.TrimSpace(name), strings.TrimSpace(value)})
}

// Request is the head of an HTTP request, as a server sees it.
type Request struct {
	Method, URI, Proto string  // the three words of the request line
	Host               string  // the Host field, with its port if it has one
	Header             []Field // in the order of the wire
}

// Get is the value of the first header field of that name, in any letter case,
// or the empty string.
func (r Request) Get(name string) string { return get(r.Header, name) }

// ParseRequest reads the head of the request at the start of b, like
// [ParseReply]. It judges the form only: whether method, URI and host are the
// right ones is for the server to say, and servers differ.
func ParseRequest(b []byte) (r Request, n int, err error) {
	h, n, err := parseHead(b, MaxHeaderLen, checkRequestLine)
	if err != nil {
		return Request{}, 0, fmt.Errorf("sstp: https request: %w", err)
	}
	if n == 0 {
		return Request{}, 0, nil
	}
	words := strings.Split(h.start, " ")
	return Request{words[0], words[1], words[2], get(h.fields, "Host"), h.fields}, n, nil
}

// checkRequestLine reports whether a whole line is three words, the last of
// them an HTTP version.
func checkRequestLine(line string, whole bool) bool {
	words := strings.Split(line, " ")
	return !whole || len(words) == 3 && words[0] != "" && words[1] != "" && strings.HasPrefix(words[2], "HTTP/1.")
}

// AppendServerReply appends the head of a reply with those fields, in their
// order. An empty reason leaves out the blank before it too.
func AppendServerReply(b []byte, statusCode int, reason string, fields ...Field) []byte {
	b = fmt.Appendf(b, "HTTP/1.1 %03d", statusCode)
	if reason != "" {
		b = fmt.Appendf(b, " %s", reason)
	}
	b = append(b, "\r\n"...)
	for _, f := range fields {
		b = fmt.Appendf(b, "%s: %s\r\n", f.Name, f.Value)
	}
	return append(b, "\r\n"...)
}
