package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxConfig bounds a configuration file, in octets.
const maxConfig = 256 << 10

// configFile is a file of profiles, as far as TOML goes: its keys are not
// looked at yet.
type configFile struct {
	path     string
	defaults section    // the keys before the first table: they hold for every profile
	profiles []*section // in the order of the file
}

// section is a table of the file.
type section struct {
	name     string
	line     int
	settings []setting // in the order of the file
}

// setting is a key and its value.
type setting struct {
	key      string
	value    any // as go-toml decodes it: string, bool, int64, float64, []any, map[string]any, a time
	line     int
	elements []int // the line of each element, if value is an array
}

// configError is a fault of a configuration file.
type configError struct {
	path string
	line int // counted from 1
	err  error
}

func (e *configError) Error() string { return fmt.Sprintf("%s:%d: %v", e.path, e.line, e.err) }

func (e *configError) Unwrap() error { return e.err }

// fault returns a *configError.
func (f *configFile) fault(line int, err error) error { return &configError{f.path, line, err} }

// profile returns the table of that name, or nil.
func (f *configFile) profile(name string) *section {
	i := slices.IndexFunc(f.profiles, func(s *section) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return f.profiles[i]
}

// names are the names of the profiles in the order of the file.
func (f *configFile) names() []string {
	names := make([]string, len(f.profiles))
	for i, p := range f.profiles {
		names[i] = p.name
	}
	return names
}

// loadConfig reads a configuration file. When ctx ends first, it returns the
// cause.
func loadConfig(ctx context.Context, path string) (*configFile, error) {
	return unless(ctx, func() (*configFile, error) { return readConfig(path) })
}

func readConfig(path string) (*configFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, withoutPath(err))
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, withoutPath(err))
	}
	// Editors on Windows begin a file of UTF-8 with a byte order mark.
	return parseConfig(path, bytes.TrimPrefix(text, []byte("\ufeff")))
}

// parseConfig reads the text of a configuration file; path is for messages. Its
// errors, but that for a file too long, are *configErrors.
func parseConfig(path string, text []byte) (*configFile, error) {
	if len(text) > maxConfig {
		return nil, fmt.Errorf("%s: longer than %d octets", path, maxConfig)
	}
	f := &configFile{path: path, defaults: section{line: 1}}
	var top map[string]any
	if err := toml.Unmarshal(text, &top); err != nil {
		return nil, f.syntax(err)
	}
	lines := positions(text)
	for key, value := range top {
		s := lines.setting(value, key)
		table, ok := value.(map[string]any)
		if !ok {
			f.defaults.settings = append(f.defaults.settings, s)
			continue
		}
		f.profiles = append(f.profiles, lines.section(table, key, s.line))
	}
	f.defaults.sort()
	slices.SortFunc(f.profiles, func(a, b *section) int { return cmp.Or(a.line-b.line, strings.Compare(a.name, b.name)) })
	return f, f.checkNames()
}

// syntax says where a file is not TOML.
func (f *configFile) syntax(err error) error {
	e, ok := errors.AsType[*toml.DecodeError](err)
	if !ok {
		return f.fault(1, err)
	}
	line, _ := e.Position()
	return f.fault(line, errors.New(strings.TrimPrefix(e.Error(), "toml: ")))
}

// checkNames refuses names that could be taken for a server.
func (f *configFile) checkNames() error {
	for _, p := range f.profiles {
		if !bareWord(p.name) {
			return f.fault(p.line, fmt.Errorf("profile %q: want a name of letters, digits, - and _", p.name))
		}
	}
	for _, s := range f.defaults.settings {
		if list, ok := s.value.([]any); ok && len(list) > 0 && isTable(list[0]) {
			return f.fault(s.line, fmt.Errorf("[[%s]]: want one table, [%[1]s]", s.key))
		}
	}
	return nil
}

func isTable(value any) bool {
	_, ok := value.(map[string]any)
	return ok
}

// bareWord tells whether an argument may name a profile: no dot, no colon.
func bareWord(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_'
	})
}

// sort brings settings into the order of the file, which their map has lost.
func (s *section) sort() {
	slices.SortFunc(s.settings, func(a, b setting) int { return cmp.Or(a.line-b.line, strings.Compare(a.key, b.key)) })
}

