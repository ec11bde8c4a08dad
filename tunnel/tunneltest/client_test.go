package tunneltest

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/ppp/mschap"
	"sstproxy/tunnel/sstp"
)

const (
	testUser     = "alice"
	testPassword = "wonderland"
	testRequest  = "SSTP_DUPLEX_POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1\r\n" +
		"Host: vpn.example.test\r\nSSTPCORRELATIONID: {6E1F0A3B-1C2D-4E5F-8091-A2B3C4D5E6F7}\r\n" +
		"Content-Length: 18446744073709551615\r\n\r\n"
)

// client is a scripted client: octets in, octets out, nothing decided by
// itself but what a test asks of it.
type client struct {
	t      *testing.T
	server *Server
	tls    *tls.Conn
	buf    []byte
	nonce  [32]byte
	hashes sstp.HashProtocol
	id     uint8
	method Method // agreed on
	hlak   [32]byte
	user   string
	pass   string

	addr, dns netip.Addr
}

// frame is one packet from the server: control is set or proto and packet are.
type frame struct {
	control bool
	message sstp.Message
	proto   ppp.Protocol
	packet  ppp.Packet
	info    []byte
}

func (f frame) String() string {
	if f.control {
		return messageName(f.message.Type)
	}
	return pppName(f.proto, f.info)
}

// bubble runs a test against a server on one end of a pipe, in virtual time.
func bubble(t *testing.T, cfg Config, test func(t *testing.T, c *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := newTestServer(t, cfg)
		defer server.Close()
		c := server.dial(t)
		defer c.close()
		test(t, c)
	})
}

type testServer struct{ *Server }

func newTestServer(t *testing.T, cfg Config) testServer {
	t.Helper()
	if cfg.Users == nil {
		cfg.Users = map[string]string{testUser: testPassword}
	}
	server, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return testServer{server}
}

func (s testServer) dial(t *testing.T) *client {
	t.Helper()
	near, far := net.Pipe()
	return s.dialOver(t, near, far)
}

func (s testServer) dialOver(t *testing.T, near, far net.Conn) *client {
	t.Helper()
	go s.ServeConn(far) // ends with near
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA())
	conn := tls.Client(near, &tls.Config{RootCAs: roots, ServerName: "vpn.example.test"})
	conn.SetDeadline(time.Now().Add(time.Hour))
	return &client{t: t, server: s.Server, tls: conn, user: testUser, pass: testPassword}
}

func (c *client) close() { c.tls.NetConn().Close() }

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.tls.Write(b); err != nil {
		c.t.Fatalf("client write: %v", err)
	}
}

// request sends the HTTPS request and returns the reply's header.
func (c *client) request(head string) (string, error) {
	if _, err := io.WriteString(c.tls, head); err != nil {
		return "", err
	}
	for {
		if i := bytes.Index(c.buf, []byte("\r\n\r\n")); i >= 0 {
			reply := string(c.buf[:i+4])
			c.buf = c.buf[i+4:]
			return reply, nil
		}
		if err := c.read(); err != nil {
			return string(c.buf), err
		}
	}
}

func (c *client) read() error {
	b := make([]byte, 16<<10)
	n, err := c.tls.Read(b)
	c.buf = append(c.buf, b[:n]...)
	return err
}

// next is the next packet, or the error that ends the connection.
func (c *client) next() (frame, error) {
	for {
		p, n, err := sstp.ParsePacket(c.buf)
		if err != nil {
			return frame{}, err
		}
		if n > 0 {
			c.buf = c.buf[n:]
			return c.parse(p), nil
		}
		if err := c.read(); err != nil {
			return frame{}, err
		}
	}
}

func (c *client) parse(p sstp.Packet) frame {
	c.t.Helper()
	f := frame{control: p.Control}
	var err error
	if p.Control {
		if f.message, err = sstp.ParseMessage(p.Payload); err != nil {
			c.t.Fatalf("message from the server: %v", err)
		}
		return f
	}
	if f.proto, f.info, err = ppp.ParseFrame(p.Payload); err != nil {
		c.t.Fatalf("frame from the server: %v", err)
	}
	if f.proto >= 0x8000 {
		if f.packet, err = ppp.ParsePacket(f.info); err != nil {
			c.t.Fatalf("%v packet from the server: %v", f.proto, err)
		}
	}
	return f
}

// want skips packets up to the one with that name.
func (c *client) want(name string) frame {
	c.t.Helper()
	var seen []string
	for {
		f, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for %s: %v; saw %v", name, err, seen)
		}
		if f.String() == name {
			return f
		}
		seen = append(seen, f.String())
	}
}

// wantEnd reads to the end and returns what came before it.
func (c *client) wantEnd() (seen []string) {
	c.t.Helper()
	for {
		f, err := c.next()
		if err != nil {
			return seen
		}
		seen = append(seen, f.String())
	}
}

