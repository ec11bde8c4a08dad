package mschap

import (
	"bytes"
	"crypto/rc4"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"go/build"
	"os"
	"slices"
	"strings"
	"testing"

	"layeh.com/radius/rfc2759"
	"layeh.com/radius/rfc3079"
)

// vector is one entry of testdata/vectors.json; every value is text there.
type vector struct {
	ID, Citation string
	In, Out      map[string]string
}

// vectorsLike returns the vectors whose id starts with prefix, at least one.
func vectorsLike(t *testing.T, prefix string) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	all := slices.DeleteFunc(file.Vectors, func(v vector) bool { return !strings.HasPrefix(v.ID, prefix) })
	if len(all) == 0 {
		t.Fatalf("no vector %s*", prefix)
	}
	return all
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantHex(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if want != "" && hex.EncodeToString(got) != want {
		t.Errorf("%s: got %x, want %s", what, got, want)
	}
}

// TestMD4 and TestDESKey hold what the library is built from against the RFCs.
func TestMD4(t *testing.T) {
	for _, v := range vectorsLike(t, "md4-") {
		wantHex(t, v.ID, rfc2759.NTPasswordHash([]byte(v.In["ascii"])), v.Out["digest"])
	}
}

func TestDESKey(t *testing.T) {
	clear := []byte("8 octets")
	for _, v := range vectorsLike(t, "des-key-expand-") {
		want := rfc2759.DESCrypt(unhex(t, v.Out["key8_odd_parity"]), clear)
		if got := rfc2759.DESCrypt(unhex(t, v.In["key7"]), clear); !bytes.Equal(got, want) {
			t.Errorf("%s: got %x, want %x", v.ID, got, want)
		}
	}
}

func TestNTPasswordHash(t *testing.T) {
	for _, v := range vectorsLike(t, "nthash-") {
		got, err := NTPasswordHash(v.In["password"])
		if err != nil {
			t.Fatal(err)
		}
		wantHex(t, v.ID, got[:], v.Out["nt_hash"])
	}
	if _, err := NTPasswordHash("\xff"); !errors.Is(err, ErrNotUTF8) {
		t.Errorf("invalid UTF-8: got %v, want ErrNotUTF8", err)
	}
}

// user is the name a vector sends in the Name field.
func (v vector) user() string {
	if u, ok := v.In["user_as_sent_in_name_field"]; ok {
		return u
	}
	return v.In["user"]
}

func TestMSCHAPv2(t *testing.T) {
	for _, v := range append(vectorsLike(t, "mschapv2-"), vectorsLike(t, "lab-softether-")...) {
		t.Run(v.ID, func(t *testing.T) {
			auth := [16]byte(unhex(t, v.In["authenticator_challenge"]))
			peer := [16]byte(unhex(t, v.In["peer_challenge"]))
			user, password := HashedUser(v.user()), v.In["password"]
			if want, ok := v.In["user_hashed"]; ok && user != want {
				t.Errorf("hashed user: got %q, want %q", user, want)
			}
			challenge := ChallengeHash(peer, auth, user)
			wantHex(t, "challenge", challenge[:], v.Out["challenge"])
			nt, err := NTResponse(auth, peer, user, password)
			if err != nil {
				t.Fatal(err)
			}
			wantHex(t, "NT-Response", nt[:], v.Out["nt_response"])
			s, err := AuthenticatorResponse(auth, peer, nt, user, password)
			if err != nil {
				t.Fatal(err)
			}
			if want := v.Out["authenticator_response"]; want != "" && s != want {
				t.Errorf("authenticator response: got %s, want %s", s, want)
			}
			hlak, err := HLAK(nt, password)
			if err != nil {
				t.Fatal(err)
			}
			wantHex(t, "HLAK", hlak[:], v.Out["hlak_client"])
		})
	}
}

func TestPasswordHashHash(t *testing.T) {
	for _, v := range vectorsLike(t, "mschapv2-") {
		hash, err := NTPasswordHash(v.In["password"])
		if err != nil {
			t.Fatal(err)
		}
		wantHex(t, v.ID, hash[:], v.Out["password_hash"])
		wantHex(t, v.ID, rfc2759.NTPasswordHash(hash[:]), v.Out["password_hash_hash"])
	}
}

