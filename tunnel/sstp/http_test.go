package sstp_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"sstproxy/tunnel/sstp"
)

func TestAppendRequest(t *testing.T) {
	const want = "SSTP_DUPLEX_POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1\r\n" +
		"Host: vpn.example.test\r\n" +
		"SSTPCORRELATIONID: {6E1F0A3B-1C2D-4E5F-8091-A2B3C4D5E6F7}\r\n" +
		"Content-Length: 18446744073709551615\r\n\r\n"
	got := sstp.AppendRequest([]byte("x"), "vpn.example.test", "{6E1F0A3B-1C2D-4E5F-8091-A2B3C4D5E6F7}")
	if string(got) != "x"+want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := sstp.AppendRequest(nil, "h", ""); strings.Contains(string(got), "SSTPCORRELATIONID") {
		t.Errorf("empty correlation id: %q", got)
	}
}

// replies are the 200s of real servers and what else must open a call.
var replies = []struct {
	name, head string
	reason     string
	family     sstp.Family
}{
	{"SoftEther", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\nDate: Sun, 22 Nov 2026 04:43:08 GMT\r\nServer: Microsoft-HTTPAPI/2.0\r\n\r\n", "OK", sstp.FamilySoftEther},
	{"RRAS", "HTTP/1.1 200\r\nContent-Length: 18446744073709551615\r\nServer: Microsoft-HTTPAPI/2.0\r\nDate: Fri, 01 Nov 2013 00:00:00 GMT\r\n\r\n", "", sstp.FamilyRRAS},
	{"accel-ppp", "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 04:40:50 GMT\r\nContent-Length: 18446744073709551615\r\nConnection: keep-alive\r\n\r\n", "OK", sstp.FamilyAccelPPP},
	{"RRAS without a date", "HTTP/1.1 200 OK\r\nServer: Microsoft-HTTPAPI/2.0\r\n\r\n", "OK", sstp.FamilyRRAS},
	{"sorz", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\nServer: SSTP-Server/0.7.0\r\n\r\n", "OK", sstp.FamilySorz},
	{"MikroTik, blank and no reason", "HTTP/1.1 200 \r\nContent-Length: 18446744073709551615\r\nServer: MikroTik-SSTP\r\nDate: Fri, 01 Nov 2013 00:00:00 GMT\r\n\r\n", "", sstp.FamilyMikroTik},
	{"no fields", "HTTP/1.1 200 OK\r\n\r\n", "OK", ""},
	{"no reason, no fields", "HTTP/1.1 200\r\n\r\n", "", ""},
	{"HTTP/1.0", "HTTP/1.0 200 Connection established\r\n\r\n", "Connection established", ""},
	{"blanks before the code", "HTTP/1.1   200   OK \r\n\r\n", "OK", ""},
	{"bare LF", "HTTP/1.1 200 OK\nServer: x\n\n", "OK", ""},
	{"CRLF and bare LF", "HTTP/1.1 200 OK\r\nServer: x\n\r\n", "OK", ""},
	{"one 1xx", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "OK", ""},
	{"many 1xx with fields", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", 5) + "HTTP/1.1 200 OK\r\n\r\n", "OK", ""},
	{"line that is no field", "HTTP/1.1 200 OK\r\nhello\r\n\r\n", "OK", ""},
	{"Content-Length with another value", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "OK", ""},
}

// An SSTP server may send its first packet in the same TLS record.
func TestParseReplyLeavesWhatFollows(t *testing.T) {
	follow := packetNamed(t, "EchoRequest")
	for _, test := range replies {
		t.Run(test.name, func(t *testing.T) {
			r, n, err := sstp.ParseReply(append([]byte(test.head), follow...))
			if err != nil || n != len(test.head) {
				t.Fatalf("got %d, %v, want %d", n, err, len(test.head))
			}
			if r.StatusCode != 200 || r.Reason != test.reason || r.Err() != nil {
				t.Errorf("got %d %q, %v", r.StatusCode, r.Reason, r.Err())
			}
			if got := r.Family(); got != test.family {
				t.Errorf("family %q, want %q", got, test.family)
			}
		})
	}
}

func TestParseReplyByteByByte(t *testing.T) {
	for _, test := range replies {
		t.Run(test.name, func(t *testing.T) {
			for i := range len(test.head) {
				if _, n, err := sstp.ParseReply([]byte(test.head[:i])); n != 0 || err != nil {
					t.Fatalf("%d of %d octets: got %d, %v, want 0, nil", i, len(test.head), n, err)
				}
			}
			if _, n, err := sstp.ParseReply([]byte(test.head)); n != len(test.head) || err != nil {
				t.Errorf("whole: got %d, %v", n, err)
			}
		})
	}
}

func TestParseReplyFields(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n" +
		" a continuation of nothing\r\n" +
		"SERVER:no blank\r\n" +
		"date :\t spaced \t\r\n" +
		"Folded: one\r\n two\r\n\tthree  \r\n" +
		"Empty:\r\n" +
		"EmptyFolded:\r\n late\r\n" +
		"Colons: a:b: c\r\n" +
		"server: second\r\n\r\n"
	r, n, err := sstp.ParseReply([]byte(head))
	if err != nil || n != len(head) {
		t.Fatal(n, err)
	}
	want := []sstp.Field{
		{Name: "SERVER", Value: "no blank"}, {Name: "date", Value: "spaced"}, {Name: "Folded", Value: "one two three"},
		{Name: "Empty"}, {Name: "EmptyFolded", Value: "late"}, {Name: "Colons", Value: "a:b: c"}, {Name: "server", Value: "second"},
	}
	if !slices.Equal(r.Header, want) {
		t.Errorf("got %q, want %q", r.Header, want)
	}
	if got := r.Get("Server"); got != "no blank" {
		t.Errorf("Get(Server) = %q", got)
	}
	if got := r.Get("Missing"); got != "" {
		t.Errorf("Get(Missing) = %q", got)
	}
}

func TestParseReplyRejectsWhatIsNotHTTP(t *testing.T) {
	for _, in := range []string{
		"\x10\x01", "SSH-2.0-OpenSSH\r\n", "220 mail\r\n", "G", "http/1.1 200 OK\r\n", "\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/2 200\r\n", "HTTP/1.x 200\r\n", "HTTP/1.10 200\r\n", "HTTP/1.1\r\n", "HTTP/1.1 \r\n", "HTTP/1.1 20\r\n", "HTTP/1.1 2000\r\n",
		"HTTP/1.1 2x0 OK\r\n", "HTTP/1.1 099\r\n", "HTTP/1.1200\r\n", "HTTP/1.1 100 Continue\r\n\r\n\x10\x01\x00",
	} {
		if _, n, err := sstp.ParseReply([]byte(in)); n != 0 || !errors.Is(err, sstp.ErrNotHTTP) {
			t.Errorf("%q: got %d, %v, want ErrNotHTTP", in, n, err)
		}
	}
}

func TestParseReplyBound(t *testing.T) {
	head := func(total int) []byte {
		const start, end = "HTTP/1.1 200 OK\r\nPad: ", "\r\n\r\n"
		return []byte(start + strings.Repeat("x", total-len(start)-len(end)) + end)
	}
	if _, n, err := sstp.ParseReply(append(head(16384), "SSTP"...)); n != 16384 || err != nil {
		t.Errorf("16384 octets: got %d, %v", n, err)
	}
	if _, n, err := sstp.ParseReply(head(16385)); n != 0 || !errors.Is(err, sstp.ErrReplyTooLarge) {
		t.Errorf("16385 octets: got %d, %v", n, err)
	}
	if _, n, err := sstp.ParseReply(head(20000)[:16383]); n != 0 || err != nil {
		t.Errorf("first 16383 octets: got %d, %v", n, err)
	}
	if _, n, err := sstp.ParseReply(head(20000)[:16384]); n != 0 || !errors.Is(err, sstp.ErrReplyTooLarge) {
		t.Errorf("first 16384 octets: got %d, %v", n, err)
	}
	endless := []byte("HTTP/1." + strings.Repeat("1", 17000))
	if _, n, err := sstp.ParseReply(endless); n != 0 || !errors.Is(err, sstp.ErrReplyTooLarge) {
		t.Errorf("endless status line: got %d, %v", n, err)
	}
	interim := []byte(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000))
	if _, n, err := sstp.ParseReply(interim); n != 0 || !errors.Is(err, sstp.ErrReplyTooLarge) {
		t.Errorf("endless 1xx: got %d, %v", n, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		name, head, wantError, wantHint string
	}{
		{"accel-ppp http-error", "HTTP/1.1 301 Moved Permanently\r\nLocation: https://www.example.test/\r\n\r\n",
			`sstp: https reply: status 301 "Moved Permanently" to "https://www.example.test/"`, "web site"},
		{"302", "HTTP/1.1 302 Found\r\nLocation: /login\r\nServer: nginx\r\n\r\n",
			`sstp: https reply: status 302 "Found" from "nginx" to "/login"`, "web site"},
		{"400", "HTTP/1.1 400 Bad Request\r\n\r\n", `sstp: https reply: status 400 "Bad Request"`, "reverse proxy"},
		{"401", "HTTP/1.1 401\r\n\r\n", `sstp: https reply: status 401`, "login"},
		{"SoftEther 403", "HTTP/1.1 403 Forbidden\r\n\r\n", `sstp: https reply: status 403 "Forbidden"`, "refuses"},
		{"SoftEther 404", "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\n<html>", `sstp: https reply: status 404 "Not Found"`, "not registered"},
		{"405", "HTTP/1.1 405 Method Not Allowed\r\n\r\n", `sstp: https reply: status 405 "Method Not Allowed"`, "not an SSTP endpoint"},
		{"407", "HTTP/1.1 407 \r\n\r\n", `sstp: https reply: status 407`, "proxy"},
		{"411", "HTTP/1.1 411 Length Required\r\n\r\n", `sstp: https reply: status 411 "Length Required"`, "not an SSTP endpoint"},
		{"413", "HTTP/1.1 413 Too Large\r\n\r\n", `sstp: https reply: status 413 "Too Large"`, "not an SSTP endpoint"},
		{"SoftEther 501", "HTTP/1.1 501 Not Implemented\r\n\r\n", `sstp: https reply: status 501 "Not Implemented"`, "switched off"},
		{"503", "HTTP/1.1 503 Service Unavailable\r\nServer: Microsoft-HTTPAPI/2.0\r\n\r\n",
			`sstp: https reply: status 503 "Service Unavailable" from "Microsoft-HTTPAPI/2.0"`, "stopped"},
		{"another 2xx", "HTTP/1.1 204 No Content\r\n\r\n", `sstp: https reply: status 204 "No Content"`, "does not accept"},
		{"escape sequences", "HTTP/1.1 500 \x1b[2J\r\nServer: " + strings.Repeat("x", 300) + "\r\n\r\n",
			`sstp: https reply: status 500 "\x1b[2J" from "` + strings.Repeat("x", 200) + `"`, "does not accept"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, _, err := sstp.ParseReply([]byte(test.head))
			if err != nil {
				t.Fatal(err)
			}
			var refused *sstp.HTTPError
			if err := r.Err(); !errors.As(err, &refused) || err.Error() != test.wantError {
				t.Fatalf("got %v, want %s", err, test.wantError)
			}
			if got := sstp.ReplyHint(r.Err()); !strings.Contains(got, test.wantHint) {
				t.Errorf("hint %q, want something about %q", got, test.wantHint)
			}
			if r.Family() != "" {
				t.Errorf("a refusal is no SSTP server's: %q", r.Family())
			}
		})
	}
}

func TestReplyHint(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{sstp.ErrNoReply, "closed it"},
		{sstp.ErrNotHTTP, "not HTTP"},
		{sstp.ErrReplyTooLarge, "no SSTP server"},
		{errors.New("else"), ""},
		{nil, ""},
	} {
		got := sstp.ReplyHint(test.err)
		if !strings.Contains(got, test.want) || (test.want == "") != (got == "") {
			t.Errorf("%v: got %q, want something about %q", test.err, got, test.want)
		}
	}
}

func TestFamilyOfOtherReplies(t *testing.T) {
	for _, head := range []string{
		"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: x\r\nConnection: keep-alive\r\nContent-Length: 18446744073709551615\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 12\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
	} {
		if r, _, err := sstp.ParseReply([]byte(head)); err != nil || r.Family() != "" {
			t.Errorf("%q: family %q, %v, want none", head, r.Family(), err)
		}
	}
}

func TestParseRequest(t *testing.T) {
	head := sstp.AppendRequest(nil, "vpn.example.test:4443", "{GUID}")
	r, n, err := sstp.ParseRequest(append(bytes.Clone(head), "more"...))
	if err != nil || n != len(head) {
		t.Fatal(n, err)
	}
	if r.Method != sstp.Method || r.URI != sstp.URI || r.Proto != "HTTP/1.1" || r.Host != "vpn.example.test:4443" {
		t.Errorf("got %+v", r)
	}
	if r.Get("content-length") != sstp.ContentLength || r.Get("sstpcorrelationid") != "{GUID}" {
		t.Errorf("got %q", r.Header)
	}
	for i := range head {
		if _, n, err := sstp.ParseRequest(head[:i]); n != 0 || err != nil {
			t.Errorf("%d octets: got %d, %v", i, n, err)
		}
	}
	for _, in := range []string{"\r\n", "GET /\r\n", "GET / HTTP/2\r\n", "GET  HTTP/1.1\r\n", " / HTTP/1.1\r\n", "A B C HTTP/1.1\r\n"} {
		if _, _, err := sstp.ParseRequest([]byte(in)); !errors.Is(err, sstp.ErrNotHTTP) {
			t.Errorf("%q: got %v, want ErrNotHTTP", in, err)
		}
	}
	if _, _, err := sstp.ParseRequest(make([]byte, 16384)); !errors.Is(err, sstp.ErrReplyTooLarge) {
		t.Errorf("endless: %v", err)
	}
}

func TestAppendServerReply(t *testing.T) {
	got := sstp.AppendServerReply([]byte("x"), 200, "OK", sstp.Field{Name: "Content-Length", Value: sstp.ContentLength}, sstp.Field{Name: "Date", Value: "now"})
	if want := "xHTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\nDate: now\r\n\r\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := string(sstp.AppendServerReply(nil, 404, "")), "HTTP/1.1 404\r\n\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
