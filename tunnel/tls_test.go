package tunnel

import (
	"crypto/x509"
	"testing"

	"sstproxy/tunnel/tunneltest"
)

// TestRootsAreRead: the system's roots, which take their time, are read only if
// the CA does not prove the server, and then they count as well.
func TestRootsAreRead(t *testing.T) {
	authority, other := newAuthority(t), newAuthority(t)
	cert, err := authority.Issue(tunneltest.GoodLeaf())
	if err != nil {
		t.Fatal(err)
	}
	chain := []*x509.Certificate{cert.Leaf}
	name := cert.Leaf.DNSNames[0]
	for _, tt := range []struct {
		name   string
		ca     []byte
		system *tunneltest.Authority
		read   bool
		proves bool
	}{
		{"the CA does", authority.PEM(), other, false, true},
		{"the system does", other.PEM(), authority, true, true},
		{"there is no CA", nil, authority, true, true},
		{"none does", other.PEM(), other, true, false},
	} {
		read := false
		roots := func() *x509.CertPool {
			read = true
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(tt.system.PEM())
			return pool
		}
		err := TLSConfig{CA: tt.ca}.verify(chain, roots, name)
		if read != tt.read || (err == nil) != tt.proves {
			t.Errorf("%s: %v, roots read %v; want proved %v, read %v", tt.name, err, read, tt.proves, tt.read)
		}
	}
}

func newAuthority(t *testing.T) *tunneltest.Authority {
	t.Helper()
	a, err := tunneltest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return a
}
