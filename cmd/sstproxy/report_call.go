package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sstproxy/tunnel"
	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/sstp"
)

// explainHTTP says which status came instead of 200; package sstp knows what it
// means for SSTP.
func explainHTTP(e *sstp.HTTPError) report {
	what := strings.TrimSpace(fmt.Sprintf("the server answered the SSTP request with HTTP status %d %s", e.StatusCode, e.Reason))
	if e.Location != "" {
		what += ", pointing to " + e.Location
	}
	return failed(what, e.Hint())
}

func explainBinding(e *tunnel.BindingError) report {
	return failed(fmt.Sprintf("the server refused the crypto binding: %v", e.Err),
		"the server sees another TLS connection than this program, as when a proxy that opens TLS stands between; or the server got no keys from what it checks accounts with: ask the administrator")
}

// explainAuth says why the server refused the credentials. If it took them for
// the session before, it may be that it holds that one.
func explainAuth(e *ppp.AuthError, held bool) report {
	what := "the server refused the login"
	if e.Unanswered {
		what += ", for it ended the session instead of answering"
	}
	switch words := e.Failure.Words(); {
	case words != "":
		what += fmt.Sprintf(": %s (error %d)", words, e.Failure.Code)
	case e.Failure.Code != 0:
		what += fmt.Sprintf(" with error %d", e.Failure.Code)
	default:
		what += fmt.Sprintf(": user name or password is wrong, as far as %v tells", e.Method)
	}
	if text := cmp.Or(e.Failure.Message, e.Text); text != "" {
		what += fmt.Sprintf("; it says %q", text)
	}
	hint := authHint(e.Failure.Code)
	if held {
		hint = "it took them before, so it may hold the session that was lost and allow no second one: " +
			"start again in two minutes; nothing is retried, because servers lock accounts"
	}
	return report{what: what, hint: hint, code: exitRefused}
}

// authHint advises on the error codes of RFC 2759 §6 and SoftEther's own.
func authHint(code int) string {
	const ask = "ask the administrator"
	switch code {
	case 0, 691:
		return "check both, and whether the server wants DOMAIN\\NAME or NAME@HUB; nothing is retried, because servers lock accounts"
	case 646:
		return "try again within the account's logon hours, or " + ask
	case 647:
		return ask + " to enable it"
	case 648:
		return "change it where the account lives, this program can't; then connect again"
	case 649:
		return ask + " to permit it"
	case 709:
		return "check the server's rules for length and history, or " + ask
	case 942:
		return "have it set again, or connect once with --auth pap --allow-pap"
	}
	return ask
}

// explainNoCommonAuth says what the server wants and which flag would give it.
func explainNoCommonAuth(e *ppp.NoCommonAuthError) report {
	offered := strings.Join(e.Offered, ", ")
	weak := func(m ppp.Method) bool {
		return slices.Contains(e.Offered, m.String()) && !slices.Contains(e.Acceptable, m)
	}
	switch {
	case offered == "":
		return failed("the server and this program have no authentication method in common", hintReport)
	case weak(ppp.MSCHAPv2):
		return failed("the server offers only "+offered+", which --auth excludes", "leave --auth out")
	case weak(ppp.PAP), weak(ppp.CHAPMD5):
		return failed("the server offers only "+offered,
			"--allow-pap accepts it; the server is then not proved, and with PAP sees the password")
	case slices.Contains(e.Offered, "EAP"):
		return failed("the server requires EAP, which this program does not speak yet",
			"ask the administrator to permit MS-CHAPv2 for this account")
	}
	return failed("the server offers only "+offered+", which this program does not speak",
		"ask the administrator to permit MS-CHAPv2 for this account")
}

func explainAddress(e *ppp.AddressError) report {
	if !e.Addr.IsValid() {
		return failed("the server does not assign an address", "ask the administrator for one, and give it by --request-address ADDRESS")
	}
	return failed(fmt.Sprintf("the server assigned %v, which no interface can have", e.Addr),
		"its address pool, or the account, is set up wrong: ask the administrator, or try --request-address ADDRESS")
}

func explainTerminated(e *ppp.TerminatedError) report {
	what := "the server closed the link"
	if e.Phase != ppp.PhaseNetwork {
		what += " while it was set up"
	}
	if r := e.Reason(); r != ppp.ReasonNone {
		what += fmt.Sprintf(" because %v", r)
	}
	return failed(what+said(e), hintAgain)
}

// said is what a server gave as its reason, in its own words or by its code.
func said(err error) string {
	e, ok := errors.AsType[*ppp.TerminatedError](err)
	switch {
	case ok && e.Text != "":
		return fmt.Sprintf(" (it says %q)", e.Text)
	case ok && e.Code != 0:
		return fmt.Sprintf(" (it gives error %d)", e.Code)
	}
	return ""
}

func explainNak(e *sstp.NakError) report {
	reasons := make([]string, len(e.Infos))
	for i, info := range e.Infos {
		reasons[i] = statusWords(info, true)
	}
	if len(reasons) == 0 {
		reasons = []string{statusWords(sstp.StatusInfo{}, false)}
	}
	return failed("the server refused the call: "+strings.Join(reasons, "; "),
		"it may serve something other than PPP, or be broken: "+hintReport)
}

func explainAbort(e *sstp.AbortError) report {
	if !e.ByPeer {
		return failed("the server broke the protocol, so the call was aborted: "+statusWords(e.Info, e.HasInfo), hintReport)
	}
	return failed("the server aborted the call: "+statusWords(e.Info, e.HasInfo), abortHint(e.Info, e.HasInfo))
}

// abortHint knows what makes servers abort.
func abortHint(info sstp.StatusInfo, ok bool) string {
	switch {
	case !ok || info.Status == sstp.StatusNoError:
		return hintAgain
	case info.AttribID == sstp.AttrCryptoBinding:
		return "a proxy that opens TLS may stand between, or the server's key differs: ask the administrator"
	case info.Status == sstp.StatusNegotiationTimeout:
		return "the login took too long for the server: connect again"
	case info.Status == sstp.StatusRetryCountExceeded:
		return "the server refused the same request several times: " + hintReport
	}
	return hintReport
}

func explainDisconnect(e *sstp.DisconnectError) report {
	if !e.HasInfo || e.Info.Status == sstp.StatusNoError {
		return failed("the server ended the session",
			"a time limit or the administrator ends sessions like this: connect again")
	}
	return failed("the server ended the session: "+statusWords(e.Info, true), hintAgain)
}

// statusWords says a status in words, with its name for the search engine.
func statusWords(info sstp.StatusInfo, ok bool) string {
	if !ok {
		return "no reason given"
	}
	return fmt.Sprintf("%s (%v)", info.Words(), info)
}
