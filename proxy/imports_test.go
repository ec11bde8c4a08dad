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

// libraries are the ones from outside that each package uses, and those that its
// tests use besides.
var libraries = map[string]struct{ used, byTests []string }{
	".": {[]string{"github.com/armon/go-socks5", "golang.org/x/net/idna", "golang.org/x/sys/unix"},
		[]string{"golang.org/x/net/proxy"}},
	"forward": {},
	"names":   {[]string{"github.com/miekg/dns"}, nil},
	"route":   {[]string{"golang.org/x/net/idna"}, []string{"github.com/dop251/goja"}},
}

// TestImports: the packages know sockets and functions, and nothing of a tunnel
// or of each other.
func TestImports(t *testing.T) {
	for dir, library := range libraries {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no source files in %s: %v", dir, err)
		}
		for _, name := range files {
			allowed := slices.Clone(library.used)
			if strings.HasSuffix(name, "_test.go") {
				allowed = append(allowed, library.byTests...)
			}
			for _, path := range importsOf(t, name) {
				if strings.Contains(path, ".") && !slices.Contains(allowed, path) || strings.HasPrefix(path, "sstproxy/") {
					t.Errorf("%s imports %s", name, path)
				}
			}
		}
	}
}

func importsOf(t *testing.T, name string) (paths []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}
