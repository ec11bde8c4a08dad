package tunneltest

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"sstproxy/tunnel/sstp"
)

// TestBindingRefused is the table of 3.3.5.2.3: what is wrong, and the Abort
// that says so.
func TestBindingRefused(t *testing.T) {
	mismatch := sstp.StatusInfo{AttribID: sstp.AttrCryptoBinding, Status: sstp.StatusValueNotSupported}
	tests := []struct {
		name   string
		fault  string
		quirks SSTPQuirks
		edit   func(*sstp.CryptoBinding)
		want   sstp.StatusInfo
	}{
		{"nonce", "wrong nonce", SSTPQuirks{}, func(b *sstp.CryptoBinding) { b.Nonce[0]++ }, mismatch},
		{"certificate", "wrong certificate hash", SSTPQuirks{}, func(b *sstp.CryptoBinding) { b.CertHash[31]++ }, mismatch},
		{"MAC", "wrong compound MAC", SSTPQuirks{}, func(b *sstp.CryptoBinding) { b.CompoundMAC[5]++ }, mismatch},
		{"hash", "hash protocol was not offered", SSTPQuirks{Hashes: sstp.HashSHA1}, nil, mismatch},
		{"unknown hash", "hash protocol was not offered", SSTPQuirks{}, func(b *sstp.CryptoBinding) { b.Hash = 4 }, mismatch},
		{"no keys", "wrong compound MAC", SSTPQuirks{NoKeys: true}, nil, mismatch},
		{"accel", "wrong compound MAC", SSTPQuirks{BindingInvalidFrame: true},
			func(b *sstp.CryptoBinding) { b.CompoundMAC[0]++ },
			sstp.StatusInfo{AttribID: sstp.AttrStatusInfo, Status: sstp.StatusInvalidFrameReceived}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{Quirks: Quirks{SSTP: test.quirks}}, func(t *testing.T, c *client) {
				c.call()
				c.login()
				c.connected(sstp.HashSHA256, test.edit)
				got, ok := c.want("Call Abort").message.StatusInfo()
				if !ok || got.AttribID != test.want.AttribID || got.Status != test.want.Status {
					t.Errorf("abort with %v, want %v", got, test.want)
				}
				if e := c.await(EventBindingRefused); e.Detail != test.fault {
					t.Errorf("refused for %q, want %q", e.Detail, test.fault)
				}
				c.message(sstp.CallAbort)
				c.wantEnd()
				c.wantNoEvents(EventCallConnected, EventBindingVerified)
			})
		})
	}
}

func TestBindingMissing(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.call()
		c.login()
		c.message(sstp.CallConnected)
		got, _ := c.want("Call Abort").message.StatusInfo()
		if got.AttribID != sstp.AttrStatusInfo || got.Status != sstp.StatusAttribNotSupportedInMsg {
			t.Errorf("abort with %v, want ATTRIB_NOT_SUPPORTED_IN_MSG in StatusInfo", got)
		}
		c.wantEnd() // abort timer
	})
}

// TestBindingEarly sends Call Connected before authentication is done: it is
// held until then.
func TestBindingEarly(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.call()
		c.lcp(MSCHAPv2)
		challenge := c.want("CHAP Challenge")
		c.connected(sstp.HashSHA256, nil)
		c.response(challenge)
		c.want("CHAP Success")
		if got := c.await(EventBindingRefused).Detail; got != "wrong compound MAC" {
			t.Errorf("binding without the key refused for %q", got)
		}
	})
}

// TestNoVerify is SoftEther: the fault is recorded and the call goes up.
func TestNoVerify(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{SSTP: SSTPQuirks{NoVerify: true}}}, func(t *testing.T, c *client) {
		c.call()
		c.login()
		c.message(sstp.CallConnected)
		c.ipcp()
		c.wantEvents(EventBindingRefused, EventCallConnected, EventIPCPOpened)
	})
}

func TestHashesOffered(t *testing.T) {
	for quirk, want := range map[sstp.HashProtocol]sstp.HashProtocol{
		HashesBoth: 3, HashesNone: 0, sstp.HashSHA1: 1, sstp.HashSHA256: 2, 0x80: 0x80,
	} {
		if got := (&SSTPQuirks{Hashes: quirk}).hashes(); got != want {
			t.Errorf("Hashes %#x: bitmask %#x, want %#x", quirk, got, want)
		}
	}
}

// vector is a published or computed Call Connected.
type vector struct {
	ID string            `json:"id"`
	In map[string]string `json:"in"`
	// Out holds call_connected, the 112 octets.
	Out map[string]string `json:"out"`
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCompoundMACVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/binding.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		t.Run(v.ID, func(t *testing.T) {
			packet := unhex(t, v.Out["call_connected"])
			h := sstp.HashProtocol(packet[bindingHashAt])
			mac := compoundMAC(h, [32]byte(unhex(t, v.In["hlak"])), packet)
			if got, want := hex.EncodeToString(mac[:]), hex.EncodeToString(packet[bindingMACAt:]); got != want {
				t.Errorf("compound MAC %s, want %s", got, want)
			}
		})
	}
	if len(vectors) < 6 {
		t.Errorf("%d vectors, want at least 6", len(vectors))
	}
}
