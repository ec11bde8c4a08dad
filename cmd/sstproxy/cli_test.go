package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// outcome is what one command line led to.
type outcome struct {
	code           int
	stdout, stderr string
}

// try runs one command line in this process.
func try(ctx context.Context, env map[string]string, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	lookup := func(key string) (string, bool) { v, ok := env[key]; return v, ok }
	code := run(ctx, args, strings.NewReader(""), &stdout, &stderr, lookup)
	return outcome{code, stdout.String(), stderr.String()}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"help"}, {"connect", "--help"}, {"help", "connect"}, {"demo", "-h"}, {"run", "--help"}, {"nc", "--help"}, {"wait", "--help"}, {"health", "--help"}, {"version", "--help"}, {"completion", "--help"}} {
		got := try(t.Context(), nil, args...)
		if got.code != exitOK || got.stderr != "" || !strings.Contains(got.stdout, "Usage:\n  sstproxy") {
			t.Errorf("%q: got code %d, stderr %q, stdout %q; want the help on stdout and code 0", args, got.code, got.stderr, got.stdout)
		}
	}
}

// The help is complete: every flag with its group, an example, the rule for
// the environment.
func TestHelpNamesEveryFlag(t *testing.T) {
	help := try(t.Context(), nil, "connect", "--help").stdout
	commandOf(t, "connect").LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(help, "--"+f.Name) {
			t.Errorf("--%s is not in the help", f.Name)
		}
	})
	for _, want := range []string{"Account:", "Server identity:", "Tunnel:", "Local proxy:", "Forwards:", "Log:", "Diagnosis:", "Names and routes:", "Example:\n  sstproxy connect vpn.example.com -u alice\n", "--log-level is SSTPROXY_LOG_LEVEL"} {
		if !strings.Contains(help, want) {
			t.Errorf("%q is not in the help", want)
		}
	}
	for line := range strings.Lines(help) {
		if len(line) > 110 {
			t.Errorf("line of %d columns: %q", len(line), line)
		}
	}
}

// Every flag of every command is in README's tables.
func TestReadmeNamesEveryFlag(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range (&app{}).root().Commands() {
		command.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(string(readme), "`--"+f.Name) {
				t.Errorf("%s: --%s is not in README.md", command.Name(), f.Name)
			}
		})
	}
}

