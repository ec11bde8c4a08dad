package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// writeConfig writes a configuration file into a folder of its own.
func writeConfig(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "vpn.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Windows' editor begins its files with a byte order mark.
func TestConfigByteOrderMark(t *testing.T) {
	path := writeConfig(t, "\ufeff[work]\nserver = 'vpn.example.com'\nuser = 'alice'\n")
	if got := try(t.Context(), nil, "config", "check", path); got.code != exitOK || !strings.Contains(got.stdout, "1 good: work") {
		t.Errorf("got %+v", got)
	}
}

// Each fault of a file is told with its line, and what would be right.
func TestConfigFaults(t *testing.T) {
	const profile = "[work]\nserver = 'vpn.example.com'\nuser = 'alice'\n"
	tests := []struct {
		text string
		want []string // each a line of the report: the line in the file, and what is said
	}{
		{"user = alice\n", []string{"1: unexpected character"}},
		{profile + "\n\nkeepalive = 15s\n", []string{"6: strings must be quoted"}},
		{profile + "user = 'bob'\n", []string{"4: key user is already defined"}},
		{profile + "[work]\n", []string{"4: table work already exists"}},
		{"\xff\n", []string{"1: "}},
		{profile + "mtuu = 1400\n", []string{`4: unknown key "mtuu", did you mean "mtu"?`}},
		{profile + "log_level = 'info'\n", []string{`4: unknown key "log_level", did you mean "log-level"?`}},
		{profile + "LISTEN = '127.0.0.1:0'\n", []string{`4: unknown key "LISTEN", did you mean "listen"?`}},
		{profile + "zzzzzz = 1\n", []string{`4: unknown key "zzzzzz"`}},
		{"sever = 'x'\n" + profile, []string{`1: unknown key "sever", did you mean "server"?`}},
		{profile + "config = 'x'\n", []string{`4: unknown key "config"`}},
		{profile + "help = true\n", []string{`4: unknown key "help"`}},
		{profile + "password = 'wonderland'\n", []string{"4: password: no password belongs here, where backups and other people read it: put it into a file of its own, and its name into password-file"}},
		{"proxy-password = 'wonderland'\n" + profile, []string{"1: proxy-password: no password belongs here"}},
		{profile + "mtu = '1400'\n", []string{"4: mtu: want a number without quotes"}},
		{profile + "mtu = 1400.5\n", []string{"4: mtu: want a number without quotes"}},
		{profile + "mtu = [1400]\n", []string{"4: mtu: want a number without quotes, not a list"}},
		{profile + "mtu = 12\n", []string{"4: --mtu 12: want 576 to 1500"}},
		{"mtu = 12\n" + profile, []string{"1: --mtu 12: want 576 to 1500"}},
		{profile + "insecure = 'true'\n", []string{"4: insecure: want true or false"}},
		{profile + "ca = 1979-05-27\n", []string{"4: ca: want a text in quotes"}},
		{profile + "ca = 'no-such.pem'\n", []string{"4: --ca DIR/no-such.pem: no such file or directory"}},
		{profile + "password-file = 'no-such'\n", []string{"4: --password-file DIR/no-such: no such file or directory"}},
		{profile + "keepalive = 15\n", []string{`4: keepalive: want a time in quotes, such as "30s"`}},
		{profile + "keepalive = 'soon'\n", []string{`4: keepalive: time: invalid duration "soon"`}},
		{profile + "keepalive = '1ms'\n", []string{"4: --keepalive 1ms: want 1s or more"}},
		{profile + "auth = ['mschapv2', 'pap']\n", []string{"4: --auth pap: needs --allow-pap"}},
		{profile + "listen = []\n", []string{"4: listen: the list is empty"}},
		{profile + "listen = [\n 'nowhere',\n]\n", []string{"4: --listen nowhere: "}},
		{profile + "listen = ['127.0.0.1:0', 1080]\n", []string{"4: listen: want a text in quotes"}},
		{profile + "log-format = 'xml'\n", []string{"4: --log-format xml: want text or json"}},
		{profile + "local-forward = ['x']\n", []string{"4: -L x: "}},
		{profile + "fingerprint = '12'\n", []string{"4: --fingerprint: "}},
		{profile + "[work.listen]\n", []string{"4: listen: a profile holds keys, and no tables"}},
		{profile + "listen = {a = 1}\n", []string{"4: listen: a profile holds keys, and no tables"}},
		{"[[work]]\nserver = 'x'\n", []string{"1: [[work]]: want one table, [work]"}},
		{"\n['vpn.example.com']\n", []string{`2: profile "vpn.example.com": want a name of letters, digits, - and _`}},
		{"['']\n", []string{`1: profile "": want a name`}},
		{"user = 'alice'\n[work]\nmtu = 1400\n", []string{"2: profile work has no server; keys for all profiles stand before the first table"}},
		{"[work]\nserver = 1\n", []string{"2: server: want a text in quotes"}},
		{"[work]\nserver = 'https://vpn/'\n", []string{`2: SERVER "https://vpn/": want HOST or HOST:PORT`}},
		{"[work]\nserver = 'vpn'\n[home]\nserver = ['x']\nmtu = 12\n[third]\nmtuu = 1\n", []string{
			"4: server: want a text in quotes", "5: --mtu 12: want", "6: profile third has no server", `7: unknown key "mtuu"`,
		}},
		// What is said twice is read twice, and the defaults' faults are told once.
		{"mtu = 'x'\n[a]\nserver = 'a'\nmtu = 1400\n[b]\nserver = 'b'\n", []string{"1: mtu: want a number"}},
	}
	for _, test := range tests {
		t.Run(test.want[0], func(t *testing.T) {
			path := writeConfig(t, test.text)
			got := try(t.Context(), nil, "config", "check", path)
			lines := strings.Split(strings.TrimSuffix(got.stderr, "\n"), "\n")
			if got.code != exitUsage || got.stdout != "" || lines[len(lines)-1] != "Try 'sstproxy config check --help'." || len(lines) != len(test.want)+1 {
				t.Fatalf("got %+v, want code %d and %d faults", got, exitUsage, len(test.want))
			}
			for i, want := range test.want {
				want = path + ":" + strings.ReplaceAll(want, "DIR", filepath.Dir(path))
				if line := strings.TrimPrefix(strings.TrimSpace(lines[i]), "sstproxy: error: "); !strings.HasPrefix(line, want) {
					t.Errorf("got %q, want %q", line, want)
				}
			}
			if strings.Contains(got.stderr, "wonderland") {
				t.Errorf("the password is in the report: %q", got.stderr)
			}
		})
	}
}

func TestConfigCheck(t *testing.T) {
	path := writeConfig(t, "[work]\nserver = 'vpn'\n[home]\nserver = 'h'\nuser = 'alice'\n")
	want := path + `: 2 good: work, home
note: profile work has no user, so connect needs --user NAME
note: profiles work and home both listen on 127.0.0.1:1080: give each a place of its own
`
	for _, env := range []map[string]string{nil, {"SSTPROXY_CONFIG": path}} {
		args := []string{"config", "check"}
		if env == nil {
			args = append(args, path)
		}
		if got := try(t.Context(), env, args...); got != (outcome{exitOK, want, ""}) {
			t.Errorf("got %+v, want %q", got, want)
		}
	}
	if got := try(t.Context(), map[string]string{"SSTPROXY_USER": "bob"}, "config", "check", path); strings.Contains(got.stdout, "no user") {
		t.Errorf("with SSTPROXY_USER: got %+v", got)
	}
	for _, test := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{nil, nil, "there is no configuration file"},
		{map[string]string{"HOME": "/no/such"}, nil, "there is no configuration file (/no/such/.config/sstproxy/config.toml"},
		{nil, []string{"/no/such"}, "/no/such: no such file or directory"},
		{nil, []string{"a", "b"}, `unexpected argument "b"`},
		{nil, []string{os.TempDir()}, "is a directory"},
		{nil, []string{writeConfig(t, strings.Repeat("#", maxConfig+1))}, "longer than 262144 octets"},
	} {
		if got := try(t.Context(), test.env, append([]string{"config", "check"}, test.args...)...); got.code != exitUsage || !strings.Contains(got.stderr, test.want) {
			t.Errorf("%q: got %+v, want %q", test.args, got, test.want)
		}
	}
}

