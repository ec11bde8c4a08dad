package ppp

import (
	"bytes"
	"crypto/subtle"
	"slices"
	"time"

	"sstproxy/tunnel/ppp/mschap"
)

const (
	// authTimeout bounds PhaseAuthenticate under CHAP, where the peer sets
	// the pace. A second factor behind the server may take most of it.
	authTimeout = 60 * time.Second
	// maxChallenges bounds the different challenges answered within
	// challengeWindow; a repeated one gets the answer it had.
	maxChallenges   = 20
	challengeWindow = time.Minute
	// keptExchanges is how many answers are kept for a Success that comes
	// after the next challenge.
	keptExchanges = 4
)

// auth is our side of authentication: PAP (RFC 1334), CHAP (RFC 1994) or
// MS-CHAPv2 (RFC 2759).
type auth struct {
	method   Method    // what the peer demands; zero: nothing
	deadline time.Time // when to give up; zero: not waiting
	retry    time.Time // PAP: when to send the Request again
	tries    int       // PAP: transmissions left
	request  Packet    // PAP
	answered bool      // the credentials, or a proof of them, went out
	spent    bool      // they did, be it before LCP was negotiated anew

	exchanges  []exchange // newest last
	challenges int        // different ones since windowed
	windowed   time.Time

	done bool // the peer accepted us once
	by   Method
	hlak [32]byte
}

// exchange is one challenge and our answer.
type exchange struct {
	id        uint8
	challenge []byte
	response  []byte   // data of the Response packet
	proof     string   // MS-CHAPv2: the authenticator response we must see
	hlak      [32]byte // MS-CHAPv2
}

// wipe clears what the password was needed for.
func (x *exchange) wipe() {
	clear(x.hlak[:])
	clear(x.response)
}

// stop ends the waiting. What was achieved stays.
func (a *auth) stop() {
	for i := range a.exchanges {
		a.exchanges[i].wipe()
	}
	clear(a.request.Data)
	a.deadline, a.retry, a.answered = time.Time{}, time.Time{}, false
	a.exchanges, a.request = nil, Packet{}
}

// speaks reports whether p carries the method in use.
func (a *auth) speaks(p Protocol) bool { return a.method != 0 && p == a.method.protocol() }

// next is when advanceAuth has something to do.
func (a *auth) next() time.Time {
	if !a.retry.IsZero() {
		return a.retry
	}
	return a.deadline
}

// startAuth enters PhaseAuthenticate as LCP opens.
func (l *Link) startAuth(now time.Time) {
	l.phase = PhaseAuthenticate
	l.auth.stop()
	l.auth.method = l.lcpOpts.method
	switch l.auth.method {
	case MSCHAPv2, CHAPMD5:
		l.auth.deadline = now.Add(authTimeout)
	case PAP:
		l.startPAP(now)
	default:
		l.skipAuth(now)
	}
}

// skipAuth: the peer wants no proof of who we are, so it gives none of its own
// either. That is as good as PAP, where only TLS vouches for the server; who
// does not permit PAP does not want it.
func (l *Link) skipAuth(now time.Time) {
	if !slices.Contains(l.cfg.Methods, PAP) {
		l.fail(now, ErrNoAuthentication)
		return
	}
	l.succeeded(now, [32]byte{})
}

// startPAP sends the name and the password (RFC 1334 §2.1).
func (l *Link) startPAP(now time.Time) {
	if !l.spend(now) {
		return
	}
	data, err := AppendPAPRequest(nil, l.cfg.User, l.cfg.Password)
	if err != nil {
		l.fail(now, err)
		return
	}
	l.auth.request = Packet{Code: PAPRequest, Identifier: l.nextID(), Data: data}
	l.auth.tries = maxConfigure
	l.auth.answered = true
	l.sendPAP(now)
}

func (l *Link) sendPAP(now time.Time) {
	l.auth.tries--
	l.auth.retry = now.Add(restartTimer)
	l.send(now, ProtoPAP, l.auth.request)
}

// advanceAuth repeats a PAP Request, and gives up when the time is over.
func (l *Link) advanceAuth(now time.Time) {
	due := l.auth.next()
	if l.phase != PhaseAuthenticate || due.IsZero() || now.Before(due) {
		return
	}
	if l.auth.method == PAP && l.auth.tries > 0 {
		l.sendPAP(now)
		return
	}
	l.fail(now, &ConfigError{l.auth.method.protocol()})
}

// receiveAuth takes a packet of the authentication protocol in use, also after
// it succeeded: a CHAP challenge may come at any time (RFC 1994 §2).
func (l *Link) receiveAuth(now time.Time, info []byte) {
	pkt, err := ParsePacket(info)
	if err != nil {
		return
	}
	if l.auth.method == PAP {
		l.receivePAP(now, pkt)
		return
	}
	switch pkt.Code {
	case CHAPChallenge:
		l.receiveChallenge(now, pkt)
	case CHAPSuccess:
		l.receiveSuccess(now, pkt)
	case CHAPFailure:
		l.refused(now, pkt)
	}
}

// receivePAP takes the answer to our Request. Its identifier is not compared:
// only one Request was ever made, and nothing else could be meant.
func (l *Link) receivePAP(now time.Time, pkt Packet) {
	if l.phase != PhaseAuthenticate {
		return
	}
	switch pkt.Code {
	case PAPAck:
		l.succeeded(now, [32]byte{})
	case PAPNak:
		l.fail(now, &AuthError{Method: PAP, Text: printable(ParsePAPMessage(pkt.Data))})
	}
}

