package sstp_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The package is pure: it computes, and everything it knows about the world is
// handed to it.
func TestImports(t *testing.T) {
	allowed := []string{
		"bytes", "crypto/hmac", "crypto/sha1", "crypto/sha256", "encoding/binary",
		"errors", "fmt", "hash", "slices", "strconv", "strings", "time",
	}
	for name, file := range sources(t) {
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}

// From package time only values are used, from the language no concurrency,
// and from fmt nothing that writes.
func TestNoClockNoGoroutine(t *testing.T) {
	timeAllowed := []string{"Time", "Duration", "Second"}
	for name, file := range sources(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.SelectStmt, *ast.ChanType, *ast.SendStmt:
				t.Errorf("%s: %T", name, n)
			case *ast.SelectorExpr:
				x, _ := n.X.(*ast.Ident)
				if x == nil {
					break
				}
				if x.Name == "time" && !slices.Contains(timeAllowed, n.Sel.Name) {
					t.Errorf("%s uses time.%s", name, n.Sel.Name)
				}
				if x.Name == "fmt" && (strings.HasPrefix(n.Sel.Name, "Print") || strings.HasPrefix(n.Sel.Name, "Scan")) {
					t.Errorf("%s uses fmt.%s", name, n.Sel.Name)
				}
			}
			return true
		})
	}
}

// sources are the package's files without its tests.
func sources(t *testing.T) map[string]*ast.File {
	t.Helper()
	names, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = file
	}
	if len(files) == 0 {
		t.Fatal("no sources")
	}
	return files
}
