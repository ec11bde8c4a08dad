package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// profile is a tunnel to be: a server and what is said of it.
type profile struct {
	name    string // empty if the server was given, not a profile
	server  string
	options *options

	file   *configFile    // nil if no file had a say
	line   int            // of the profile in file
	origin map[string]int // the line in file of each key it was taken from
}

// profileOptions say where profiles come from.
type profileOptions struct {
	config string
}

func (o *profileOptions) define(fs *pflag.FlagSet) {
	fs.StringVar(&o.config, "config", "", "take profiles, and defaults for all of them, from `FILE` (TOML);\nelse from "+name+"/config.toml in $XDG_CONFIG_HOME or ~/.config")
}

// serverKey is the one key of a profile that is no flag.
const serverKey = "server"

// profiles finds out what the arguments of connect mean: one SERVER, which o is
// for, or profiles of the configuration file. When ctx ends while that is read,
// it returns the cause.
func (a *app) profiles(ctx context.Context, config string, args []string, o *options) ([]*profile, error) {
	file, err := a.configFor(ctx, config, args)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return nil, missingProfile(file)
	}
	if len(args) == 1 && (file == nil || file.profile(args[0]) == nil) {
		return a.serverAlone(config, args[0], file, o)
	}
	if file == nil {
		return nil, fmt.Errorf("unexpected argument %q: several must be profiles, and there is no configuration file (%s)",
			args[1], strings.Join(a.configPlaces(), ", "))
	}
	return a.fromFile(file, args)
}

// configFor loads the configuration file if the arguments can need it.
func (a *app) configFor(ctx context.Context, config string, args []string) (*configFile, error) {
	if config == "" && slices.ContainsFunc(args, bareWord) {
		config = a.findConfig()
	}
	if config == "" {
		return nil, nil
	}
	return loadConfig(ctx, config)
}

func missingProfile(file *configFile) error {
	if file == nil || len(file.profiles) == 0 {
		return errors.New("SERVER or PROFILE is missing")
	}
	return fmt.Errorf("PROFILE is missing: %s has %s", file.path, strings.Join(file.names(), ", "))
}

// serverAlone is the profile of an argument that the file, if there is one,
// does not know. Who names a file wants its defaults, and means a profile by a
// bare word; so does who says no user, without which no server can be tried.
func (a *app) serverAlone(config, server string, file *configFile, o *options) ([]*profile, error) {
	if config == "" && (file == nil || o.account.user != "") {
		return []*profile{{server: server, options: o}}, nil
	}
	if bareWord(server) {
		return nil, fmt.Errorf("%w; for a server of that name say %s:443", noProfile(file, server), server)
	}
	p, err := a.apply(file, &section{})
	if err != nil {
		return nil, err
	}
	p.server = server
	return []*profile{p}, nil
}

func noProfile(file *configFile, name string) error {
	return fmt.Errorf("%s has no profile %q%s", file.path, name, meant(name, file.names()))
}

// fromFile returns the named profiles of a file.
func (a *app) fromFile(file *configFile, names []string) ([]*profile, error) {
	var profiles []*profile
	for i, name := range names {
		s := file.profile(name)
		if s == nil {
			return nil, noProfile(file, name)
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("profile %s is named twice", name)
		}
		p, err := a.apply(file, s)
		if err != nil {
			return nil, err
		}
		profiles = append(profiles, p)
	}
	return profiles, nil
}

// apply makes a profile from the command line, the environment, a table of the
// file and the file's defaults; the first of them that says something about a
// flag counts. Each profile reads the command line anew, into options of its
// own; flags that are no keys have been read.
func (a *app) apply(file *configFile, s *section) (*profile, error) {
	p, keys := newProfile(file, s)
	line := pflag.NewFlagSet(name, pflag.ContinueOnError)
	line.AddFlagSet(keys)
	line.ParseErrorsAllowlist.UnknownFlags = true
	if err := line.Parse(a.args); err != nil {
		return nil, err
	}
	if err := a.environment(line); err != nil {
		return nil, err
	}
	return p, p.read(keys, s)
}

// newProfile returns a profile with nothing in it, and the flags that are its
// keys.
func newProfile(file *configFile, s *section) (*profile, *pflag.FlagSet) {
	p := &profile{name: s.name, options: new(options), file: file, line: s.line, origin: map[string]int{}}
	keys := pflag.NewFlagSet(name, pflag.ContinueOnError)
	for _, g := range p.options.connectGroups() {
		keys.AddFlagSet(g.flags)
	}
	return p, keys
}

// read takes from a table, and then from the defaults of the file, what is not
// said yet. Every fault of both is in its error.
func (p *profile) read(keys *pflag.FlagSet, s *section) error {
	all := slices.Concat(s.settings, p.file.defaults.settings)
	err := errors.Join(p.settings(keys, s.settings), p.settings(keys, p.file.defaults.settings))
	if p.name != "" && !slices.ContainsFunc(all, func(s setting) bool { return s.key == serverKey }) {
		return errors.Join(err, p.file.fault(p.line, fmt.Errorf("profile %s has no %s; keys for all profiles stand before the first table", p.name, serverKey)))
	}
	return err
}

