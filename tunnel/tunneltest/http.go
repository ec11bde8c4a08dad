package tunneltest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	sstpMethod        = "SSTP_DUPLEX_POST"
	sstpURI           = "/sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/"
	sstpContentLength = "18446744073709551615" // 2^64-1 (2.1)
	maxRequestLen     = 16 << 10
	httpTimeout       = 60 * time.Second
)

// request is the head of an HTTP request.
type request struct {
	method, uri, proto string
	header             map[string]string // keys in lower case
}

// readRequest reads from TLS up to the blank line. rest is what came behind it.
func readRequest(r io.Reader) (req request, rest []byte, err error) {
	var head []byte
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		head = append(head, buf[:n]...)
		if i := bytes.Index(head, []byte("\r\n\r\n")); i >= 0 {
			req, err := parseRequest(string(head[:i]))
			return req, head[i+4:], err
		}
		if err != nil {
			return request{}, nil, err
		}
		if len(head) > maxRequestLen {
			return request{}, nil, errors.New("request header too large")
		}
	}
}

func parseRequest(head string) (request, error) {
	lines := strings.Split(head, "\r\n")
	words := strings.Split(lines[0], " ")
	if len(words) != 3 {
		return request{}, errors.New("malformed request line")
	}
	req := request{method: words[0], uri: words[1], proto: words[2], header: make(map[string]string)}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return request{}, errors.New("malformed header line")
		}
		req.header[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	return req, nil
}

// check returns the status for a request and what is wrong with it. A query
// behind the URI is for front ends and ignored (2.1).
func (q HTTPQuirks) check(req request) (status int, fault string) {
	path, _, _ := strings.Cut(req.uri, "?")
	host := req.header["host"]
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	switch {
	case q.Status != 0:
		return q.Status, "all requests are refused"
	case !strings.HasPrefix(req.proto, "HTTP/1."):
		return http.StatusBadRequest, "protocol " + req.proto
	case req.method != sstpMethod:
		return http.StatusNotImplemented, "method " + req.method
	case q.Host != "" && host != q.Host:
		return http.StatusNotFound, "host " + host
	case q.Lax && strings.EqualFold(path, sstpURI):
		return http.StatusOK, ""
	case path != sstpURI:
		return http.StatusNotFound, "URI " + path
	case req.proto != "HTTP/1.1":
		return http.StatusBadRequest, "protocol " + req.proto
	case host == "":
		return http.StatusBadRequest, "no Host"
	case req.header["content-length"] != sstpContentLength:
		return http.StatusBadRequest, "Content-Length is not 2^64-1"
	}
	return http.StatusOK, ""
}

// reply is the whole header of a reply, with its blank line.
func (q HTTPQuirks) reply(status int, now time.Time) []byte {
	var b strings.Builder
	if q.Continue {
		b.WriteString("HTTP/1.1 100 Continue\r\n\r\n")
	}
	length := sstpContentLength
	if status != http.StatusOK {
		length = "0"
	}
	date := "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"
	content := "Content-Length: " + length + "\r\n"
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	switch q.Style {
	case HTTPStyleSoftEther:
		b.WriteString(content + date + "Server: Microsoft-HTTPAPI/2.0\r\n")
	case HTTPStyleAccelPPP:
		b.WriteString(date + content + "Connection: keep-alive\r\n")
	case HTTPStyleSorz:
		b.WriteString(content + "Server: SSTP-Server/0.6.0\r\n" + date)
	default:
		b.WriteString(content + "Server: Microsoft-HTTPAPI/2.0\r\n" + date)
	}
	if q.Location != "" {
		b.WriteString("Location: " + q.Location + "\r\n")
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

// exchange is the HTTPS exchange. It reports whether the call may begin, and
// what of it has already been read.
func (c *Conn) exchange() (rest []byte, ok bool) {
	q := c.quirks.HTTP
	req, rest, err := readRequest(c.tls)
	if err != nil {
		c.record(EventHTTPRefused, err.Error())
		return nil, false
	}
	status, fault := q.check(req)
	if fault != "" {
		c.record(EventHTTPRefused, fault)
	}
	reply := q.reply(status, time.Now())
	switch {
	case q.Silent:
		io.Copy(io.Discard, c.tls) // until the deadline, the client or Close ends it
		return nil, false
	case q.Raw != "":
		reply, status = []byte(q.Raw), 0
	case q.Close, q.CloseOnFault && fault != "":
		return nil, false
	}
	c.emit("HTTP reply", reply)
	if status != http.StatusOK {
		return nil, false
	}
	c.record(EventHTTPRequest, req.header["host"])
	if q.DiscardsEarly {
		rest = nil
	}
	return rest, true
}
