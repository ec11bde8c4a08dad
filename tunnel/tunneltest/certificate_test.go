package tunneltest

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"
)

func TestCertificates(t *testing.T) {
	authority, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority.PEM()) {
		t.Fatal("authority is no PEM")
	}
	tests := []struct {
		name  string
		leaf  Leaf
		usage bool // serverAuth is named
		ok    bool
	}{
		{"good", GoodLeaf(), true, true},
		{"expired", ExpiredLeaf(), true, false},
		{"wrong name", WrongNameLeaf(), true, false},
		{"no usage", NoUsageLeaf(), false, true}, // to crypto/x509 no list means any usage
		{"client only", ClientOnlyLeaf(), false, false},
		{"one name", Leaf{Names: []string{"vpn.example.test"}, NotBefore: certificateStart}, true, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				certificate, err := authority.Issue(test.leaf)
				if err != nil {
					t.Fatal(err)
				}
				for _, now := range []time.Time{time.Now(), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)} {
					_, err = certificate.Leaf.Verify(x509.VerifyOptions{
						Roots: roots, DNSName: "vpn.example.test", CurrentTime: now,
					})
					if (err == nil) != test.ok {
						t.Errorf("at %v: %v, want ok %v", now, err, test.ok)
					}
				}
				if got := len(certificate.Leaf.ExtKeyUsage) == 1 &&
					certificate.Leaf.ExtKeyUsage[0] == x509.ExtKeyUsageServerAuth; got != test.usage {
					t.Errorf("usages %v, want serverAuth %v", certificate.Leaf.ExtKeyUsage, test.usage)
				}
			})
		})
	}
}

func TestSelfSigned(t *testing.T) {
	certificate, err := SelfSigned(GoodLeaf())
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Certificate: certificate, TLS: &tls.Config{MaxVersion: tls.VersionTLS12}}
	bubble(t, cfg, func(t *testing.T, c *client) {
		c.up()
		if v := c.tls.ConnectionState().Version; v != tls.VersionTLS12 {
			t.Errorf("TLS version %#x, want 1.2", v)
		}
		c.wantEvents(EventBindingVerified)
	})
}