func commandOf(t *testing.T, name string) *cobra.Command {
	t.Helper()
	cmd, _, err := (&app{}).root().Find([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		got := try(t.Context(), nil, args...)
		if got.code != exitOK || got.stderr != "" || !strings.HasPrefix(got.stdout, "sstproxy ") {
			t.Errorf("%q: got %+v, want the version on stdout and code 0", args, got)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		got := try(t.Context(), nil, "completion", shell)
		if got.code != exitOK || !strings.Contains(got.stdout, "sstproxy") {
			t.Errorf("%s: got code %d and %d octets, want a script", shell, got.code, len(got.stdout))
		}
	}
}

// A wrong command line gets one line that says what is wrong and one that says
// where to look, and code 2; nothing is tried.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	empty, twoLines, long := write("empty", "\n"), write("two", "a\nb\n"), write("long", strings.Repeat("x", 256))
	connect := []string{"connect", "vpn.example.com", "-u", "alice", "--listen", "127.0.0.1:0"}
	tests := []struct {
		args []string // after connect's, if they begin with a dash
		env  map[string]string
		want string
		try  string // the command to ask for help; connect if empty
	}{
		{[]string{""}, nil, `unknown command ""`, "sstproxy"},
		{[]string{"conect"}, nil, `unknown command "conect", did you mean "connect"?`, "sstproxy"},
		{[]string{"connect"}, nil, "SERVER or PROFILE is missing", ""},
		{[]string{"connect", "a", "b"}, nil, `unexpected argument "b"`, ""},
		{[]string{"connect", "vpn.example.com"}, nil, "no user name: give --user NAME", ""},
		{[]string{"connect", "https://vpn.example.com/", "-u", "a"}, nil, `SERVER "https://vpn.example.com/": want HOST or HOST:PORT`, ""},
		{[]string{"connect", ":443", "-u", "a"}, nil, `SERVER ":443": want HOST or HOST:PORT`, ""},
		{[]string{"connect", "a:b:c", "-u", "a"}, nil, `SERVER "a:b:c": want HOST or HOST:PORT`, ""},
		{[]string{"connect", "vpn:99999", "-u", "a"}, nil, `SERVER "vpn:99999": the port must be 1 to 65535`, ""},
		{[]string{"run"}, nil, "SERVER is missing", "sstproxy run"},
		{[]string{"run", "--", "true"}, nil, "SERVER is missing", "sstproxy run"},
		{[]string{"run", "vpn.example.com", "true"}, nil, "COMMAND is missing: it goes behind --", "sstproxy run"},
		{[]string{"run", "vpn.example.com", "--"}, nil, "COMMAND is missing: it goes behind --", "sstproxy run"},
		{[]string{"run", "vpn.example.com", "b", "--", "true"}, nil, `unexpected argument "b"`, "sstproxy run"},
		{[]string{"run", "vpn.example.com", "--listen", ":1", "--", "go"}, nil, "unknown flag: --listen", "sstproxy run"},
		{[]string{"run", "vpn.example.com", "--", "go"}, nil, "no user name: give --user NAME", "sstproxy run"},
		{[]string{"run", "vpn.example.com", "--password-file", "-", "--", "go"}, nil, "--password-file -: standard input is the command's", "sstproxy run"},
		{[]string{"run", "vpn.example.com", "--ready-probe", "host", "--", "go"}, nil, "--ready-probe host: want HOST:PORT", "sstproxy run"},
		{[]string{"run", "vpn.example.com", "--ready-probe", "host:0", "--", "go"}, nil, "--ready-probe host:0: the port must be 1 to 65535", "sstproxy run"},
		{[]string{"nc", "intranet"}, nil, "PORT is missing", "sstproxy nc"},
		{[]string{"nc", "intranet", "ssh"}, nil, "the destination's port is not a number from 1 to 65535", "sstproxy nc"},
		{[]string{"nc", "localhost", "22"}, nil, "localhost is this machine", "sstproxy nc"},
		{[]string{"nc", "intranet", "22", "--proxy-password-file", "-"}, nil, "standard input belongs to the connection", "sstproxy nc"},
		{[]string{"nc", "intranet", "22", "--listen", "127.0.0.1:0"}, nil, "want the port that the running sstproxy has", "sstproxy nc"},
		{[]string{"run", "vpn", "-u", "a", "-W", "h:1", "--", "true"}, nil, "-W: standard input and output are the command's", "sstproxy run"},
		{[]string{"wait", "--for", "host"}, nil, "--for host: want HOST:PORT", "sstproxy wait"},
		{[]string{"wait", "--timeout", "0s"}, nil, "--timeout 0s: want more than 0", "sstproxy wait"},
		{[]string{"health", "a", "b"}, nil, `unexpected argument "b"`, "sstproxy health"},
		{[]string{"health", "--listen", "127.0.0.1:0"}, nil, "--listen 127.0.0.1:0: want the port that the running sstproxy has", "sstproxy health"},
		{[]string{"health", "--listen", "socks5://127.0.0.1:1"}, nil, "--listen: want one that speaks HTTP", "sstproxy health"},
		{[]string{"health", "--listen", "nowhere"}, nil, "want HOST:PORT", "sstproxy health"},
		{[]string{"health", "--proxy-user", "bob"}, nil, "no password for proxy user bob: give --proxy-password-file FILE or SSTPROXY_PROXY_PASSWORD", "sstproxy health"},
		{[]string{"demo", "extra"}, nil, `unexpected argument "extra"`, "sstproxy demo"},
		{[]string{"version", "extra"}, nil, `unexpected argument "extra"`, "sstproxy version"},
		{[]string{"completion"}, nil, "SHELL is missing", "sstproxy completion"},
		{[]string{"completion", "tcsh"}, nil, `unknown shell "tcsh"`, "sstproxy completion"},
		{[]string{"--colour"}, nil, "unknown flag: --colour", ""},
		{[]string{"-x"}, nil, "unknown shorthand flag: 'x' in -x", ""},
		{[]string{"--user"}, nil, "flag needs an argument: --user", ""},
		{[]string{"--password", "secret"}, nil, "unknown flag: --password", ""},
		{[]string{"--password-file", "/no/such/file"}, nil, "--password-file /no/such/file: no such file or directory", ""},
		{[]string{"--password-file", empty}, nil, "holds no password", ""},
		{[]string{"--password-file", twoLines}, nil, "more than one line", ""},
		{[]string{"--password-file", long}, nil, "longer than 255 octets", ""},
		{[]string{"--password-file", "/dev/fd/x"}, nil, "want /dev/fd/N", ""},
		{[]string{"--password-file", "/dev/fd/999"}, nil, "--password-file /dev/fd/999", ""},
		{[]string{"--log-level", "info"}, nil, "no password for alice: give --password-file FILE or SSTPROXY_PASSWORD", ""},
		{[]string{"--auth", "eap"}, nil, "--auth eap: want mschapv2, chap-md5 or pap", ""},
		{[]string{"--auth", "pap"}, nil, "--auth pap: needs --allow-pap", ""},
		{[]string{"--auth", "chap-md5"}, nil, "--auth chap-md5: needs --allow-pap", ""},
		{[]string{"--ca", "/no/such/ca.pem"}, nil, "--ca /no/such/ca.pem: no such file or directory", ""},
		{[]string{"--ca", empty}, nil, "holds no certificate", ""},
		{[]string{"--pin", "sha1/abc"}, nil, "--pin: ", ""},
		{[]string{"--pin", "sha256/abc"}, nil, "--pin: ", ""},
		{[]string{"--fingerprint", "12:34"}, nil, "--fingerprint: ", ""},
		{[]string{"--server-name", "a b"}, nil, `--server-name "a b"`, ""},
		{[]string{"--request-address", "::1"}, nil, "--request-address ::1: want an IPv4 address", ""},
		{[]string{"--request-address", "ten"}, nil, "--request-address ten: want an IPv4 address", ""},
		{[]string{"--mtu", "575"}, nil, "--mtu 575: want 576 to 1500", ""},
		{[]string{"--ipv6", "maybe"}, nil, "--ipv6 maybe: want auto, on or off", ""},
		{[]string{"--memory", "huge"}, nil, `--memory "huge": want small, normal or large`, ""},
		{[]string{"--mtu", "1501"}, nil, "--mtu 1501: want 576 to 1500", ""},
		{[]string{"--mtu", "big"}, nil, `invalid argument "big" for "--mtu"`, ""},
		{[]string{"--connect-timeout", "0s"}, nil, "--connect-timeout 0s: want more than 0", ""},
		{[]string{"--connect-timeout", "soon"}, nil, `invalid argument "soon"`, ""},
		{[]string{"--listen", "nowhere"}, nil, "want HOST:PORT", ""},
		{[]string{"--listen", "ftp://127.0.0.1:21"}, nil, `unknown scheme "ftp"`, ""},
		{[]string{"--listen", "0.0.0.0:1080"}, nil, "reachable from other machines", ""},
		{[]string{"--listen", "[::]:1080"}, nil, "reachable from other machines", ""},
		{[]string{"--listen", ":1080"}, nil, "reachable from other machines", ""},
		{[]string{"--proxy-password-file", twoLines}, nil, "--proxy-password-file: needs --proxy-user NAME", ""},
		{[]string{"--proxy-user", "bob"}, map[string]string{"SSTPROXY_PASSWORD": "x"}, "no password for proxy user bob: give --proxy-password-file FILE or SSTPROXY_PROXY_PASSWORD", ""},
		{[]string{"--proxy-user", "bob", "--password-file", "-", "--proxy-password-file", "-"}, nil, "standard input already holds", ""},
		{[]string{"-L", "8080"}, nil, "-L 8080: want [BIND:]PORT:HOST:PORT", ""},
		{[]string{"-L", "8080:localhost:80"}, nil, "-L 8080:localhost:80: localhost is this machine", ""},
		{[]string{"-L", "unix:@x:intranet:80"}, nil, "-L unix:@x:intranet:80: ", ""},
		{[]string{"-L", "unix:/" + strings.Repeat("x", 200) + ":intranet:80"}, nil, "the path has 201 octets", ""},
		{[]string{"--listen", "unix:/" + strings.Repeat("x", 200)}, nil, "the path has 201 octets", ""},
		{[]string{"-L", "http:intranet:80"}, nil, `-L http:intranet:80: port "http" is not a number from 0 to 65535`, ""},
		{[]string{"-R", "8022"}, nil, "-R 8022: want PORT:HOST:PORT", ""},
		{[]string{"-R", "127.0.0.1:8022:localhost:22"}, nil, "always listens on the address in the tunnel", ""},
		{[]string{"-R", "22:a:22", "-R", "22:b:22"}, nil, "-R 22:b:22: tcp port 22 in the tunnel is forwarded twice", ""},
		{[]string{"-L", "22:a:22", "-L", "127.0.0.1:22:b:22"}, nil, "-L 127.0.0.1:22:b:22: 127.0.0.1:22 is forwarded twice", ""},
		{[]string{"-L", "53:a:53/udp", "-L", "53:b:53/udp"}, nil, "-L 53:b:53/udp: 127.0.0.1:53/udp is forwarded twice", ""},
		{[]string{"-L", "unix:/x:a:22", "-L", "unix:/x:b:22"}, nil, "-L unix:/x:b:22: unix:/x is forwarded twice", ""},
		{[]string{"-W", "intranet"}, nil, "-W intranet: want HOST:PORT", ""},
		{[]string{"-W", "intranet:22", "--password-file", "-"}, nil, "standard input belongs to the connection", ""},
		{[]string{"--log-format", "xml"}, nil, "--log-format xml: want text or json", ""},
		{[]string{"--log-level", "loud"}, nil, "--log-level loud: want debug, info, warn or error", ""},
		{[]string{"--keylog", dir}, nil, "--keylog " + dir + ": not a plain file", ""},
		{[]string{"--pcap", dir}, nil, "--pcap " + dir + ": not a plain file", ""},
		{[]string{"--route", "10.0.0.1/8"}, nil, `--route: rule "10.0.0.1/8": the address has bits beyond the prefix: want 10.0.0.0/8`, ""},
		{[]string{"--route", "a.example", "--route", "b.example,a..b"}, nil, `--route: rule "a..b"`, ""},
		{[]string{"--else", "proxy"}, nil, "--else proxy: want tunnel, direct or block", ""},
		{[]string{"--else", ""}, nil, "--else : want tunnel, direct or block", ""},
		{[]string{"--dns-listen", "nowhere"}, nil, "--dns-listen nowhere: want HOST:PORT", ""},
		{[]string{"--dns-listen", "unix:/tmp/x"}, nil, "--dns-listen unix:/tmp/x: want HOST:PORT", ""},
		{[]string{"--dns-listen", "http://127.0.0.1:53"}, nil, "--dns-listen http://127.0.0.1:53: want HOST:PORT", ""},
		{[]string{"--dns-listen", "0.0.0.0:53"}, nil, "--dns-listen 0.0.0.0:53: reachable from other machines", ""},
		{[]string{"--dns-listen", ":53", "--proxy-user", "bob"}, nil, "--dns-listen :53: reachable from other machines", ""},
		{[]string{"--dns", "ns.example"}, nil, "--dns ns.example: want the address of a name server", ""},
		{[]string{"--dns", "10.0.0.1:53"}, nil, "--dns 10.0.0.1:53: want the address", ""},
		{[]string{"--dns", "127.0.0.1"}, nil, "--dns 127.0.0.1: want the address", ""},
		{[]string{"--search", "corp example"}, nil, "--search corp example: want a domain", ""},
		{[]string{"--search", "."}, nil, "--search .: want a domain", ""},
		{[]string{"--host", "db"}, nil, "--host db: want NAME=ADDRESS", ""},
		{[]string{"--host", "db=intranet"}, nil, "--host db=intranet: want NAME=ADDRESS", ""},
		{[]string{"--host", "=10.0.0.1"}, nil, "--host =10.0.0.1: want NAME=ADDRESS", ""},
		{[]string{"--host", "db=::1"}, nil, "--host db=::1: want NAME=ADDRESS", ""},
		{[]string{"--host", "10.0.0.1=10.0.0.2"}, nil, "--host 10.0.0.1=10.0.0.2: want NAME=ADDRESS", ""},
		{[]string{"--insecure=maybe"}, nil, `invalid argument "maybe"`, ""},
		{[]string{"-u", "alice"}, map[string]string{"SSTPROXY_MTU": "big"}, `SSTPROXY_MTU: "big": invalid syntax`, ""},
		{[]string{"-u", "alice"}, map[string]string{"SSTPROXY_INSECURE": "maybe"}, `SSTPROXY_INSECURE: "maybe": invalid syntax`, ""},
		{[]string{"-u", "alice"}, map[string]string{"SSTPROXY_LISTEN": "127.0.0.1:0 0.0.0.0:80", "SSTPROXY_MTU": "1"}, "--mtu 1: want", ""},
	}
	for _, test := range tests {
		args := test.args
		if strings.HasPrefix(args[0], "-") {
			args = append(connect[:len(connect):len(connect)], args...)
		}
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			got := try(t.Context(), test.env, args...)
			command := test.try
			if command == "" {
				command = "sstproxy connect"
			}
			first, second, _ := strings.Cut(got.stderr, "\n")
			if !strings.HasPrefix(first, "sstproxy: error: ") || !strings.Contains(first, test.want) {
				t.Errorf("got %q, want it to say %q", first, test.want)
			}
			if want := "Try '" + command + " --help'.\n"; second != want {
				t.Errorf("second line: got %q, want %q", second, want)
			}
			if got.code != exitUsage || got.stdout != "" {
				t.Errorf("got code %d and stdout %q, want %d and nothing", got.code, got.stdout, exitUsage)
			}
		})
	}
	if got := try(t.Context(), nil, []string{}...); got.code != exitUsage || !strings.Contains(got.stderr, "no command given") {
		t.Errorf("no arguments: got %+v", got)
	}
}