// The direction is what goes wrong: RFC 3079 §3.5 prints the server's send key,
// which is the client's receive key and the second half of the HLAK.
func TestKeyDirection(t *testing.T) {
	for _, v := range vectorsLike(t, "mppe-") {
		master := rfc3079.GetMasterKey(unhex(t, v.In["password_hash_hash"]), unhex(t, v.In["nt_response"]))
		wantHex(t, v.ID+" master key", master, v.Out["master_key"])
		_, receive, err := Keys([24]byte(unhex(t, v.In["nt_response"])), "clientPass")
		if err != nil {
			t.Fatal(err)
		}
		want := v.Out["server_send_start_key"]
		wantHex(t, v.ID+" server send key", receive[:len(want)/2], want)
	}
	for _, v := range vectorsLike(t, "hlak-") {
		password := v.In["password"]
		if password == "" {
			password = "clientPass" // hlak-mschapv2 has the inputs of RFC 2759 §9.2
		}
		nt := [24]byte(unhex(t, v.In["nt_response"]))
		send, receive, err := Keys(nt, password)
		if err != nil {
			t.Fatal(err)
		}
		wantHex(t, v.ID+" send", send[:], v.Out["client_master_send_key"])
		wantHex(t, v.ID+" receive", receive[:], v.Out["client_master_receive_key"])
		hlak, err := HLAK(nt, password)
		if err != nil {
			t.Fatal(err)
		}
		wantHex(t, v.ID, hlak[:], v.Out["hlak_client"])
	}
}

// RFC 3079 §3.5.3 goes on to a session key and a ciphertext; following it there
// shows that the start key above is the one MPPE would use.
func TestSessionKey128(t *testing.T) {
	v := vectorsLike(t, "mppe-128-")[0]
	_, start, err := Keys([24]byte(unhex(t, v.In["nt_response"])), "clientPass")
	if err != nil {
		t.Fatal(err)
	}
	var pad1, pad2 [40]byte
	for i := range pad2 {
		pad2[i] = 0xF2
	}
	digest := sha1.Sum(slices.Concat(start[:], pad1[:], start[:], pad2[:])) // RFC 3079 §3.1, the initial key
	session := digest[:16]
	wantHex(t, "session key", session, v.Out["server_send_session_key"])
	c, err := rc4.NewCipher(session)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("test message")
	c.XORKeyStream(text, text)
	wantHex(t, "ciphertext", text, v.Out["rc4_of_ascii_test_message"])
}

func TestHashedUser(t *testing.T) {
	for user, want := range map[string]string{
		"alice": "alice", `CORP\alice`: "alice", `A\B\c`: "c", "alice@HUB": "alice@HUB", `\`: "", "": "",
	} {
		if got := HashedUser(user); got != want {
			t.Errorf("HashedUser(%q): got %q, want %q", user, got, want)
		}
	}
}

func TestNotUTF8(t *testing.T) {
	var c [16]byte
	var nt [24]byte
	const bad = "p\xe4ss"
	if _, err := NTResponse(c, c, "u", bad); !errors.Is(err, ErrNotUTF8) {
		t.Errorf("NTResponse: got %v", err)
	}
	if _, err := AuthenticatorResponse(c, c, nt, "u", bad); !errors.Is(err, ErrNotUTF8) {
		t.Errorf("AuthenticatorResponse: got %v", err)
	}
	if _, _, err := Keys(nt, bad); !errors.Is(err, ErrNotUTF8) {
		t.Errorf("Keys: got %v", err)
	}
	if _, err := HLAK(nt, bad); !errors.Is(err, ErrNotUTF8) {
		t.Errorf("HLAK: got %v", err)
	}
}

// The package is arithmetic: nothing that does I/O or reads a clock.
func TestImports(t *testing.T) {
	p, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"errors", "fmt", "layeh.com/radius/rfc2759", "layeh.com/radius/rfc3079", "strings", "unicode/utf8"}
	if !slices.Equal(p.Imports, want) {
		t.Errorf("imports: got %v, want %v", p.Imports, want)
	}
}
