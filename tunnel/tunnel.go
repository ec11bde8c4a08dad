package tunnel

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// DefaultPort is the port of a server named without one.
const DefaultPort = 443

// Config says which server to dial and as whom. Server, User and Password are
// what most callers set.
type Config struct {
	// Server is the address to dial: HOST or HOST:PORT, an IPv6 literal with a
	// port in brackets. A name is looked up on the host, and all its addresses
	// are tried (RFC 8305 between the families).
	Server string

	// ServerName is the name in SNI and in the Host header, and the name the
	// certificate must prove. Empty means the host of Server.
	ServerName string

	// User is sent as it stands; "DOMAIN\user" and "user@HUB" are the server's
	// business. Password is UTF-8.
	User, Password string

	// AllowPAP also permits the methods that prove nothing about the server
	// and leave the crypto binding without a key: PAP, which shows it the
	// password, and CHAP-MD5.
	AllowPAP bool

	// Methods overrides the methods offered, strongest first; nil means
	// MS-CHAPv2, and behind it what AllowPAP permits.
	Methods []ppp.Method

	// TLS says how the server proves who it is.
	TLS TLSConfig

	// RequestAddress is the IPv4 address asked of the server; zero means any.
	RequestAddress netip.Addr

	// PreviousAddress is asked for if RequestAddress is zero, unless the server
	// is SoftEther: that takes an address asked for as one that its DHCP server
	// must know, tries for 5 s or more and then refuses it, but gives the one
	// it gave before by itself.
	PreviousAddress netip.Addr

	// IPv6 says whether IPV6CP is negotiated too, after IPCP.
	// RequestInterfaceID is the interface identifier asked for then; zero
	// means any.
	IPv6               IPv6
	RequestInterfaceID [8]byte

	// MTU is the largest IP packet of the tunnel in octets, 576 to 1500; 0
	// means 1500. The peer's MRU lowers it.
	MTU int

	// Keepalive is how long the server may be silent before that counts; after
	// three times as long it is taken for dead. 0 means 15 s.
	Keepalive time.Duration

	// DialContext opens the TCP connection; nil means a net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)

	avoid     string          // an address of the server, with port, to try last
	once      bool            // Password is good for one login
	connected chan<- net.Conn // gets the TCP connection, if set; capacity 1

	// Logger gets one line per session at Info and one per control frame at
	// Debug; nil discards them.
	Logger *slog.Logger

	// Capture, if set, is shown the PPP frames of each read and each write,
	// those of the handshake included, passwords and the answers to CHAP
	// challenges zeroed. The slices are borrowed until it returns. It is called
	// from one goroutine for each direction of a session, and holds that up
	// while it runs.
	Capture func(sent bool, frames [][]byte)

	// Progress, if set, is called by Dial at the end of each phase.
	Progress func(Progress)
}

// IPv6 says whether to negotiate IPV6CP.
type IPv6 uint8

// The choices. SoftEther answers no packet for four seconds when IPV6CP begins,
// and then carries no IPv6 (its neighbour solicitations name a wrong target).
const (
	IPv6Auto IPv6 = iota // unless the server is SoftEther
	IPv6On
	IPv6Off
)

// address is the one to ask a server for.
func (c Config) address(f sstp.Family) netip.Addr {
	if c.RequestAddress.IsValid() || f == sstp.FamilySoftEther {
		return c.RequestAddress
	}
	return c.PreviousAddress
}

// with tells whether to negotiate IPV6CP with a server.
func (v IPv6) with(f sstp.Family) bool {
	return v == IPv6On || v == IPv6Auto && f != sstp.FamilySoftEther
}

// Phase is a step on the way to a tunnel, or of its life.
type Phase uint8

// The phases, in their order.
const (
	PhaseResolve Phase = iota // the server's name
	PhaseTCP                  // connection to the server
	PhaseTLS                  // handshake, server's identity
	PhaseHTTP                 // SSTP_DUPLEX_POST and its reply
	PhaseSSTP                 // Call Connect Request and Ack
	PhaseLCP                  // link, authentication protocol agreed
	PhaseAuth                 // authentication; ends with the crypto binding
	PhaseIPCP                 // address
	PhaseUp                   // packets move
)

func (p Phase) String() string {
	names := [...]string{"resolve", "tcp", "tls", "http", "sstp", "lcp", "auth", "ipcp", "up"}
	if int(p) < len(names) {
		return names[p]
	}
	return fmt.Sprintf("phase %d", uint8(p))
}

// Progress reports a finished phase of Dial.
type Progress struct {
	Phase    Phase
	Duration time.Duration
	Detail   string // what it yielded, in a few words
}

// Info is what a session negotiated. While the session lives, only IPv6 may
// still be added to it.
type Info struct {
	IPv4        ppp.IPv4          // zero if only IPv6 came up
	IPv6        ppp.IPv6          // zero if IPV6CP is not open
	MTU         int               // largest IP packet in octets
	Family      sstp.Family       // guess at the server's software
	Method      ppp.Method        // authentication
	Hash        sstp.HashProtocol // crypto binding
	RemoteAddr  net.Addr
	RTT         time.Duration     // about how long the server takes to answer, from TLS and HTTP
	TLSVersion  uint16            // tls.VersionTLS12, tls.VersionTLS13
	CipherSuite uint16            // see tls.CipherSuiteName
	Certificate *x509.Certificate // the server's leaf
}