func (c *client) message(t sstp.MessageType, attrs ...sstp.Attribute) {
	c.t.Helper()
	c.write(sstp.Message{Type: t, Attributes: attrs}.Append(nil))
}

func (c *client) send(p ppp.Protocol, packet ppp.Packet) {
	c.t.Helper()
	c.write(sstp.AppendData(nil, ppp.AppendFrame(nil, p, packet.Append(nil))))
}

// configure sends a Configure-Request and returns its identifier.
func (c *client) configure(p ppp.Protocol, opts ...ppp.Option) uint8 {
	c.t.Helper()
	c.id++
	c.send(p, ppp.Packet{Code: ppp.ConfigureRequest, Identifier: c.id, Data: ppp.AppendOptions(nil, opts)})
	return c.id
}

func (c *client) answer(p ppp.Protocol, code ppp.Code, to frame, opts ...ppp.Option) {
	c.t.Helper()
	data := to.packet.Data
	if code != ppp.ConfigureAck {
		data = ppp.AppendOptions(nil, opts)
	}
	c.send(p, ppp.Packet{Code: code, Identifier: to.packet.Identifier, Data: data})
}

// call goes up to Call Connect Ack.
func (c *client) call() {
	c.t.Helper()
	reply, err := c.request(testRequest)
	if err != nil || !strings.HasPrefix(reply, "HTTP/1.1 200 ") {
		c.t.Fatalf("reply %q, %v; want 200", reply, err)
	}
	c.message(sstp.CallConnectRequest, sstp.Attribute{ID: sstp.AttrEncapsulatedProtocolID, Value: []byte{0, 1}})
	c.takeAck(c.want("Call Connect Ack"))
}

func (c *client) takeAck(f frame) {
	c.t.Helper()
	v, _ := f.message.Attribute(sstp.AttrCryptoBindingRequest)
	r, err := sstp.ParseCryptoBindingRequest(v)
	if err != nil {
		c.t.Fatal(err)
	}
	c.nonce, c.hashes = r.Nonce, r.Hashes
}

// lcp opens LCP, taking of the methods offered only those given; none means
// that the first one is right.
func (c *client) lcp(methods ...Method) {
	c.t.Helper()
	c.configure(ppp.ProtoLCP)
	acked, agreed := false, false
	for !acked || !agreed {
		f, err := c.next()
		switch {
		case err != nil:
			c.t.Fatalf("lcp: %v", err)
		case f.String() == "LCP Configure-Ack":
			acked = true
		case f.String() == "LCP Configure-Request":
			agreed = c.agree(f, methods)
		}
	}
}

func (c *client) agree(f frame, methods []Method) bool {
	c.t.Helper()
	opts, err := ppp.ParseOptions(f.packet.Data)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, o := range opts {
		if o.Type != ppp.LCPAuthProtocol {
			continue
		}
		for _, m := range methods {
			if bytes.Equal(o.Data, m.option()) {
				c.method = m
			}
		}
		if len(methods) > 0 && c.method == 0 {
			c.answer(ppp.ProtoLCP, ppp.ConfigureNak, f, ppp.Option{Type: o.Type, Data: methods[0].option()})
			return false
		}
	}
	c.answer(ppp.ProtoLCP, ppp.ConfigureAck, f)
	return true
}

// response answers a challenge with MS-CHAPv2 and keeps the key.
func (c *client) response(challenge frame) {
	c.t.Helper()
	value, _, err := ppp.ParseCHAPValue(challenge.packet.Data)
	if err != nil || len(value) != 16 {
		c.t.Fatalf("challenge: %v, value of %d octets", err, len(value))
	}
	var peer [16]byte
	rand.Read(peer[:])
	nt, err := mschap.NTResponse([16]byte(value), peer, mschap.HashedUser(c.user), c.pass)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.hlak, err = mschap.HLAK(nt, c.pass); err != nil {
		c.t.Fatal(err)
	}
	v := append(append(append(peer[:], make([]byte, 8)...), nt[:]...), 0)
	c.send(ppp.ProtoCHAP, ppp.Packet{
		Code: ppp.CHAPResponse, Identifier: challenge.packet.Identifier, Data: ppp.AppendCHAPValue(nil, v, c.user),
	})
}

// login goes through LCP and MS-CHAPv2.
func (c *client) login() {
	c.t.Helper()
	c.lcp(MSCHAPv2)
	c.response(c.want("CHAP Challenge"))
	f := c.want("CHAP Success")
	if !bytes.HasPrefix(f.packet.Data, []byte("S=")) {
		c.t.Fatalf("success message %q, want S=", f.packet.Data)
	}
}

