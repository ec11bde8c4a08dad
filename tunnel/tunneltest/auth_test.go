package tunneltest

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sstproxy/tunnel/ppp"
	"sstproxy/tunnel/ppp/mschap"
	"sstproxy/tunnel/sstp"
)

func TestFailureMessages(t *testing.T) {
	tests := []struct {
		name   string
		quirks AuthQuirks
		want   string
	}{
		{"plain", AuthQuirks{}, `^E=691 R=0 C=[0-9A-F]{32} V=3 M=Authentication failure$`},
		{"accel", AuthQuirks{FailureOmitsC: true}, `^E=691 R=0 V=3 M=Authentication failure$`},
		{"SoftEther", AuthQuirks{FailureOmitsM: true}, `^E=691 R=0 C=[0-9A-F]{32} V=3$`},
		{"646", AuthQuirks{RefuseCode: 646}, `^E=646 `},
		{"647", AuthQuirks{RefuseCode: 647}, `^E=647 `},
		{"648", AuthQuirks{RefuseCode: 648}, `^E=648 `},
		{"649", AuthQuirks{RefuseCode: 649}, `^E=649 `},
		{"942", AuthQuirks{RefuseCode: 942}, `^E=942 `},
		{"text", AuthQuirks{FailureText: "no"}, `^no$`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{Quirks: Quirks{Auth: test.quirks}}, func(t *testing.T, c *client) {
				if test.quirks.RefuseCode == 0 {
					c.pass = "wrong"
				}
				c.call()
				c.lcp(MSCHAPv2)
				c.response(c.want("CHAP Challenge"))
				f := c.want("CHAP Failure")
				if !regexp.MustCompile(test.want).Match(f.packet.Data) {
					t.Errorf("failure %q, want %s", f.packet.Data, test.want)
				}
				f = c.want("LCP Terminate-Request")
				c.send(ppp.ProtoLCP, ppp.Packet{Code: ppp.TerminateAck, Identifier: f.packet.Identifier})
				c.want("Call Disconnect")
				c.wantEvents(EventAuthenticationFailed)
				c.wantNoEvents(EventAuthenticated)
			})
		})
	}
}

// TestRetry gets it wrong once: the next Response has the next identifier and
// answers the challenge of the Failure.
func TestRetry(t *testing.T) {
	for _, omitsC := range []bool{false, true} {
		q := AuthQuirks{Retry: true, FailureOmitsC: omitsC}
		bubble(t, Config{Quirks: Quirks{Auth: q}}, func(t *testing.T, c *client) {
			c.pass = "wrong"
			c.call()
			c.lcp(MSCHAPv2)
			challenge := c.want("CHAP Challenge")
			c.response(challenge)
			failure := ppp.ParseFailure(c.want("CHAP Failure").packet.Data)
			if !failure.Retry || failure.Challenge == nil != omitsC {
				t.Fatalf("failure %+v, want a retry", failure)
			}
			c.pass = testPassword
			challenge.packet.Identifier++
			if !omitsC {
				challenge.packet.Data = ppp.AppendCHAPValue(nil, failure.Challenge, "")
			}
			c.response(challenge)
			c.want("CHAP Success")
		})
	}
}

func TestSuccessMessages(t *testing.T) {
	tests := []struct {
		name   string
		quirks AuthQuirks
		want   string
	}{
		{"plain", AuthQuirks{}, `^S=[0-9A-F]{40} M=.`},
		{"SoftEther", AuthQuirks{SuccessOmitsM: true}, `^S=[0-9A-F]{40}$`},
		{"no S", AuthQuirks{OmitsS: true}, `^M=`},
		{"wrong S", AuthQuirks{WrongS: true, SuccessOmitsM: true}, `^S=(0123456789){4}$`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{Quirks: Quirks{Auth: test.quirks}}, func(t *testing.T, c *client) {
				c.call()
				c.lcp()
				c.response(c.want("CHAP Challenge"))
				if f := c.want("CHAP Success"); !regexp.MustCompile(test.want).Match(f.packet.Data) {
					t.Errorf("success %q, want %s", f.packet.Data, test.want)
				}
			})
		})
	}
}

// TestAuthenticatorResponse uses the inputs of RFC 2759 §9.2.
func TestAuthenticatorResponse(t *testing.T) {
	q := Quirks{Auth: AuthQuirks{SuccessOmitsM: true}}
	bubble(t, Config{Quirks: q, Users: map[string]string{"User": "clientPass"}}, func(t *testing.T, c *client) {
		c.call()
		c.lcp(MSCHAPv2)
		f := c.want("CHAP Challenge")
		challenge, _, err := ppp.ParseCHAPValue(f.packet.Data)
		if err != nil {
			t.Fatal(err)
		}
		peer := [16]byte(unhex(t, "21402324255e262a28295f2b3a337c7e"))
		nt, err := mschap.NTResponse([16]byte(challenge), peer, "User", "clientPass")
		if err != nil {
			t.Fatal(err)
		}
		want, err := mschap.AuthenticatorResponse([16]byte(challenge), peer, nt, "User", "clientPass")
		if err != nil {
			t.Fatal(err)
		}
		value := append(append(append(peer[:], make([]byte, 8)...), nt[:]...), 0)
		c.send(ppp.ProtoCHAP, ppp.Packet{
			Code: ppp.CHAPResponse, Identifier: f.packet.Identifier, Data: ppp.AppendCHAPValue(nil, value, `DOM\User`),
		})
		if got := c.want("CHAP Success").packet.Data; string(got) != want {
			t.Errorf("success %q, want %q", got, want)
		}
	})
}