func (p *profile) settings(keys *pflag.FlagSet, settings []setting) error {
	said := map[string]bool{serverKey: p.server != ""}
	keys.VisitAll(func(f *pflag.Flag) { said[f.Name] = said[f.Name] || f.Changed })
	var failed []error
	for _, s := range settings {
		// First into flags that nobody looks at: a value that is refused may
		// leave something behind, and one that is not wanted may be wrong.
		_, scratch := newProfile(p.file, &section{})
		err := p.set(scratch, s)
		if err == nil && !said[s.key] {
			err, p.origin[s.key] = p.set(keys, s), s.line
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// set gives one flag, or the server, the value of a setting.
func (p *profile) set(keys *pflag.FlagSet, s setting) error {
	if s.key == serverKey {
		return p.setServer(s)
	}
	if isTable(s.value) {
		return p.file.fault(s.line, fmt.Errorf("%s: a profile holds keys, and no tables", s.key))
	}
	f := keys.Lookup(s.key)
	if f == nil {
		return p.file.fault(s.line, unknownKey(keys, s.key))
	}
	values, err := s.strings(f)
	if err != nil {
		return p.file.fault(s.line, err)
	}
	for i, v := range values {
		if value, _ := pflag.UnquoteUsage(f); value == "FILE" {
			v = p.path(v)
		}
		if err := keys.Set(f.Name, v); err != nil {
			return p.file.fault(s.lineOf(i), fmt.Errorf("%s: %w", s.key, unwrapped(err)))
		}
	}
	return nil
}

func (p *profile) setServer(s setting) error {
	server, ok := s.value.(string)
	if !ok {
		return p.file.fault(s.line, errors.New("server: want a text in quotes"))
	}
	if err := checkServer(server); err != nil {
		return p.file.fault(s.line, err)
	}
	if p.server == "" {
		p.server = server
	}
	return nil
}

// strings are the values of a setting as the flag's Set reads them.
func (s setting) strings(f *pflag.Flag) ([]string, error) {
	list, isList := s.value.([]any)
	if !isList {
		list = []any{s.value}
	}
	want, fits := wantOf(f)
	if isList && !repeatable(f) {
		return nil, fmt.Errorf("%s: want %s, not a list", s.key, want)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: the list is empty", s.key)
	}
	values := make([]string, len(list))
	for i, v := range list {
		text, ok := fits(v)
		if !ok {
			return nil, fmt.Errorf("%s: want %s", s.key, want)
		}
		values[i] = text
	}
	return values, nil
}

// lineOf is the line of the value with index i.
func (s setting) lineOf(i int) int {
	if i < len(s.elements) {
		return s.elements[i]
	}
	return s.line
}

// repeatable tells whether a flag takes a list.
func repeatable(f *pflag.Flag) bool {
	switch f.Value.Type() {
	case "bool", "string", "duration", "int", "int64", "uint", "uint16", "float64":
		return false
	}
	return true
}

// wantOf says which values of TOML a flag takes, and how they become text.
func wantOf(f *pflag.Flag) (want string, fits func(any) (string, bool)) {
	switch f.Value.Type() {
	case "bool":
		return "true or false", func(v any) (string, bool) {
			b, ok := v.(bool)
			return strconv.FormatBool(b), ok
		}
	case "int", "int64", "uint", "uint16":
		return "a number without quotes", func(v any) (string, bool) {
			n, ok := v.(int64)
			return strconv.FormatInt(n, 10), ok
		}
	case "duration":
		want = `a time in quotes, such as "30s"`
	default:
		want = "a text in quotes"
	}
	return want, func(v any) (string, bool) {
		s, ok := v.(string)
		return s, ok
	}
}

// path is a file's name as meant in the file of profiles: seen from its folder,
// not from wherever the program was started, and with ~ for the home directory.
func (p *profile) path(path string) string {
	if path == "" || path == "-" || filepath.IsAbs(path) {
		return path
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return filepath.Join(filepath.Dir(p.file.path), path)
}

// unknownKey refuses a key, a password with the reason.
func unknownKey(keys *pflag.FlagSet, key string) error {
	if file := key + "-file"; strings.HasSuffix(key, "password") && keys.Lookup(file) != nil {
		return fmt.Errorf("%s: no password belongs here, where backups and other people read it: put it into a file of its own, and its name into %s", key, file)
	}
	names := []string{serverKey}
	keys.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return fmt.Errorf("unknown key %q%s", key, meant(key, names))
}

// located says which line an error of the profile is about: that of the key
// that its text begins with, as the text of every error about a flag does, if
// the key comes from the file; else that of the profile.
func (p *profile) located(err error) error {
	if p.file == nil {
		return err
	}
	word, _, _ := strings.Cut(err.Error(), " ")
	if line := p.origin[keyOf(strings.TrimSuffix(word, ":"))]; line > 0 {
		return p.file.fault(line, err)
	}
	if p.name == "" {
		return err
	}
	return p.file.fault(p.line, fmt.Errorf("profile %s: %w", p.name, err))
}

// keyOf is the key of a flag with its dashes, -L or --local-forward.
func keyOf(flag string) string {
	if long, ok := strings.CutPrefix(flag, "--"); ok {
		return long
	}
	if flag == "SERVER" {
		return serverKey
	}
	_, keys := newProfile(nil, &section{})
	if short := strings.TrimPrefix(flag, "-"); len(short) == 1 && short != flag {
		if f := keys.ShorthandLookup(short); f != nil {
			return f.Name
		}
	}
	return ""
}

// meant suggests what was meant by an unknown word; empty if nothing is near.
func meant(word string, known []string) string {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "-")) }
	best, least := "", 1+min(3, 1+len(word)/3)
	for _, k := range known {
		if d := distance(plain(word), plain(k)); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// distance is how many letters must be put in, left out or replaced to make b
// of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
