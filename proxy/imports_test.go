package proxy

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// libraries are the ones from outside that the package uses.
var libraries = []string{"github.com/armon/go-socks5", "golang.org/x/net/idna", "golang.org/x/sys/unix"}

// TestImports: the package knows a dial function and nothing of a tunnel.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			foreign := strings.Contains(path, ".") && !slices.Contains(libraries, path)
			if foreign && !strings.HasSuffix(name, "_test.go") || strings.HasPrefix(path, "sstproxy/") {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}