// receiveChallenge answers a challenge. SoftEther 4 repeats one each second
// even after its Success: the same challenge gets the same answer, so that a
// Success fits whichever of them it was meant for.
func (l *Link) receiveChallenge(now time.Time, pkt Packet) {
	value, _, err := ParseCHAPValue(pkt.Data)
	if err != nil || l.auth.method == MSCHAPv2 && len(value) != MSCHAPv2ChallengeLen {
		return
	}
	x, known := l.auth.find(pkt.Identifier, value)
	if !known {
		if !l.auth.admit(now) {
			l.fail(now, &ConfigError{ProtoCHAP})
			return
		}
		if !l.spend(now) {
			return
		}
		if x, err = l.answer(pkt.Identifier, value); err != nil {
			l.fail(now, err)
			return
		}
		l.auth.keep(x)
	}
	l.auth.answered = true
	l.send(now, ProtoCHAP, Packet{Code: CHAPResponse, Identifier: x.id, Data: x.response})
}

// spend tells whether the credentials may be used, once more or at all. If not,
// the link ends.
func (l *Link) spend(now time.Time) bool {
	if l.cfg.Once && l.auth.spent {
		l.fail(now, ErrOnce)
		return false
	}
	l.auth.spent = true
	return true
}

// find looks for an exchange of that identifier and challenge.
func (a *auth) find(id uint8, challenge []byte) (exchange, bool) {
	for _, x := range a.exchanges {
		if x.id == id && bytes.Equal(x.challenge, challenge) {
			return x, true
		}
	}
	return exchange{}, false
}

// admit counts a new challenge; false means too many in a short time.
func (a *auth) admit(now time.Time) bool {
	if now.Sub(a.windowed) > challengeWindow {
		a.windowed, a.challenges = now, 0
	}
	a.challenges++
	return a.challenges <= maxChallenges
}

// keep adds an exchange and drops the oldest beyond keptExchanges.
func (a *auth) keep(x exchange) {
	if len(a.exchanges) == keptExchanges {
		a.exchanges[0].wipe()
		a.exchanges = slices.Delete(a.exchanges, 0, 1)
	}
	a.exchanges = append(a.exchanges, x)
}

// answer computes the response to a challenge.
func (l *Link) answer(id uint8, challenge []byte) (exchange, error) {
	x := exchange{id: id, challenge: bytes.Clone(challenge)}
	if l.auth.method == CHAPMD5 {
		value := MD5Response(id, l.cfg.Password, challenge)
		x.response = AppendCHAPValue(nil, value[:], l.cfg.User)
		return x, nil
	}
	var peerChallenge [MSCHAPv2ChallengeLen]byte
	l.random(peerChallenge[:])
	authChallenge, user, password := [MSCHAPv2ChallengeLen]byte(challenge), mschap.HashedUser(l.cfg.User), l.cfg.Password
	nt, err := mschap.NTResponse(authChallenge, peerChallenge, user, password)
	if err != nil {
		return exchange{}, err
	}
	if x.proof, err = mschap.AuthenticatorResponse(authChallenge, peerChallenge, nt, user, password); err != nil {
		return exchange{}, err
	}
	if x.hlak, err = mschap.HLAK(nt, password); err != nil {
		return exchange{}, err
	}
	x.response = AppendCHAPValue(nil, AppendMSCHAPv2Response(nil, peerChallenge, nt), l.cfg.User)
	return x, nil
}

// receiveSuccess believes an MS-CHAPv2 Success only with the authenticator
// response to one of our own peer challenges. A Success nobody asked for is
// discarded.
func (l *Link) receiveSuccess(now time.Time, pkt Packet) {
	if len(l.auth.exchanges) == 0 {
		return
	}
	if l.auth.method == CHAPMD5 {
		l.succeeded(now, [32]byte{})
		return
	}
	x, ok := l.auth.proven(pkt.Data)
	if !ok {
		l.fail(now, ErrServerNotProved)
		return
	}
	l.succeeded(now, x.hlak)
}

// proven finds the exchange whose authenticator response the message has. The
// newest is the likeliest; each has a peer challenge of its own, so that any
// of them proves as much.
func (a *auth) proven(msg []byte) (exchange, bool) {
	got, ok := parseAuthenticatorResponse(msg)
	if !ok {
		return exchange{}, false
	}
	for _, x := range slices.Backward(a.exchanges) {
		if subtle.ConstantTimeCompare([]byte(got), []byte(x.proof)) == 1 {
			return x, true
		}
	}
	return exchange{}, false
}

// succeeded goes on to the network. The keys of the first success stay: the
// crypto binding is made with them.
func (l *Link) succeeded(now time.Time, hlak [32]byte) {
	if !l.auth.done {
		l.auth.done, l.auth.by, l.auth.hlak = true, l.auth.method, hlak
	}
	if l.phase != PhaseAuthenticate {
		return
	}
	clear(l.auth.request.Data)
	l.auth.deadline, l.auth.retry, l.auth.request = time.Time{}, time.Time{}, Packet{}
	l.startNetwork(now)
}

// refused ends the link. R=1 would allow another try, but only with other
// credentials; the error carries it.
func (l *Link) refused(now time.Time, pkt Packet) {
	err := &AuthError{Method: l.auth.method}
	if l.auth.method == MSCHAPv2 {
		err.Failure = ParseFailure(pkt.Data)
		err.Failure.Message = printable([]byte(err.Failure.Message))
		if err.Failure.Code == 0 && err.Failure.Message == "" {
			err.Text = printable(pkt.Data)
		}
	} else {
		err.Text = printable(pkt.Data)
	}
	l.fail(now, err)
}
