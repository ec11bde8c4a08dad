package tunneltest

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"strings"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/ppp/mschap"
)

const (
	maxChallenges     = 10
	repeatedChallenge = time.Second // se4
)

// auth is the state of authentication.
type auth struct {
	method     Method
	done       bool // the client has proved its password
	failed     bool
	key        [32]byte // HLAK of the first success
	keyed      bool
	challenge  [16]byte
	id         uint8 // of the Challenge or EAP Request that is out
	asked      bool  // one is
	tries      int
	doubled    bool // Quirks.Auth.DoubleChallenge is done
	repeatOver bool // Quirks.Auth.RepeatsChallenge is
	eapUser    string
	user       string // as whom the client is logged in
	busy       bool   // the user has too many sessions
}

// hlak is the key the crypto binding is checked with.
func (a *auth) hlak(q *Quirks) [32]byte {
	if q.SSTP.NoKeys {
		return [32]byte{}
	}
	return a.key
}

// beginAuth starts the method that LCP agreed on.
func (c *Conn) beginAuth() {
	q := &c.quirks.Auth
	c.link.auth.method = c.link.options.method
	if q.NeverChallenges {
		return
	}
	switch c.link.auth.method {
	case PAP: // the client begins
	case EAP:
		c.sendEAPRequest([]byte{eapIdentity})
	default:
		c.newChallenge()
	}
}

// endAuth forgets all but the key of a call that is up.
func (c *Conn) endAuth() {
	a := &c.link.auth
	c.stop(alarmAuth, alarmRechallenge)
	*a = auth{key: a.key, keyed: a.keyed, user: a.user}
}

// newChallenge sends a fresh challenge under a new identifier.
func (c *Conn) newChallenge() {
	a := &c.link.auth
	rand.Read(a.challenge[:])
	a.asked, a.tries, a.id = true, 0, 0
	if c.quirks.Auth.RepeatsChallenge {
		c.after(alarmRechallenge, repeatedChallenge, c.repeatChallenge)
	} else {
		a.id = c.nextID()
	}
	c.sendChallenge()
}

// sendChallenge sends the challenge, again after each restart timer.
func (c *Conn) sendChallenge() {
	a := &c.link.auth
	if a.tries == maxChallenges {
		c.authFailed("no answer to the challenge")
		return
	}
	a.tries++
	c.after(alarmAuth, restartTimer, c.sendChallenge)
	c.sendChallengePacket()
}

func (c *Conn) sendChallengePacket() {
	a := &c.link.auth
	name := c.quirks.Auth.Name
	if name == "" {
		name = "tunneltest"
	}
	c.sendPPP(ppp.ProtoCHAP, ppp.Packet{
		Code: ppp.CHAPChallenge, Identifier: a.id, Data: ppp.AppendCHAPValue(nil, a.challenge[:], name),
	})
}

// repeatChallenge is Quirks.Auth.RepeatsChallenge.
func (c *Conn) repeatChallenge() {
	if c.link.auth.repeatOver {
		return
	}
	c.sendChallengePacket()
	c.after(alarmRechallenge, repeatedChallenge, c.repeatChallenge)
}

// authProtocolOver notes that the client has gone on to a network protocol.
func (c *Conn) authProtocolOver() {
	if a := &c.link.auth; a.done {
		a.repeatOver = true
	}
}

// challengeAgain is a challenge after success (RFC 1994 §2).
func (c *Conn) challengeAgain() {
	a := &c.link.auth
	if !a.done || a.method == PAP || a.method == EAP || c.link.terminating {
		return
	}
	c.newChallenge()
	c.rearmRechallenge()
}

func (c *Conn) rearmRechallenge() {
	if d := c.quirks.Auth.Rechallenge; d > 0 {
		c.after(alarmRechallenge, d, c.challengeAgain)
	}
}