// connected sends Call Connected with the right binding, changed by edit.
func (c *client) connected(h sstp.HashProtocol, edit func(*sstp.CryptoBinding)) {
	c.t.Helper()
	b := sstp.CryptoBinding{
		Hash: h, Nonce: c.nonce, CertHash: sstp.CertificateHash(h, c.tls.ConnectionState().PeerCertificates[0].Raw),
	}
	b = b.Sign(c.hlak)
	if edit != nil {
		edit(&b)
	}
	c.write(sstp.CallConnectedMessage(b).Append(nil))
}

// ipcp negotiates an address and one DNS server.
func (c *client) ipcp() {
	c.t.Helper()
	wanted := []ppp.Option{
		{Type: ppp.IPCPAddress, Data: make([]byte, 4)}, {Type: ppp.IPCPPrimaryDNS, Data: make([]byte, 4)},
	}
	id := c.configure(ppp.ProtoIPCP, wanted...)
	acked, agreed := false, false
	for !acked || !agreed {
		f, err := c.next()
		if err != nil {
			c.t.Fatalf("ipcp: %v", err)
		}
		if f.proto != ppp.ProtoIPCP || f.control {
			continue
		}
		switch f.packet.Code {
		case ppp.ConfigureRequest:
			c.answer(ppp.ProtoIPCP, ppp.ConfigureAck, f)
			agreed = true
		case ppp.ConfigureAck:
			acked = f.packet.Identifier == id
		case ppp.ConfigureNak, ppp.ConfigureReject:
			opts, _ := ppp.ParseOptions(f.packet.Data)
			wanted = merge(wanted, opts, f.packet.Code)
			id = c.configure(ppp.ProtoIPCP, wanted...)
		}
	}
	for _, o := range wanted {
		switch o.Type {
		case ppp.IPCPAddress:
			c.addr = netip.AddrFrom4([4]byte(o.Data))
		case ppp.IPCPPrimaryDNS:
			c.dns = netip.AddrFrom4([4]byte(o.Data))
		}
	}
	c.await(EventIPCPOpened)
}

func merge(wanted, opts []ppp.Option, code ppp.Code) (merged []ppp.Option) {
	for _, w := range wanted {
		keep := true
		for _, o := range opts {
			if o.Type == w.Type {
				keep = code == ppp.ConfigureNak
				w.Data = bytes.Clone(o.Data)
			}
		}
		if keep {
			merged = append(merged, w)
		}
	}
	return merged
}

// up is the whole way to an open tunnel.
func (c *client) up() {
	c.t.Helper()
	c.call()
	c.login()
	c.connected(sstp.HashSHA256, nil)
	c.ipcp()
}

// await waits for an event of the server while its packets are read.
func (c *client) await(k EventKind) Event {
	c.t.Helper()
	e, err := c.server.Wait(c.t.Context(), k)
	if err != nil {
		c.t.Fatal(err)
	}
	return e
}

// ping is an IPv4 packet to send through the tunnel.
func (c *client) ping(n int) []byte {
	b := make([]byte, 20+n)
	b[0], b[8], b[9] = 0x45, 64, 253
	b[2], b[3] = byte(len(b)>>8), byte(len(b))
	copy(b[12:], c.addr.AsSlice())
	copy(b[16:], []byte{10, 66, 0, 1})
	for i := range n {
		b[20+i] = byte(i)
	}
	return b
}

func (c *client) sendIP(packet []byte) {
	c.t.Helper()
	c.write(sstp.AppendData(nil, ppp.AppendFrame(nil, ppp.ProtoIPv4, packet)))
}

// hangUp ends the session as a good client does and waits for the server.
func (c *client) hangUp() {
	c.t.Helper()
	c.id++
	c.send(ppp.ProtoLCP, ppp.Packet{Code: ppp.TerminateRequest, Identifier: c.id})
	c.want("LCP Terminate-Ack")
	c.message(sstp.CallDisconnect, sstp.StatusInfo{}.Attribute())
	c.want("Call Disconnect Ack")
	c.tls.Close()
	c.await(EventEnded)
}

// events are the kinds recorded so far.
func (c *client) events() string {
	var kinds []string
	for _, e := range c.server.Events() {
		kinds = append(kinds, e.Kind.String())
	}
	return strings.Join(kinds, ", ")
}

func (c *client) wantEvents(kinds ...EventKind) {
	c.t.Helper()
	for _, k := range kinds {
		if c.server.Count(k) == 0 {
			c.t.Errorf("no event %v; had %s", k, c.events())
		}
	}
}

func (c *client) wantNoEvents(kinds ...EventKind) {
	c.t.Helper()
	for _, k := range kinds {
		if c.server.Count(k) != 0 {
			c.t.Errorf("event %v; had %s", k, c.events())
		}
	}
}
