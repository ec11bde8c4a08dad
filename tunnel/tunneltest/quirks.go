package tunneltest

import (
	"net/netip"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// Quirks are the ways in which real servers differ from the plain reading of
// the specifications, one switch each, grouped by layer. The zero value is a
// server without any: strict, prompt, verifying, talkative in its reasons.
// Section numbers are those of [MS-SSTP]; "se" is SoftEther 5, "se4" its 4.x
// line, "accel" accel-ppp.
type Quirks struct {
	HTTP HTTPQuirks
	SSTP SSTPQuirks
	Wire WireQuirks
	LCP  LCPQuirks
	Auth AuthQuirks
	NCP  NCPQuirks
}

// HTTPStyle is the set and the order of the header lines in a reply.
type HTTPStyle uint8

// The styles of the servers that were seen.
const (
	HTTPStyleRRAS      HTTPStyle = iota // Content-Length, Server, Date
	HTTPStyleSoftEther                  // Content-Length, Date, Server
	HTTPStyleAccelPPP                   // Date, Content-Length, Connection; no Server
	HTTPStyleSorz                       // Content-Length, Server: SSTP-Server/…, Date
)

// HTTPQuirks are about the HTTPS exchange (2.1, 3.2.4.1).
type HTTPQuirks struct {
	// Style is how replies look.
	Style HTTPStyle
	// Lax accepts the URI in any letter case, any HTTP/1.x, a request without
	// Host and any or no Content-Length. (se, accel)
	Lax bool
	// Host, if not empty, is the only Host served, without its port; others
	// get 404. (accel host-name)
	Host string
	// Status refuses every request with this status code. (404, 501, 503 …)
	Status int
	// Location is sent with Status. (accel http-error=<url>: 301)
	Location string
	// Close ends the connection instead of replying. (accel at a limit)
	Close bool
	// CloseOnFault does so when the request is not acceptable. (sorz; accel
	// with http-error=deny)
	CloseOnFault bool
	// Silent never replies at all.
	Silent bool
	// Raw is sent instead of the reply; the connection then ends. (a service
	// that does not speak HTTP)
	Raw string
	// Continue sends a "100 Continue" ahead of the reply.
	Continue bool
	// DiscardsEarly throws away what followed the request in the same read. (sorz)
	DiscardsEarly bool
}

// Values of SSTPQuirks.Hashes beside the bits of the protocol.
const (
	HashesBoth = 0    // the default: SHA-1 and SHA-256
	HashesNone = 0xFF // a bitmask of zero (sorz without a certificate)
)

// SSTPQuirks are about the SSTP call (3.3).
type SSTPQuirks struct {
	// Hashes is the bitmask offered: HashesBoth, sstp.HashSHA1,
	// sstp.HashSHA256, any other bits, or HashesNone. What is not offered is
	// not accepted either; with HashesNone everything is.
	Hashes sstp.HashProtocol
	// NoVerify takes any Call Connected, and one without a binding. (se)
	NoVerify bool
	// NoKeys verifies with a HLAK of zeros whatever the method was. (RADIUS
	// without MPPE attributes; sorz after EAP)
	NoKeys bool
	// BindingInvalidFrame refuses a binding with AttribID 2 status 7 rather
	// than AttribID 3 status 4. (accel)
	BindingInvalidFrame bool
	// BareReasons leaves the Status Info out of Abort and Disconnect. (se)
	BareReasons bool
	// ShortReasons sends a Status Info whose value is the four octets of the
	// status alone, in a Disconnect under attribute ID 0. (sorz)
	ShortReasons bool
	// Silence is how long nothing may come from the client, counted from the
	// beginning, until the server aborts; 0 means for ever. (se 20 s, se4 10 s)
	Silence time.Duration
	// EchoInterval is how long nothing was received when the server asks for
	// an echo; 0 means 60 s (3.1.2.3).
	EchoInterval time.Duration
	// EchoAlways sends an Echo Request each EchoInterval, heard or not. (se)
	EchoAlways bool
	// EchoTimeout is how long an Echo Request may go unanswered; 0 means
	// EchoInterval.
	EchoTimeout time.Duration
	// EchoAborts aborts with AttribID 2 status 7 when EchoTimeout is over; the
	// specification closes without a word. (accel, after 1 s)
	EchoAborts bool
	// EchoEarly sends an Echo Request right after Call Connect Ack.
	EchoEarly bool
	// NeverAnswersEcho ignores the client's Echo Request. (se)
	NeverAnswersEcho bool
	// Naks is how many Call Connect Requests are refused first.
	Naks int
	// AckDelay is the time from the Request to the Ack.
	AckDelay time.Duration
	// NeverAcks ignores the Call Connect Request.
	NeverAcks bool
	// IgnoresDisconnect leaves the client's Call Disconnect and Call Abort
	// unanswered.
	IgnoresDisconnect bool
	// CloseDelay is the time from the last control message of a call to the
	// end of the connection; 0 means the timers of 3.1.2. (se 0.3 to 2.7 s)
	CloseDelay time.Duration
	// SessionLimit ends the call by Call Disconnect after so long. (RADIUS
	// Session-Timeout)
	SessionLimit time.Duration
}

// WireQuirks are about packets, frames and records.
type WireQuirks struct {
	// SplitRecords cuts the octet stream at odd places into TLS records, so
	// that packets and their headers straddle them.
	SplitRecords bool
	// RecordPerPacket sends each SSTP packet as a TLS record of its own.
	RecordPerPacket bool
	// ReservedBits sets all reserved bits of the packets to the client, which
	// "MUST be ignored on receipt" (2.2.1).
	ReservedBits bool
	// Compressed leaves out FF 03 and the first octet of small protocol
	// numbers in frames to the client. (RFC 1661 §6.5, 6.6)
	Compressed bool
	// NeedsAddress drops frames that do not begin with FF 03. (se)
	NeedsAddress bool
	// NeedsFullProtocol answers frames with a one-octet protocol number with
	// Protocol-Reject. (se)
	NeedsFullProtocol bool
	// Padding adds octets behind the Length of every PPP control packet.
	Padding bool
	// ReplyDelay holds PPP packets back and sends them in batches, this long
	// after the first of each. (se, 0.3 to 0.6 s)
	ReplyDelay time.Duration
	// Beacon is the interval of UDP broadcasts into the tunnel; 0 means none.
	// (se SecureNAT, about 5 s)
	Beacon time.Duration
	// HoldsData sends no IP packet to the client before the client's first. (se4)
	HoldsData bool
	// NoCloseNotify ends TLS by closing TCP.
	NoCloseNotify bool
}

// LCPQuirks are about LCP.
type LCPQuirks struct {
	// WaitsForClient keeps PPP silent until the client's first data packet. (se)
	WaitsForClient bool
	// MRU is offered in our Request; 0 means that it is not. (accel 1400, RRAS 4091)
	MRU uint16
	// MaxMRU Naks a larger MRU of the client with this; 0 means 4091.
	// (se 1500, accel 1400)
	MaxMRU uint16
	// Magic offers a random magic number. (accel, RRAS, sorz)
	Magic bool
	// Extra are further options of our Request. (RRAS: PFC, ACFC, Callback,
	// MRRU, endpoint discriminator; sorz: ACCM, PFC, ACFC)
	Extra []ppp.Option
	// RejectsMagic refuses the client's magic number. (se)
	RejectsMagic bool
	// RejectsMRU refuses the client's MRU option.
	RejectsMRU bool
	// AcceptsCompression acks the client's PFC and ACFC. (RRAS, sorz)
	AcceptsCompression bool
	// RejectsACCM refuses the client's asynchronous control character map. (se, accel)
	RejectsACCM bool
	// NaksForever Naks every Request of the client with another magic number.
	NaksForever bool
	// NeverAnswers ignores every LCP Configure-Request.
	NeverAnswers bool
	// Loop uses the client's own magic number, as a looped-back link would.
	Loop bool
	// EarlyEcho sends an Echo-Request with identifier 0 and magic number 0
	// before LCP is Opened. (se)
	EarlyEcho bool
	// EchoInterval is the time between Echo-Requests of the server; 0 means
	// none. (se 4.8 s, accel 20 s)
	EchoInterval time.Duration
	// EchoFailures ends the link after so many unanswered ones; 0 means never.
	EchoFailures int
	// Identification sends such a packet when LCP is Opened. (RRAS)
	Identification bool
	// UnknownCode sends a packet with code 0x7F when LCP is Opened.
	UnknownCode bool
	// AcksWhenOpened acks a new Request in Opened without going down. (accel)
	AcksWhenOpened bool
}

// AuthQuirks are about authentication.
type AuthQuirks struct {
	// Methods are offered in this order if [Config.Methods] is nil. (se: EAP,
	// MS-CHAPv2, PAP; se4: PAP, MS-CHAPv2)
	Methods []Method
	// IgnoresHint offers the next of Methods after a Nak, whatever was hinted.
	// (se, se4, accel)
	IgnoresHint bool
	// EAPNakStalls never says anything again once an EAP Nak was followed by
	// Protocol-Reject and a new LCP negotiation. (se)
	EAPNakStalls bool
	// Name is the name in challenges; empty means "tunneltest". (se "vm")
	Name string
	// FullName hashes the user name with its domain in MS-CHAPv2. (accel with
	// local secrets)
	FullName bool
	// RefuseCode refuses everybody with this E= code. (646 restricted hours,
	// 647 disabled, 648 expired, 649 no permission, 691 credentials, 709, 942)
	RefuseCode int
	// Retry sends R=1 in failures and takes another Response.
	Retry bool
	// FailureOmitsC leaves the challenge out of the failure message. (accel)
	FailureOmitsC bool
	// FailureOmitsM leaves the text out of the failure message. (se)
	FailureOmitsM bool
	// FailureText replaces the whole failure message.
	FailureText string
	// FailureSilent sends no Failure or Nak, only Terminate-Request. (se, PAP)
	FailureSilent bool
	// NoTerminate leaves the link up after a failure, for the client to end.
	NoTerminate bool
	// SuccessOmitsM sends the bare S= in a Success. (se)
	SuccessOmitsM bool
	// WrongS sends a false authenticator response: the server does not know
	// the password.
	WrongS bool
	// OmitsS sends a Success without the authenticator response.
	OmitsS bool
	// AcceptsAnything takes any password, as a false server would.
	AcceptsAnything bool
	// DoubleChallenge answers the first Response with a second, different
	// Challenge. (se with RADIUS)
	DoubleChallenge bool
	// RepeatsChallenge resends the Challenge, with identifier 0, each second
	// and also after Success, until another protocol comes. (se4)
	RepeatsChallenge bool
	// Rechallenge challenges the client again and again at this interval
	// (RFC 1994 §2); 0 means never.
	Rechallenge time.Duration
	// PAPAckTrailer puts "Login ok" behind the Length of the PAP-Ack. (MikroTik)
	PAPAckTrailer bool
	// PAPAckEmpty sends a PAP-Ack without even the length of a message. (se)
	PAPAckEmpty bool
	// NeverChallenges leaves the client waiting after LCP.
	NeverChallenges bool
}

// NCPQuirks are about IPCP, IPV6CP and what else is sent after authentication.
type NCPQuirks struct {
	// Passive sends our IPCP Request only after the client's first. (se)
	Passive bool
	// DropsFirst drops the client's first IPCP Configure-Request. (accel)
	DropsFirst bool
	// AcksLast acks the client's IPCP Request only after ours was acked. (se)
	AcksLast bool
	// RepeatsRequest sends our IPCP Request again, with the same identifier,
	// after it was acked. (se)
	RepeatsRequest bool
	// NoIPCP answers IPCP with Protocol-Reject.
	NoIPCP bool
	// RejectsAddress rejects the IP-Address option of the client.
	RejectsAddress bool
	// NoAddress acks 0.0.0.0 and offers nothing. (a hub without DHCP)
	NoAddress bool
	// AcceptsStatic lets the client choose a free address of the pool. (se)
	AcceptsStatic bool
	// NaksExtra adds the DNS options the client did not ask for to a Nak.
	NaksExtra bool
	// NBNS are the primary and secondary NBNS address given; nil rejects the
	// options. (RRAS)
	NBNS []netip.Addr
	// OffersVJ offers Van Jacobson compression in our Request.
	OffersVJ bool
	// NaksIdentifier Naks the client's first interface identifier. (se)
	NaksIdentifier bool
	// ZeroIdentifier offers the interface identifier 0, to be Nak'd.
	ZeroIdentifier bool
	// IPv6Stall stops all PPP for so long when IPV6CP begins before IPCP is
	// open. (se, 4 s)
	IPv6Stall time.Duration
	// Compression starts CCP. (RRAS)
	Compression bool
	// MPLS starts MPLSCP, protocol 8281. (Keenetic, MikroTik)
	MPLS bool
	// ShortReject puts only the two octets of the protocol in a
	// Protocol-Reject. (accel)
	ShortReject bool
}