func (c *Conn) receiveAuth(p ppp.Protocol, packet ppp.Packet, info []byte) {
	a := &c.link.auth
	switch {
	case a.failed:
	case p == ppp.ProtoPAP && a.method == PAP && packet.Code == ppp.PAPRequest:
		c.receivePAP(packet)
	case p == ppp.ProtoCHAP && packet.Code == ppp.CHAPResponse:
		if a.asked && packet.Identifier == a.id {
			c.receiveResponse(packet)
		}
	case p == ppp.ProtoEAP && a.method == EAP && packet.Code == eapResponse:
		c.receiveEAP(packet, info)
	}
}

// user finds a name in the map, then without its domain. name is what enters
// the MS-CHAPv2 challenge hash (RFC 2759 §8.2).
func (c *Conn) user(name string) (hashed, password string, ok bool) {
	hashed = name[strings.LastIndexByte(name, '\\')+1:]
	if c.quirks.Auth.FullName {
		password, ok = c.server.cfg.Users[name]
		return name, password, ok
	}
	if password, ok = c.server.cfg.Users[name]; !ok {
		password, ok = c.server.cfg.Users[hashed]
	}
	return hashed, password, ok
}

// admits reports whether a user whose proof was right may log in, or whose
// proof does not matter.
func (c *Conn) admits(name string, right bool) bool {
	q := &c.quirks.Auth
	if !q.AcceptsAnything && (!right || q.RefuseCode != 0) {
		return false
	}
	c.link.auth.busy = !c.server.login(name, c)
	return !c.link.auth.busy
}

func (c *Conn) receivePAP(p ppp.Packet) {
	id, secret, err := ppp.ParsePAPRequest(p.Data)
	if err != nil {
		return
	}
	_, password, known := c.user(string(id))
	right := known && subtle.ConstantTimeCompare(secret, []byte(password)) == 1
	q := &c.quirks.Auth
	if !c.admits(string(id), right) {
		if !q.FailureSilent {
			c.sendPPP(ppp.ProtoPAP, ppp.Packet{
				Code: ppp.PAPNak, Identifier: p.Identifier, Data: ppp.AppendPAPMessage(nil, "Login incorrect"),
			})
		}
		c.authFailed("PAP: " + string(id))
		return
	}
	ack := ppp.Packet{Code: ppp.PAPAck, Identifier: p.Identifier}
	switch {
	case q.PAPAckTrailer:
		c.sendInfo(ppp.ProtoPAP, ppp.AppendPAPMessage(ack.Append(nil), "Login ok"))
	case q.PAPAckEmpty:
		c.sendPPP(ppp.ProtoPAP, ack)
	default:
		ack.Data = ppp.AppendPAPMessage(nil, "Login ok")
		c.sendPPP(ppp.ProtoPAP, ack)
	}
	c.authenticated(string(id), [32]byte{})
}

func (c *Conn) receiveResponse(p ppp.Packet) {
	value, name, err := ppp.ParseCHAPValue(p.Data)
	if err != nil {
		return
	}
	a := &c.link.auth
	if c.quirks.Auth.DoubleChallenge && !a.doubled {
		a.doubled = true
		c.newChallenge()
		return
	}
	switch a.method {
	case MSCHAPv2:
		c.receiveMSCHAPv2(p.Identifier, value, string(name))
	case CHAPMD5:
		c.receiveCHAPMD5(p.Identifier, value, string(name))
	default:
		c.refuseResponse(p.Identifier, string(name))
	}
}

// receiveCHAPMD5 checks MD5(identifier, secret, challenge) (RFC 1994 §4.1).
func (c *Conn) receiveCHAPMD5(id uint8, value []byte, name string) {
	_, password, known := c.user(name)
	want := md5.Sum(append(append([]byte{id}, password...), c.link.auth.challenge[:]...))
	right := known && subtle.ConstantTimeCompare(value, want[:]) == 1
	if !c.admits(name, right) {
		c.refuseResponse(id, name)
		return
	}
	c.sendPPP(ppp.ProtoCHAP, ppp.Packet{Code: ppp.CHAPSuccess, Identifier: id, Data: []byte("Welcome")})
	c.authenticated(name, [32]byte{})
}