// TestNames is which name is looked up and which enters the hash.
func TestNames(t *testing.T) {
	tests := []struct {
		name string
		user string // in the server
		full bool
		ok   bool
	}{
		{`DOM\alice`, `alice`, false, true},
		{`DOM\alice`, `DOM\alice`, false, true},
		{`alice@HUB`, `alice@HUB`, false, true},
		{`alice@HUB`, `alice`, false, false},
		{`DOM\alice`, `DOM\alice`, true, false}, // the client hashes "alice", accel the whole
		{`alice`, `alice`, true, true},
		{`DOM\alice`, `alice`, true, false},
	}
	for _, test := range tests {
		cfg := Config{
			Users: map[string]string{test.user: testPassword}, Quirks: Quirks{Auth: AuthQuirks{FullName: test.full}},
		}
		bubble(t, cfg, func(t *testing.T, c *client) {
			c.user = test.name
			c.call()
			c.lcp()
			c.response(c.want("CHAP Challenge"))
			for {
				f, err := c.next()
				if err != nil {
					t.Fatal(err)
				}
				if name := f.String(); name == "CHAP Success" || name == "CHAP Failure" {
					if got := name == "CHAP Success"; got != test.ok {
						t.Errorf("%s with user %s, full name %v: %v, want %v", test.name, test.user, test.full, got, test.ok)
					}
					return
				}
			}
		})
	}
}

func TestAcceptsAnything(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{Auth: AuthQuirks{AcceptsAnything: true}}}, func(t *testing.T, c *client) {
		c.pass = "not the password"
		c.call()
		c.login()
	})
}

func TestDoubleChallenge(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{Auth: AuthQuirks{DoubleChallenge: true}}}, func(t *testing.T, c *client) {
		c.call()
		c.lcp()
		first := c.want("CHAP Challenge")
		c.response(first)
		second := c.want("CHAP Challenge")
		if bytes.Equal(first.packet.Data, second.packet.Data) || first.packet.Identifier == second.packet.Identifier {
			t.Error("the second challenge is the first")
		}
		c.response(second)
		c.want("CHAP Success")
		c.connected(sstp.HashSHA256, nil)
		c.await(EventBindingVerified)
	})
}

// TestRepeatsChallenge is SoftEther 4: identifier 0, each second, after
// Success too, until IPCP.
func TestRepeatsChallenge(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{Auth: AuthQuirks{RepeatsChallenge: true}}}, func(t *testing.T, c *client) {
		c.call()
		c.lcp()
		f := c.want("CHAP Challenge")
		c.response(f)
		c.want("CHAP Success")
		c.connected(sstp.HashSHA256, nil)
		for range 3 {
			again := c.want("CHAP Challenge")
			if again.packet.Identifier != 0 || !bytes.Equal(again.packet.Data, f.packet.Data) {
				t.Errorf("challenge %d % x, want 0 % x", again.packet.Identifier, again.packet.Data, f.packet.Data)
			}
		}
		c.ipcp()
		c.want("Echo Request")
		if n := c.server.Count(EventAuthenticated); n != 1 {
			t.Errorf("authenticated %d times, want 1", n)
		}
	})
}

func TestRechallenge(t *testing.T) {
	bubble(t, Config{Quirks: Quirks{Auth: AuthQuirks{Rechallenge: 30 * time.Second}}}, func(t *testing.T, c *client) {
		c.up()
		for range 3 {
			c.response(c.want("CHAP Challenge"))
			c.want("CHAP Success")
		}
		c.conn().Challenge()
		c.response(c.want("CHAP Challenge"))
		c.want("CHAP Success")
		c.pass = "forgotten"
		c.response(c.want("CHAP Challenge"))
		c.want("CHAP Failure")
		c.want("LCP Terminate-Request")
	})
}

func TestChallengeUnanswered(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, c *client) {
		c.call()
		c.lcp()
		for range maxChallenges {
			c.want("CHAP Challenge")
		}
		c.want("LCP Terminate-Request")
	})
	bubble(t, Config{Quirks: Quirks{Auth: AuthQuirks{NeverChallenges: true}}}, func(t *testing.T, c *client) {
		c.call()
		c.lcp()
		c.wantAbort(sstp.StatusNegotiationTimeout)
	})
}