// Every flag of connect is a key, those that are yet to come included, but the
// one that names the file.
func TestEveryFlagIsAKey(t *testing.T) {
	file := &configFile{path: "vpn.toml"}
	p, keys := newProfile(file, &section{})
	commandOf(t, "connect").LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == "config" {
			return
		}
		if err := p.set(keys, setting{key: f.Name, value: any(nil)}); err == nil || strings.Contains(err.Error(), "unknown key") {
			t.Errorf("%s: got %v, want it to be known and to want a value", f.Name, err)
		}
	})
}

// Command line before environment before profile before defaults.
func TestPrecedence(t *testing.T) {
	t.Setenv("HOME", t.TempDir()) // there may be none
	path := writeConfig(t, `
mtu = 1001
memory = "small"
log-level = "error"
keepalive = "11s"
listen = ["127.0.0.1:1", "127.0.0.1:2"]
server = "default.example.com"

[work]
mtu = 1002
log-level = "warn"
keepalive = "12s"

[home]
mtu = 1003
server = "home.example.com"
listen = "127.0.0.1:3"
allow-pap = true
auth = ["pap", "mschapv2"]
password-file = "home.password"
ca = "~/ca.pem"
keylog = "/var/key.log"
proxy-password-file = "-"
`)
	env := map[string]string{"SSTPROXY_LOG_LEVEL": "info", "SSTPROXY_KEEPALIVE": "13s", "SSTPROXY_USER": "alice"}
	a := &app{
		args: []string{"connect", "work", "home", "--unknown=1", "--keepalive", "14s"},
		env:  func(key string) (string, bool) { v, ok := env[key]; return v, ok },
	}
	profiles, err := a.profiles(t.Context(), path, []string{"work", "home"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ofHome, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	work, home := profiles[0], profiles[1]
	for _, test := range []struct{ what, got, want string }{
		{"default server", work.server, "default.example.com"},
		{"own server", home.server, "home.example.com"},
		{"own mtu", fmt.Sprint(work.options.link.mtu, home.options.link.mtu), "1002 1003"},
		{"default memory", work.options.link.memory + home.options.link.memory, "smallsmall"},
		{"level of the environment", work.options.logs.level + home.options.logs.level, "infoinfo"},
		{"keepalive of the command line", fmt.Sprint(work.options.survival.keepalive, home.options.survival.keepalive), "14s 14s"},
		{"user of the environment", work.options.account.user + home.options.account.user, "alicealice"},
		{"default listen", fmt.Sprint(work.options.local.listen), "[127.0.0.1:1 127.0.0.1:2]"},
		{"own listen", fmt.Sprint(home.options.local.listen), "[127.0.0.1:3]"},
		{"auth", fmt.Sprint(home.options.account.allowPAP, home.options.account.auth), "true [pap mschapv2]"},
		{"nothing of the other", fmt.Sprint(work.options.account.allowPAP, work.options.account.auth), "false []"},
		{"file beside the file", home.options.account.passwordFile, filepath.Join(filepath.Dir(path), "home.password")},
		{"file at home", home.options.identity.ca, filepath.Join(ofHome, "ca.pem")},
		{"file elsewhere", home.options.record.keylog, "/var/key.log"},
		{"standard input", home.options.local.proxyPasswordFile, "-"},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %q, want %q", test.what, test.got, test.want)
		}
	}
}

// What an argument means: a profile of the named file or of the one in the
// default place, or a server.
func TestArguments(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sstproxy", "config.toml")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("mtu = 1400\n[work]\nserver='w'\nlisten='127.0.0.1:1081'\n[home]\nserver='h'\n[broken]\nmtu='x'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inPlace := map[string]string{"XDG_CONFIG_HOME": dir}
	named := map[string]string{"SSTPROXY_CONFIG": path}
	tests := []struct {
		env  map[string]string
		args string
		want string // the servers and their MTU, or the error
	}{
		{inPlace, "work", "w 1400"},
		{inPlace, "work home", "w 1400, h 1400"},
		{inPlace, "vpn.example.com", "vpn.example.com 1500"},
		{inPlace, "localhost -u alice", "localhost 1500"},
		{inPlace, "wrok", `has no profile "wrok", did you mean "work"?; for a server of that name say wrok:443`},
		{inPlace, "work vpn.example.com", `has no profile "vpn.example.com"`},
		{inPlace, "work work", "profile work is named twice"},
		{inPlace, "broken", ":7: profile broken has no server"},
		{nil, "work -u alice", "work 1500"},
		{nil, "work home", `unexpected argument "home": several must be profiles, and there is no configuration file`},
		{map[string]string{"HOME": dir}, "work home", "(" + filepath.Join(dir, ".config", "sstproxy", "config.toml")},
		{map[string]string{"XDG_CONFIG_HOME": "relative"}, "work -u a", "work 1500"},
		{named, "home", "h 1400"},
		{named, "vpn.example.com", "vpn.example.com 1400"},
		{named, "localhost -u alice", `has no profile "localhost"; for a server of that name say localhost:443`},
		{named, "", "PROFILE is missing: " + path + " has work, home, broken"},
		{nil, "", "SERVER or PROFILE is missing"},
		{map[string]string{"SSTPROXY_CONFIG": "/no/such"}, "work", "/no/such: no such file or directory"},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			got, err := serversOf(test.env, strings.Fields(test.args))
			if err != nil {
				got = err.Error()
			}
			if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// serversOf returns what profiles makes of a command line.
func serversOf(env map[string]string, args []string) (string, error) {
	a := &app{args: append([]string{"connect"}, args...), env: func(key string) (string, bool) { v, ok := env[key]; return v, ok }}
	cmd := a.connectCommand()
	var words []string
	var o options
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, g := range o.connectGroups() {
		flags.AddFlagSet(g.flags)
	}
	if err := errors.Join(flags.Parse(args), a.applyEnvironment(cmd)); err != nil {
		return "", err
	}
	config, _ := cmd.Flags().GetString("config")
	profiles, err := a.profiles(context.Background(), config, flags.Args(), &o)
	for _, p := range profiles {
		words = append(words, fmt.Sprintf("%s %d", p.server, p.options.link.mtu))
	}
	return strings.Join(words, ", "), err
}

func TestMeant(t *testing.T) {
	known := []string{"listen", "log-level", "mtu", "ca", "server-name", "server"}
	for word, want := range map[string]string{
		"lisen": "listen", "LISTEN": "listen", "log_level": "log-level", "loglevel": "log-level", "mut": "mtu", "servername": "server-name",
		"sever": "server", "server": "server", "x": "", "zzzzzz": "", "": "",
	} {
		if want != "" {
			want = fmt.Sprintf(", did you mean %q?", want)
		}
		if got := meant(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

// The example of README.md is a good file.
func TestReadmeConfig(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```toml\n")
	text, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("README.md has no example in TOML")
	}
	path := writeConfig(t, text)
	a := &app{env: func(string) (string, bool) { return "", false }}
	file, err := loadConfig(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	profiles, err := a.fromFile(file, file.names())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range profiles {
		// The files that it names are not here.
		for _, name := range []string{p.options.account.passwordFile, p.options.local.proxyPasswordFile} {
			if err := exists("", name); err != nil && os.WriteFile(name, []byte("x\n"), 0o600) != nil {
				t.Errorf("%s is not beside the file", name)
			}
		}
	}
	if got := try(context.Background(), nil, "config", "check", path); got.code != exitOK || strings.Contains(got.stdout, "note:") {
		t.Errorf("got %+v, want all profiles good, also together", got)
	}
}

// A file that is one long path costs no more than others of its length.
func TestConfigLongPath(t *testing.T) {
	const steps = 30000
	for _, text := range []string{
		strings.Repeat("a.", steps) + "a = 1\n", "[" + strings.Repeat("a.", steps) + "a]\n",
		"[a]\n" + strings.Repeat("a.", steps) + "a = {b = {c = 1}}\n",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		file, err := parseConfig("vpn.toml", []byte(text))
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 200<<20 {
			t.Errorf("%.10s…: %d MiB", text, n>>20)
		}
		if len(file.profiles) != 1 {
			t.Errorf("%.10s…: got %d profiles, want 1", text, len(file.profiles))
		}
	}
}

// Whatever the file, each fault has a line that is in it, and what is good can
// be applied.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"", "user = 'a'\n", "[work]\nserver = 'vpn'\nlisten = ['127.0.0.1:1', '127.0.0.1:2']\n", "a.b.c = 1\n", "[[a]]\n[[a]]\n",
		"work = {server = 'a', mtu = 0x100, auth = [\n'pap']}\n", "[a]\nmtu = \"\"\"\n\"\"\"\n", "['\\u0000']\nx=1\n", "[\"a\\nb\"]\n", "x = [[1], [{y = 2}]]\n",
	} {
		f.Add([]byte(seed))
	}
	a := &app{env: func(string) (string, bool) { return "", false }}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := parseConfig("vpn.toml", text)
		if err == nil {
			_, err = a.fromFile(file, file.names())
		}
		for _, e := range leaves(err) {
			at, ok := errors.AsType[*configError](e)
			if !ok && len(text) <= maxConfig {
				t.Errorf("%v has no line", e)
			} else if ok && (at.line < 1 || at.line > strings.Count(string(text), "\n")+1) {
				t.Errorf("%v is not in the file", e)
			}
		}
	})
}
