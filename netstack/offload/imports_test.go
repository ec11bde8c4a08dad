package offload

import (
	"go/build"
	"slices"
	"testing"
)

// The package is pure: it knows octets.
func TestImports(t *testing.T) {
	p, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"bytes", "encoding/binary", "math/bits"}; !slices.Equal(p.Imports, want) {
		t.Errorf("imports: got %v, want %v", p.Imports, want)
	}
}
