package ppp

import (
	"strings"
	"testing"
)

// What servers put into a Terminate-Request, and what it means.
func TestTerminationReason(t *testing.T) {
	for data, want := range map[string]Reason{
		"":                                  ReasonNone,
		"bye":                               ReasonNone,
		"Link inactive":                     ReasonIdle, // pppd, as the next four
		"Connect time expired":              ReasonTimeLimit,
		"Traffic limit":                     ReasonVolume,
		"User request":                      ReasonStopped,
		"Peer not responding":               ReasonSilence,
		"Idle-Timeout":                      ReasonIdle,
		"session timeout":                   ReasonTimeLimit,
		"server shutting down":              ReasonStopped,
		"&\x17CS\x00<\xcdt\x00\x00\x03\x3c": ReasonIdle, // Windows: 828
		"&\x17CS\x00<\xcdt\x00\x00\x02\xb3": ReasonNone, // 691
		"&\x17CS\x00<\xcdt\x00\x00\x03":     ReasonNone, // cut short
	} {
		text, code := parseTermination([]byte(data))
		e := &TerminatedError{Text: text, Code: code, Phase: PhaseNetwork}
		if got := e.Reason(); got != want {
			t.Errorf("%q: text %q, code %d, reason %q, want %q", data, text, code, got, want)
		}
		if want != ReasonNone && !strings.Contains(e.Error(), want.String()) {
			t.Errorf("%q: %v", data, e)
		}
	}
	if text, code := parseTermination([]byte("&\x17CS\x00<\xcdt\x00\x00\x02\xb3")); text != "" || code != 691 {
		t.Errorf("Windows: text %q, code %d, want 691 alone", text, code)
	}
}