// Flag before environment before default; a list in one variable.
func TestEnvironment(t *testing.T) {
	env := map[string]string{
		"SSTPROXY_USER": "carol", "SSTPROXY_MTU": "1400", "SSTPROXY_LISTEN": "127.0.0.1:1 unix:/tmp/x",
		"SSTPROXY_AUTH": "pap,mschapv2", "SSTPROXY_ALLOW_PAP": "true", "SSTPROXY_CONNECT_TIMEOUT": "5s", "SSTPROXY_CA": "",
	}
	a := &app{env: func(key string) (string, bool) { v, ok := env[key]; return v, ok }}
	var o options
	cmd := &cobra.Command{Use: "connect"}
	attach(cmd, o.connectGroups())
	if err := cmd.ParseFlags([]string{"--mtu", "1300"}); err != nil {
		t.Fatal(err)
	}
	if err := a.applyEnvironment(cmd); err != nil {
		t.Fatal(err)
	}
	if o.account.user != "carol" || o.link.mtu != 1300 || o.identity.ca != "" || !o.account.allowPAP || o.link.connectTimeout.Seconds() != 5 {
		t.Errorf("got %+v", o)
	}
	if got := strings.Join(o.local.listen, "|"); got != "127.0.0.1:1|unix:/tmp/x" {
		t.Errorf("listen: got %q", got)
	}
	if m, err := o.account.methods(); err != nil || len(m) != 2 {
		t.Errorf("methods: got %v, %v", m, err)
	}
	if got := strings.Join((&localOptions{listen: []string{defaultListen}}).listen, ""); got != "127.0.0.1:1080" {
		t.Errorf("default: got %q", got)
	}
}