// Packets is where a session's IP packets come from and go to.
type Packets struct {
	// Deliver takes the IP packets of one read. The slices are borrowed until
	// it returns. It is called from one goroutine and holds up the tunnel's
	// reading while it runs.
	Deliver func(batch [][]byte)

	// Ready signals, with a capacity of 1, that Fill may have something.
	Ready <-chan struct{}

	// Fill puts as many whole frames as fit and wait into b and returns their
	// length in octets; 0 means that nothing waits. A frame is Headroom
	// octets written by PutHeader and an IP packet no longer than the MTU. It
	// is called from one goroutine and must not block.
	Fill func(b []byte) int

	// Stalled, if set, is told when the connection to the server stands still,
	// in either direction, and when it goes on or ends; false is also said of one
	// that has proved to be alive. Whoever has timers above the tunnel should
	// stop them meanwhile: nothing was lost. It is called from varying
	// goroutines, one call at a time, not any more after Run has returned or a
	// Keeper has put another session in its place, and must not block.
	Stalled func(bool)

	// Awaits, if set, tells whether something that wants an answer was given
	// since anything came: somebody's timer runs. Only then does silence make the
	// session ask the server for a sign of life, to see whether the connection
	// stands still. It needs Stalled, is called from varying goroutines, and must
	// not block.
	Awaits func() bool

	// Changed, if set, is told when IPv6 has come up after the start. It is
	// called on the session's loop and must not block.
	Changed func(Info)
}

// Headroom is the room in octets that a frame needs before its IP packet: the
// headers of SSTP and PPP.
const Headroom = sstp.HeaderLen + ppp.HeaderLen

// PutHeader writes the SSTP and PPP headers into the first Headroom octets of
// frame; the IP packet behind them tells its family and fills the rest. Both
// headers always have their full form: SoftEther drops any other.
func PutHeader(frame []byte) {
	sstp.PutHeader(frame, false, len(frame))
	proto := ppp.ProtoIPv4
	if frame[Headroom]>>4 == 6 {
		proto = ppp.ProtoIPv6
	}
	ppp.PutHeader(frame[sstp.HeaderLen:], proto)
}

// Info returns what was negotiated.
func (s *Session) Info() Info {
	s.infoMu.Lock()
	defer s.infoMu.Unlock()
	return s.info
}

// endpoint returns the address to dial and the name to prove.
func (c Config) endpoint() (address, serverName string, err error) {
	host, port, err := net.SplitHostPort(c.Server)
	if err != nil {
		host, port = c.Server, strconv.Itoa(DefaultPort)
		if ip, e := netip.ParseAddr(trimBrackets(host)); e == nil {
			host = ip.String()
		}
	}
	if n, e := strconv.ParseUint(port, 10, 16); e != nil || n == 0 {
		return "", "", fmt.Errorf("server %q: port must be 1 to 65535", c.Server)
	}
	if !validHost(host) {
		return "", "", fmt.Errorf("server %q: want HOST or HOST:PORT", c.Server)
	}
	serverName = c.ServerName
	if serverName == "" {
		// The zone of an address is this host's affair (RFC 6874 §4) and stands
		// in no certificate.
		serverName, _, _ = strings.Cut(host, "%")
	}
	if !validHost(serverName) {
		return "", "", fmt.Errorf("server name %q: want a host name or an IP address", serverName)
	}
	return net.JoinHostPort(host, port), serverName, nil
}

func trimBrackets(s string) string {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1]
	}
	return s
}

// validHost keeps out what would end up in the Host header and break it, and
// URLs. Names with an underscore exist; the resolver judges the rest.
func validHost(h string) bool {
	if a, err := netip.ParseAddr(h); err == nil && (a.Zone() == "" || validHost(a.Zone())) {
		return true
	}
	for i := range len(h) {
		switch c := h[i]; {
		case c == '.', c == '-', c == '_', c >= 0x80,
			'0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		default:
			return false
		}
	}
	return h != ""
}

func (c Config) check() error {
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 1500) {
		return fmt.Errorf("MTU %d: want 576 to 1500", c.MTU)
	}
	if c.RequestAddress.IsValid() && !c.RequestAddress.Is4() {
		return fmt.Errorf("requested address %v: want an IPv4 address", c.RequestAddress)
	}
	if len(c.User) > 255 || len(c.Password) > 255 {
		return errors.New("user name or password is longer than 255 octets")
	}
	if c.Keepalive < 0 {
		return fmt.Errorf("keepalive %v: want more than 0", c.Keepalive)
	}
	return c.TLS.check()
}

// defaultKeepalive is Config.Keepalive unless set.
const defaultKeepalive = 15 * time.Second

// echoTimeout is the silence that ends a session.
func (c Config) echoTimeout() time.Duration {
	return 3 * cmp.Or(c.Keepalive, defaultKeepalive)
}

// echoInterval is the silence that is answered with an LCP echo: SoftEther 4
// hangs up when it has heard nothing from us for 10 s.
func (c Config) echoInterval() time.Duration {
	return min(cmp.Or(c.Keepalive, defaultKeepalive), 5*time.Second)
}

func (c Config) methods() []ppp.Method {
	switch {
	case c.Methods != nil:
		return c.Methods
	case c.AllowPAP:
		return []ppp.Method{ppp.MSCHAPv2, ppp.CHAPMD5, ppp.PAP}
	}
	return []ppp.Method{ppp.MSCHAPv2}
}

func (c Config) logger() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	return slog.New(slog.DiscardHandler)
}

// describeTLS names version and cipher suite.
func describeTLS(state tls.ConnectionState) string {
	return tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
}