func TestPAPAnswers(t *testing.T) {
	tests := []struct {
		name     string
		quirks   AuthQuirks
		password string
		want     string
		info     []byte // from the code on
	}{
		{"plain", AuthQuirks{}, testPassword, "PAP Authenticate-Ack", []byte("\x02\x07\x00\x0D\x08Login ok")},
		{"SoftEther", AuthQuirks{PAPAckEmpty: true}, testPassword, "PAP Authenticate-Ack", []byte("\x02\x07\x00\x04")},
		{"MikroTik", AuthQuirks{PAPAckTrailer: true}, testPassword, "PAP Authenticate-Ack", []byte("\x02\x07\x00\x04\x08Login ok")},
		{"wrong", AuthQuirks{}, "x", "PAP Authenticate-Nak", []byte("\x03\x07\x00\x14\x0FLogin incorrect")},
		{"wrong, silent", AuthQuirks{FailureSilent: true}, "x", "LCP Terminate-Request", nil},
		{"wrong, link stays", AuthQuirks{NoTerminate: true}, "x", "PAP Authenticate-Nak", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{Methods: []Method{PAP}, Quirks: Quirks{Auth: test.quirks}}, func(t *testing.T, c *client) {
				c.call()
				c.lcp()
				data, err := ppp.AppendPAPRequest(nil, testUser, test.password)
				if err != nil {
					t.Fatal(err)
				}
				c.send(ppp.ProtoPAP, ppp.Packet{Code: ppp.PAPRequest, Identifier: 7, Data: data})
				f, err := c.next()
				if err != nil || f.String() != test.want || test.info != nil && !bytes.Equal(f.info, test.info) {
					t.Errorf("%v %q, %v, want %s %q", f, f.info, err, test.want, test.info)
				}
			})
		})
	}
}

// TestMethods is how the server walks its list when the client Naks.
func TestMethods(t *testing.T) {
	all := []Method{EAP, MSCHAPv2, CHAPMD5, PAP}
	tests := []struct {
		name   string
		hint   Method
		ignore bool
		want   []Method
	}{
		{"hint taken", PAP, false, []Method{EAP, PAP}},
		{"hint ignored", PAP, true, []Method{EAP, MSCHAPv2, CHAPMD5, PAP}},
		{"hint not offered", MSCHAP, false, []Method{EAP, MSCHAPv2, CHAPMD5, PAP}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, Config{Methods: all, Quirks: Quirks{Auth: AuthQuirks{IgnoresHint: test.ignore}}}, func(t *testing.T, c *client) {
				c.call()
				var got []Method
				for {
					f := c.wantAny("LCP Configure-Request", "LCP Terminate-Request")
					if f.packet.Code == ppp.TerminateRequest {
						break
					}
					value := f.options(t)[0].Data
					for _, m := range all {
						if bytes.Equal(m.option(), value) {
							got = append(got, m)
						}
					}
					if slices.Contains(got, test.hint) {
						break
					}
					c.answer(ppp.ProtoLCP, ppp.ConfigureNak, f, ppp.Option{Type: ppp.LCPAuthProtocol, Data: test.hint.option()})
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("offers %v, want %v", got, test.want)
				}
				if none := c.server.Count(EventNoCommonMethod) > 0; none == slices.Contains(got, test.hint) {
					t.Errorf("no common method: %v with offers %v", none, got)
				}
			})
		})
	}
}

func (c *client) wantAny(names ...string) frame {
	c.t.Helper()
	for {
		f, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", strings.Join(names, " or "), err)
		}
		if slices.Contains(names, f.String()) {
			return f
		}
	}
}

// TestEAP agrees to EAP and Naks EAP-TLS: LCP begins anew with MS-CHAPv2, and
// with SoftEther that is the last that is heard.
func TestEAP(t *testing.T) {
	for _, stalls := range []bool{false, true} {
		q := Quirks{Auth: AuthQuirks{Methods: []Method{EAP, MSCHAPv2}, EAPNakStalls: stalls}}
		bubble(t, Config{Quirks: q}, func(t *testing.T, c *client) {
			c.call()
			c.lcp()
			f := c.want("EAP Request")
			c.send(ppp.ProtoEAP, ppp.Packet{Code: 2, Identifier: f.packet.Identifier, Data: []byte("\x01alice")})
			f = c.want("EAP Request")
			if f.packet.Data[0] != 13 {
				t.Errorf("EAP type %d, want 13", f.packet.Data[0])
			}
			c.send(ppp.ProtoEAP, ppp.Packet{Code: 2, Identifier: f.packet.Identifier, Data: []byte{3, 26}})
			c.want("LCP Protocol-Reject")
			if stalls {
				c.want("LCP Configure-Request")
				c.configure(ppp.ProtoLCP)
				c.wantAbort(sstp.StatusNegotiationTimeout)
				return
			}
			c.login()
		})
	}
}

// TestMSCHAPv1 cannot be carried out: the answer is a failure.
func TestMSCHAPv1(t *testing.T) {
	bubble(t, Config{Methods: []Method{MSCHAP}}, func(t *testing.T, c *client) {
		c.call()
		c.lcp()
		c.response(c.want("CHAP Challenge"))
		c.want("CHAP Failure")
	})
}