// lineTable has the lines of a file's keys and tables, by their path.
type lineTable map[string]mark

type mark struct {
	line     int
	elements []int
}

// pathOf is a key's path as the key of a lineTable.
func pathOf(keys ...string) string { return strings.Join(keys, "\x00") }

func (t lineTable) setting(value any, path ...string) setting {
	m := t[pathOf(path...)]
	return setting{key: path[len(path)-1], value: value, line: max(m.line, 1), elements: m.elements}
}

func (t lineTable) section(table map[string]any, name string, line int) *section {
	s := &section{name: name, line: line}
	for key, value := range table {
		s.settings = append(s.settings, t.setting(value, name, key))
	}
	s.sort()
	return s
}

// positions finds the lines in a text that is known to be TOML. The decoder of
// go-toml does not tell them, its parser does.
func positions(text []byte) lineTable {
	var p unstable.Parser
	p.Reset(text)
	w := &walker{text: text, line: 1, table: lineTable{}}
	var table []string
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = w.keys(nil, e)
		case unstable.KeyValue:
			w.keyValue(table, e)
		}
	}
	return w.table
}

// walker notes lines while it goes through a text from its beginning.
type walker struct {
	text   []byte
	offset uint32
	line   int // of offset
	table  lineTable
}

// at returns the line of an offset. Going back is possible.
func (w *walker) at(offset uint32) int {
	if offset < w.offset {
		w.offset, w.line = 0, 1
	}
	w.line += bytes.Count(w.text[w.offset:offset], []byte("\n"))
	w.offset = offset
	return w.line
}

// maxPath is how many steps of a path are followed: a table and its key are all
// that is looked up, and a file can be one path of a hundred thousand.
const maxPath = 2

// keys returns the path that the dotted key of a node leads to, from base, and
// notes each step's line: the first one that names it. Beyond maxPath it is cut,
// with one step more, so that it can't be taken for another.
func (w *walker) keys(base []string, node *unstable.Node) []string {
	path := slices.Clone(base)
	for it := node.Key(); it.Next(); {
		if path = append(path, string(it.Node().Data)); len(path) > maxPath {
			return path
		}
		w.note(path, it.Node().Raw.Offset)
	}
	return path
}

func (w *walker) note(path []string, offset uint32) {
	if key := pathOf(path...); w.table[key].line == 0 {
		w.table[key] = mark{line: w.at(offset)}
	}
}

func (w *walker) keyValue(table []string, node *unstable.Node) {
	path := table
	if len(path) <= maxPath {
		path = w.keys(table, node)
	}
	if len(path) > maxPath {
		return // a fault, of which the first step has a line
	}
	value := node.Value()
	for it := value.Children(); it.Next(); {
		child := it.Node()
		switch value.Kind {
		case unstable.InlineTable:
			w.keyValue(path, child)
		case unstable.Array:
			m := w.table[pathOf(path...)]
			m.elements = append(m.elements, w.element(child, m.line))
			w.table[pathOf(path...)] = m
		}
	}
}

// element is the line of an array's element; those that have others inside have
// no place of their own, and no use here.
func (w *walker) element(node *unstable.Node, of int) int {
	if node.Raw.Length == 0 {
		return of
	}
	return w.at(node.Raw.Offset)
}

// configPlaces are where a configuration file is looked for, in this order.
func (a *app) configPlaces() []string {
	var places []string
	add := func(variable string, path ...string) {
		if dir, _ := a.env(variable); filepath.IsAbs(dir) {
			places = append(places, filepath.Join(append([]string{dir}, path...)...))
		}
	}
	add("XDG_CONFIG_HOME", name, "config.toml")
	add("HOME", ".config", name, "config.toml")
	switch runtime.GOOS {
	case "darwin":
		add("HOME", "Library", "Application Support", name, "config.toml")
	case "windows":
		add("AppData", name, "config.toml")
	}
	return places
}

// findConfig returns the path of the configuration file in the default places;
// empty if there is none.
func (a *app) findConfig() string {
	for _, path := range a.configPlaces() {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			return path
		}
	}
	return ""
}
