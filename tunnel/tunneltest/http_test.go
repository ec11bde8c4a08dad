package tunneltest

import (
	"strings"
	"testing"

	"sstproxy/tunnel/sstp"
)

func TestHTTPRequest(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(testRequest, old, new, 1) }
	lax := HTTPQuirks{Lax: true}
	tests := []struct {
		name    string
		quirks  HTTPQuirks
		request string
		want    string // how the reply begins; empty is none at all
	}{
		{"good", HTTPQuirks{}, testRequest, "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\nServer: Microsoft-HTTPAPI/2.0\r\nDate: "},
		{"query", HTTPQuirks{}, edit("}/ ", "}/?tenantid=1 "), "HTTP/1.1 200 "},
		{"method", HTTPQuirks{}, edit("SSTP_DUPLEX_POST", "POST"), "HTTP/1.1 501 "},
		{"URI", HTTPQuirks{}, edit("}/", "}"), "HTTP/1.1 404 "},
		{"URI case", HTTPQuirks{}, edit("458b", "458B"), "HTTP/1.1 404 "},
		{"HTTP/1.0", HTTPQuirks{}, edit("HTTP/1.1", "HTTP/1.0"), "HTTP/1.1 400 "},
		{"HTTP/2", lax, edit("HTTP/1.1", "HTTP/2"), "HTTP/1.1 400 "},
		{"no Host", HTTPQuirks{}, edit("Host", "Ghost"), "HTTP/1.1 400 "},
		{"Content-Length", HTTPQuirks{}, edit("18446744073709551615", "9"), "HTTP/1.1 400 "},
		{"lax URI case", lax, edit("458b", "458B"), "HTTP/1.1 200 "},
		{"lax HTTP/1.0", lax, edit("HTTP/1.1", "HTTP/1.0"), "HTTP/1.1 200 "},
		{"lax no Host", lax, edit("Host", "Ghost"), "HTTP/1.1 200 "},
		{"lax Content-Length", lax, edit("Content-Length: 18446744073709551615\r\n", ""), "HTTP/1.1 200 "},
		{"right host", HTTPQuirks{Host: "vpn.example.test"}, edit("vpn.example.test", "vpn.example.test:8443"), "HTTP/1.1 200 "},
		{"wrong host", HTTPQuirks{Host: "other.test"}, testRequest, "HTTP/1.1 404 "},
		{"503", HTTPQuirks{Status: 503}, testRequest, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"},
		{"close", HTTPQuirks{Close: true}, testRequest, ""},
		{"close on fault", HTTPQuirks{CloseOnFault: true}, edit("SSTP_DUPLEX_POST", "GET"), ""},
		{"no fault", HTTPQuirks{CloseOnFault: true}, testRequest, "HTTP/1.1 200 "},
		{"silent", HTTPQuirks{Silent: true}, testRequest, ""},
		{"raw", HTTPQuirks{Raw: "SSH-2.0-x\r\n\r\n"}, testRequest, "SSH-2.0-x\r\n\r\n"},
		{"continue", HTTPQuirks{Continue: true}, testRequest, "HTTP/1.1 100 Continue\r\n\r\n"},
		{"SoftEther", HTTPQuirks{Style: HTTPStyleSoftEther}, testRequest, "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\nDate: "},
		{"accel-ppp", HTTPQuirks{Style: HTTPStyleAccelPPP}, testRequest, "HTTP/1.1 200 OK\r\nDate: "},
		{"sorz", HTTPQuirks{Style: HTTPStyleSorz}, testRequest, "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\nServer: SSTP-Server/"},
		{"garbage", HTTPQuirks{}, "\x16\x03\x01\r\n\r\n", ""},
		{"too large", HTTPQuirks{}, "GET /" + strings.Repeat("x", maxRequestLen+1), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{Quirks: Quirks{HTTP: test.quirks}}, func(t *testing.T, c *client) {
				reply, err := c.request(test.request)
				if !strings.HasPrefix(reply, test.want) || test.want == "" && reply != "" {
					t.Errorf("reply %q, %v, want %q…", reply, err, test.want)
				}
			})
		})
	}
}

func TestHTTPLocation(t *testing.T) {
	q := HTTPQuirks{Status: 301, Location: "https://www.example.test/"}
	bubble(t, Config{Quirks: Quirks{HTTP: q}}, func(t *testing.T, c *client) {
		if reply, _ := c.request(testRequest); !strings.Contains(reply, "\r\nLocation: https://www.example.test/\r\n") {
			t.Errorf("reply %q without Location", reply)
		}
		c.await(EventEnded)
		c.wantEvents(EventHTTPRefused)
	})
}

// TestHTTPEarlyOctets sends the Call Connect Request in the same write as the
// HTTPS request: most servers cope, sorz loses it.
func TestHTTPEarlyOctets(t *testing.T) {
	early := sstp.Message{Type: sstp.CallConnectRequest, Attributes: []sstp.Attribute{
		{ID: sstp.AttrEncapsulatedProtocolID, Value: []byte{0, 1}},
	}}.Append([]byte(testRequest))
	bubble(t, Config{}, func(t *testing.T, c *client) {
		if _, err := c.request(string(early)); err != nil {
			t.Fatal(err)
		}
		c.want("Call Connect Ack")
	})
	bubble(t, Config{Quirks: Quirks{HTTP: HTTPQuirks{DiscardsEarly: true}}}, func(t *testing.T, c *client) {
		if _, err := c.request(string(early)); err != nil {
			t.Fatal(err)
		}
		got, _ := c.want("Call Abort").message.StatusInfo()
		if got.Status != sstp.StatusNegotiationTimeout {
			t.Errorf("abort with %v, want a negotiation timeout", got)
		}
	})
}
