package tunneltest

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestIndependent keeps the server apart from the client it is to test: of the
// module it may use codecs and key arithmetic, and none of the client's call
// and link.
func TestIndependent(t *testing.T) {
	allowed := map[string]bool{
		"sstproxy/tunnel/sstp": true, "sstproxy/tunnel/ppp": true, "sstproxy/tunnel/ppp/mschap": true,
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no source files", err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(path, ".") || strings.HasPrefix(path, "sstproxy") && !allowed[path] {
				t.Errorf("%s imports %s", name, path)
			}
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"sstp.New" + "Call", "ppp.New" + "Link", "sstp.Parse" + "Reply", ".Veri" + "fy(hlak"} {
			if strings.Contains(string(source), word) {
				t.Errorf("%s uses %s", name, word)
			}
		}
	}
}
