package tunneltest

import (
	"net/netip"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// SoftEther is SoftEther VPN 5 as measured: silent until the client begins,
// EAP before MS-CHAPv2 before PAP, replies in batches, no answer to an SSTP
// echo, no reasons, no check of the binding.
func SoftEther() Quirks {
	return Quirks{
		HTTP: HTTPQuirks{Style: HTTPStyleSoftEther, Lax: true},
		SSTP: SSTPQuirks{
			Hashes: sstp.HashSHA256, NoVerify: true, BareReasons: true, Silence: 20 * time.Second,
			EchoInterval: 3 * time.Second, EchoAlways: true, NeverAnswersEcho: true,
			CloseDelay: 300 * time.Millisecond,
		},
		Wire: WireQuirks{
			NeedsAddress: true, NeedsFullProtocol: true,
			ReplyDelay: 300 * time.Millisecond, Beacon: 5 * time.Second,
		},
		LCP: LCPQuirks{
			WaitsForClient: true, MaxMRU: 1500, RejectsMagic: true, RejectsACCM: true,
			EarlyEcho: true, EchoInterval: 4800 * time.Millisecond,
		},
		Auth: AuthQuirks{
			Methods: []Method{EAP, MSCHAPv2, PAP}, IgnoresHint: true, EAPNakStalls: true, Name: "vm",
			FailureOmitsM: true, SuccessOmitsM: true, PAPAckEmpty: true,
		},
		NCP: NCPQuirks{
			Passive: true, AcksLast: true, RepeatsRequest: true, AcceptsStatic: true,
			NaksIdentifier: true, IPv6Stall: 4 * time.Second,
		},
	}
}

// SoftEther4 is SoftEther VPN 4.44, which VPN Gate and VPN Azure run: PAP
// first, half the patience, the challenge repeated after Success. It has no
// IPv6: leave [Config.IPv6] off.
func SoftEther4() Quirks {
	q := SoftEther()
	q.SSTP.Silence = 10 * time.Second
	q.Wire.HoldsData = true
	q.Auth.Methods = []Method{PAP, MSCHAPv2}
	q.Auth.EAPNakStalls = false
	q.Auth.RepeatsChallenge = true
	q.NCP.IPv6Stall = 0
	return q
}

// AccelPPP is accel-ppp, which VyOS ships: begins by itself, no EAP, strict
// about the binding, drops the first IPCP Request, full names in the hash.
func AccelPPP() Quirks {
	return Quirks{
		HTTP: HTTPQuirks{Style: HTTPStyleAccelPPP, Lax: true},
		SSTP: SSTPQuirks{
			BindingInvalidFrame: true, EchoTimeout: time.Second, EchoAborts: true,
		},
		LCP: LCPQuirks{
			MRU: 1400, MaxMRU: 1400, Magic: true, RejectsACCM: true,
			EchoInterval: 20 * time.Second, EchoFailures: 1, AcksWhenOpened: true,
		},
		Auth: AuthQuirks{
			Methods: []Method{MSCHAPv2, MSCHAP, CHAPMD5, PAP}, IgnoresHint: true,
			FullName: true, FailureOmitsC: true,
		},
		NCP: NCPQuirks{DropsFirst: true, ShortReject: true},
	}
}

// RRAS is Routing and Remote Access of Windows Server: strict in everything,
// with a rich LCP Request.
func RRAS() Quirks {
	return Quirks{
		LCP: LCPQuirks{
			MRU: 4091, Magic: true, AcceptsCompression: true, Identification: true,
			Extra: []ppp.Option{
				{Type: ppp.LCPPFC}, {Type: ppp.LCPACFC}, {Type: ppp.LCPCallback, Data: []byte{6}},
				{Type: ppp.LCPMRRU, Data: []byte{0x06, 0x4E}},
				{Type: ppp.LCPEndpoint, Data: append([]byte{1}, make([]byte, 20)...)},
			},
		},
		Auth: AuthQuirks{Methods: []Method{EAP, MSCHAPv2}},
		NCP: NCPQuirks{
			NBNS: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 137})}, Compression: true,
		},
	}
}

// MikroTik is RouterOS: pads its PAP-Ack and starts MPLSCP.
func MikroTik() Quirks {
	return Quirks{
		LCP:  LCPQuirks{MRU: 1500, Magic: true},
		Auth: AuthQuirks{Methods: []Method{MSCHAPv2, MSCHAP, CHAPMD5, PAP}, PAPAckTrailer: true},
		NCP:  NCPQuirks{MPLS: true},
	}
}

// Keenetic starts further network protocols and expects Protocol-Reject.
func Keenetic() Quirks {
	return Quirks{
		LCP:  LCPQuirks{Magic: true},
		Auth: AuthQuirks{Methods: []Method{MSCHAPv2}},
		NCP:  NCPQuirks{MPLS: true, Compression: true},
	}
}

// Sorz is sorz/sstp-server with pppd behind it: an empty hash bitmask,
// malformed reasons, no answer at all to a request it does not like.
func Sorz() Quirks {
	return Quirks{
		HTTP: HTTPQuirks{Style: HTTPStyleSorz, CloseOnFault: true, DiscardsEarly: true},
		SSTP: SSTPQuirks{Hashes: HashesNone, NoVerify: true, ShortReasons: true},
		LCP: LCPQuirks{
			Magic: true, AcceptsCompression: true,
			Extra: []ppp.Option{{Type: ppp.LCPACCM, Data: make([]byte, 4)}, {Type: ppp.LCPPFC}, {Type: ppp.LCPACFC}},
		},
		Auth: AuthQuirks{Methods: []Method{MSCHAPv2, CHAPMD5, PAP}},
		NCP:  NCPQuirks{OffersVJ: true, Compression: true},
	}
}
