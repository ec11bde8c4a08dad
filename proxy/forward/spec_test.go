package forward

import (
	"strings"
	"testing"
)

func TestParseLocal(t *testing.T) {
	tests := map[string]Spec{
		"8080:intranet:80":                   {"tcp", "127.0.0.1:8080", "intranet:80"},
		"0:10.0.0.1:80":                      {"tcp", "127.0.0.1:0", "10.0.0.1:80"},
		"127.0.0.2:8080:intranet:80":         {"tcp", "127.0.0.2:8080", "intranet:80"},
		"localhost:8080:intranet:80/tcp":     {"tcp", "localhost:8080", "intranet:80"},
		"[::1]:8080:[fd00::1]:80":            {"tcp", "[::1]:8080", "[fd00::1]:80"},
		"8080:[fd00::1]:80":                  {"tcp", "127.0.0.1:8080", "[fd00::1]:80"},
		"*:8080:intranet:80":                 {"tcp", ":8080", "intranet:80"},
		":8080:intranet:80":                  {"tcp", ":8080", "intranet:80"},
		"0.0.0.0:53:10.0.0.1:53/udp":         {"udp", "0.0.0.0:53", "10.0.0.1:53"},
		"5353:[fd00::1]:53/udp":              {"udp", "127.0.0.1:5353", "[fd00::1]:53"},
		"unix:/run/db.sock:db.corp:5432":     {"unix", "/run/db.sock", "db.corp:5432"},
		"unix:a:b:[fd00::1]:5432":            {"unix", "a:b", "[fd00::1]:5432"},
		"unix:s,mode=660:db:5432":            {"unix", "s,mode=660", "db:5432"},
		"unix:/tmp/[x]:db:5432":              {"unix", "/tmp/[x]", "db:5432"},
		"unix:C:\\Users\\a\\db.sock:db:5432": {"unix", "C:\\Users\\a\\db.sock", "db:5432"},
	}
	for text, want := range tests {
		got, err := ParseLocal(text)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", text, got, err, want)
		}
		again, err := ParseLocal(got.String())
		if err != nil || again != got {
			t.Errorf("%s: its own text %s is read as %+v, %v", text, got, again, err)
		}
	}
}

func TestParseLocalFails(t *testing.T) {
	tests := map[string]string{
		"":                         "want [BIND:]PORT:HOST:PORT",
		"8080":                     "want [BIND:]PORT:HOST:PORT",
		"8080:80":                  "want [BIND:]PORT:HOST:PORT",
		"intranet:80":              "want [BIND:]PORT:HOST:PORT",
		"8080:intranet:http":       `port "http" is not a number from 1 to 65535`,
		"8080:intranet:0":          `port "0" is not a number from 1 to 65535`,
		"8080:intranet:65536":      `port "65536"`,
		"8080:intranet:+80":        `port "+80"`,
		"http:intranet:80":         `port "http" is not a number from 0 to 65535`,
		"08080:intranet:80":        `port "08080"`,
		"8080::80":                 "want [BIND:]PORT:HOST:PORT",
		"8080:fd00::1:80":          "IPv6 addresses in brackets",
		"::1:8080:intranet:80":     "IPv6 addresses in brackets",
		"8080:[fd00::1:80":         "IPv6 addresses in brackets",
		"8080:[]:80":               "want [BIND:]PORT:HOST:PORT",
		"8080:[intranet]:80":       "want [BIND:]PORT:HOST:PORT",
		"8080:x[fd00::1]:80":       "want [BIND:]PORT:HOST:PORT",
		"a@b:8080:intranet:80":     `BIND "a@b" is not a name or an address`,
		"8080:intranet:80/sctp":    `port "80/sctp"`,
		"unix:db:5432":             "want [BIND:]PORT:HOST:PORT",
		"unix::db:5432":            "unix:PATH:HOST:PORT",
		"unix:/run/db:db:5432/udp": "unix:PATH:HOST:PORT",
	}
	for text, want := range tests {
		got, err := ParseLocal(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v; want an error with %q", text, got, err, want)
		}
	}
}

func TestParseRemote(t *testing.T) {
	tests := map[string]Spec{
		"8022:localhost:22":   {"tcp", ":8022", "localhost:22"},
		"0:[::1]:22":          {"tcp", ":0", "[::1]:22"},
		"53:127.0.0.1:53/udp": {"udp", ":53", "127.0.0.1:53"},
	}
	for text, want := range tests {
		if got, err := ParseRemote(text); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"8022":                   "want PORT:HOST:PORT",
		"127.0.0.1:8022:host:22": "always listens on the address in the tunnel",
		":8022:host:22":          "always listens on the address in the tunnel",
		"unix:/run/x:host:22":    "want PORT:HOST:PORT",
		"8022:host:ssh":          `port "ssh"`,
	} {
		if got, err := ParseRemote(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v; want an error with %q", text, got, err, want)
		}
	}
}

// What is accepted is read the same from its own text.
func FuzzParseLocal(f *testing.F) {
	for _, seed := range []string{"8080:intranet:80", "[::1]:1:[::2]:2/udp", "unix:/a:b:1", "*:1:[::%]:2", ":::", "unix:[:]:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := ParseLocal(text)
		if err != nil {
			return
		}
		again, err := ParseLocal(spec.String())
		if err != nil || again != spec {
			t.Errorf("%q: %+v, from its own text %q: %+v, %v", text, spec, spec, again, err)
		}
	})
}
