package sstp_test

import (
	"bytes"
	"strings"
	"testing"

	"sstproxy/tunnel/sstp"
)

// bindingVector is one entry of kind crypto-binding.
type bindingVector struct {
	in struct {
		Ack      octets `json:"call_connect_ack"`
		Request  octets `json:"call_connect_request"`
		CertHash octets `json:"cert_hash"`
		Hash     string
		HLAK     octets
		Nonce    octets
	}
	out struct {
		CallConnected octets `json:"call_connected"`
		MAC           octets `json:"cmac"`
		MACInput      octets `json:"cmac_input"`
		CMK           octets
	}
}

func bindingVectors(tb testing.TB) map[string]bindingVector {
	tb.Helper()
	all := map[string]bindingVector{}
	for _, v := range loadVectors(tb) {
		if v.Kind == "crypto-binding" {
			var b bindingVector
			decode(tb, v.ID, &b.in, &b.out)
			all[v.ID] = b
		}
	}
	if len(all) != 8 {
		tb.Fatalf("%d vectors, want 8", len(all))
	}
	return all
}

func (v bindingVector) hash() sstp.HashProtocol {
	if v.in.Hash == "SHA1" {
		return sstp.HashSHA1
	}
	return sstp.HashSHA256
}

func (v bindingVector) hlak() [32]byte { return [32]byte(v.in.HLAK) }

func (v bindingVector) binding() sstp.CryptoBinding {
	b := sstp.CryptoBinding{Hash: v.hash(), Nonce: [32]byte(v.in.Nonce)}
	copy(b.CertHash[:], v.in.CertHash)
	return b
}

func TestBindingVectors(t *testing.T) {
	for id, v := range bindingVectors(t) {
		t.Run(id, func(t *testing.T) {
			if got := sstp.CompoundMACKey(v.hash(), v.hlak()); !bytes.Equal(got, v.out.CMK) {
				t.Errorf("CMK %x, want %x", got, v.out.CMK)
			}
			unsigned := sstp.CallConnectedMessage(v.binding()).Append(nil)
			if v.out.MACInput != nil && !bytes.Equal(unsigned, v.out.MACInput) {
				t.Errorf("MAC input %x, want %x", unsigned, v.out.MACInput)
			}
			signed := v.binding().Sign(v.hlak())
			var mac [32]byte
			copy(mac[:], v.out.MAC)
			if signed.CompoundMAC != mac {
				t.Errorf("MAC %x, want %x", signed.CompoundMAC, mac)
			}
			if got := sstp.CallConnectedMessage(signed).Append(nil); !bytes.Equal(got, v.out.CallConnected) {
				t.Errorf("packet %x, want %x", got, v.out.CallConnected)
			}
			if again := signed.Sign(v.hlak()); again != signed {
				t.Error("signing twice changes the MAC")
			}
		})
	}
}

func TestVerify(t *testing.T) {
	for id, v := range bindingVectors(t) {
		t.Run(id, func(t *testing.T) {
			value, _ := parse(t, v.out.CallConnected).Attribute(sstp.AttrCryptoBinding)
			b, err := sstp.ParseCryptoBinding(value)
			if err != nil || !b.Verify(v.hlak()) {
				t.Fatalf("the vector does not verify: %v", err)
			}
			for i := 3; i < len(value); i++ {
				spoilt := bytes.Clone(value)
				spoilt[i] ^= 0x40
				if b, err := sstp.ParseCryptoBinding(spoilt); err != nil || b.Verify(v.hlak()) {
					t.Errorf("octet %d spoilt: verifies, %v", i, err)
				}
			}
			other := v.hlak()
			other[31] ^= 1
			if b.Verify(other) {
				t.Error("verifies with another HLAK")
			}
		})
	}
}

func TestCertificateHash(t *testing.T) {
	der := testCertificate(t)
	for id, v := range bindingVectors(t) {
		if !strings.HasPrefix(id, "chain-") {
			continue
		}
		if got := sstp.CertificateHash(v.hash(), der); got != v.binding().CertHash {
			t.Errorf("%s: got %x, want %x", id, got, v.in.CertHash)
		}
	}
}

func TestChooseHash(t *testing.T) {
	for _, test := range []struct {
		bitmask, want sstp.HashProtocol
		ok            bool
	}{
		{0, sstp.HashSHA256, true}, // sorz without a certificate
		{1, sstp.HashSHA1, true},
		{2, sstp.HashSHA256, true},
		{3, sstp.HashSHA256, true},
		{0xf9, sstp.HashSHA1, true},
		{0xff, sstp.HashSHA256, true},
		{0x04, 0, false},
		{0xfc, 0, false},
	} {
		if got, ok := sstp.ChooseHash(test.bitmask); got != test.want || ok != test.ok {
			t.Errorf("%#02x: got %v, %v, want %v, %v", uint8(test.bitmask), got, ok, test.want, test.ok)
		}
	}
}