// receiveMSCHAPv2 checks the NT-Response and proves the password in turn
// (RFC 2759 §4, §5, §8).
func (c *Conn) receiveMSCHAPv2(id uint8, value []byte, name string) {
	hashed, password, known := c.user(name)
	if len(value) != 49 {
		c.refuseResponse(id, name)
		return
	}
	challenge, peerChallenge, response := c.link.auth.challenge, [16]byte(value), [24]byte(value[24:48])
	want, err := mschap.NTResponse(challenge, peerChallenge, hashed, password)
	right := known && err == nil && subtle.ConstantTimeCompare(response[:], want[:]) == 1
	if !c.admits(name, right) {
		c.refuseResponse(id, name)
		return
	}
	proof, err := mschap.AuthenticatorResponse(challenge, peerChallenge, response, hashed, password)
	key, keyErr := mschap.HLAK(response, password)
	if err != nil || keyErr != nil {
		c.refuseResponse(id, name)
		return
	}
	c.sendPPP(ppp.ProtoCHAP, ppp.Packet{
		Code: ppp.CHAPSuccess, Identifier: id, Data: c.quirks.Auth.success(proof),
	})
	c.authenticated(name, key)
}

// success is the message of a Success (RFC 2759 §5).
func (q *AuthQuirks) success(proof string) []byte {
	switch {
	case q.OmitsS:
		return []byte("M=Welcome")
	case q.WrongS:
		proof = "S=" + strings.Repeat("0123456789", 4)
	}
	if q.SuccessOmitsM {
		return []byte(proof)
	}
	return []byte(proof + " M=Authentication succeeded")
}

// refuseResponse sends a Failure and ends the link, unless another try is
// allowed: that has the next identifier and the challenge just sent.
func (c *Conn) refuseResponse(id uint8, name string) {
	q, a := &c.quirks.Auth, &c.link.auth
	var fresh [16]byte
	rand.Read(fresh[:])
	if !q.FailureSilent {
		text := []byte("Authentication failure")
		if a.method != CHAPMD5 {
			text = q.failure(fresh, c.failureCode())
		}
		c.sendPPP(ppp.ProtoCHAP, ppp.Packet{Code: ppp.CHAPFailure, Identifier: id, Data: text})
	}
	if q.Retry {
		c.stop(alarmAuth)
		a.id = id + 1
		if !q.FailureOmitsC {
			a.challenge = fresh
		}
		c.record(EventAuthenticationFailed, a.method.String()+": "+name+", may retry")
		return
	}
	c.authFailed(a.method.String() + ": " + name)
}

// failureCode is the E= of a Failure.
func (c *Conn) failureCode() int {
	code := c.quirks.Auth.RefuseCode
	if c.link.auth.busy {
		code = c.server.cfg.BusyCode
	}
	return cmp.Or(code, 691)
}

// failure is the message of a Failure (RFC 2759 §6).
func (q *AuthQuirks) failure(challenge [16]byte, code int) []byte {
	if q.FailureText != "" {
		return []byte(q.FailureText)
	}
	retry := 0
	if q.Retry {
		retry = 1
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "E=%d R=%d", code, retry)
	if !q.FailureOmitsC {
		fmt.Fprintf(&b, " C=%X", challenge)
	}
	b.WriteString(" V=3")
	if !q.FailureOmitsM {
		b.WriteString(" M=Authentication failure")
	}
	return b.Bytes()
}

func (c *Conn) authFailed(detail string) {
	c.link.auth.failed = true
	c.stop(alarmAuth, alarmRechallenge)
	c.record(EventAuthenticationFailed, detail)
	if !c.quirks.Auth.NoTerminate {
		c.terminate("")
	}
}

// authenticated goes on to the network protocols. Of several successes the
// first one counts, for its key is what the client binds with.
func (c *Conn) authenticated(name string, key [32]byte) {
	a := &c.link.auth
	c.stop(alarmAuth)
	if a.done {
		return
	}
	a.done, a.user = true, name
	if !a.keyed {
		a.key, a.keyed = key, true
	}
	c.setInfo(func(i *Info) { i.User, i.Method, c.hlak = name, a.method, a.key })
	c.record(EventAuthenticated, a.method.String())
	if c.call.early != nil {
		c.callConnected(c.call.early)
	}
	c.rearmRechallenge()
	c.startNCPs()
}
