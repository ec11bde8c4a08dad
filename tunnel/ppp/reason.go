package ppp

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// Reason is why a peer says that it ends a link.
type Reason uint8

// The reasons that servers tell.
const (
	ReasonNone      Reason = iota // not told, or not understood
	ReasonIdle                    // nothing had passed for too long (RADIUS Idle-Timeout)
	ReasonTimeLimit               // the session has had its time (RADIUS Session-Timeout)
	ReasonVolume                  // or its amount of data
	ReasonStopped                 // somebody stopped it at the server
	ReasonSilence                 // the server heard nothing from us
)

// String is the reason in words that follow "because"; empty for ReasonNone.
func (r Reason) String() string {
	return [...]string{
		ReasonNone: "", ReasonIdle: "nothing passed through it for too long", ReasonTimeLimit: "its time was up",
		ReasonVolume: "it had carried as much as it may", ReasonStopped: "somebody stopped it there",
		ReasonSilence: "the server heard nothing from here any more",
	}[r]
}

// reasonWords are parts of the texts of servers, in lower case: pppd's "Link
// inactive", "Connect time expired", "Traffic limit", "User request" and "Peer
// not responding", and what others call the same things.
var reasonWords = []struct {
	part   string
	reason Reason
}{
	{"inactiv", ReasonIdle}, {"idle", ReasonIdle},
	{"time expired", ReasonTimeLimit}, {"time limit", ReasonTimeLimit},
	{"session timeout", ReasonTimeLimit}, {"session-timeout", ReasonTimeLimit},
	{"traffic limit", ReasonVolume},
	{"user request", ReasonStopped}, {"admin", ReasonStopped}, {"shutdown", ReasonStopped}, {"shutting down", ReasonStopped},
	{"not responding", ReasonSilence},
}

// Reason is what the server's text or code says; most servers send neither.
func (e *TerminatedError) Reason() Reason {
	if e.Code == rasIdleTimeout {
		return ReasonIdle
	}
	text := strings.ToLower(e.Text)
	for _, w := range reasonWords {
		if strings.Contains(text, w.part) {
			return w.reason
		}
	}
	return ReasonNone
}

// rasIdleTimeout is Windows' ERROR_IDLE_TIMEOUT.
const rasIdleTimeout = 828

// rasMark stands in a Terminate-Request of Windows between its magic number and
// an error code of its Remote Access Service, of four octets each.
var rasMark = []byte{0x00, 0x3C, 0xCD, 0x74}

// parseTermination reads the data of a Terminate-Request: a text for people, or
// the error code of a Windows server. Neither is the usual case.
func parseTermination(data []byte) (text string, code int) {
	if len(data) == 12 && bytes.Equal(data[4:8], rasMark) {
		return "", int(binary.BigEndian.Uint32(data[8:]) & 0xFFFF)
	}
	return printable(data), 0
}
