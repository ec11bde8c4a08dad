package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The recipes for CI in the README work as written, but for the names.
func TestReadmeRecipes(t *testing.T) {
	needs(t, "sh")
	needs(t, "curl")
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	recipes := strings.Split(string(readme), "```sh\n")[1:]
	if len(recipes) != 2 {
		t.Fatalf("got %d recipes in README.md, want 2", len(recipes))
	}
	server := startDemoServer(t)
	listen := freePort(t)
	dir := t.TempDir()
	program := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", asCommand, os.Args[0])
	if err := os.WriteFile(filepath.Join(dir, name), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	names := strings.NewReplacer("vpn.example.com", server.Addr().String(), "intranet", demoHost, "127.0.0.1:1080", listen)
	for _, recipe := range recipes {
		recipe, _, _ = strings.Cut(recipe, "```")
		cmd := exec.CommandContext(t.Context(), "sh", "-c", names.Replace(recipe))
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "SSTPROXY_PASSWORD=wonderland",
			"SSTPROXY_CA="+caFile(t, server.CA()), "SSTPROXY_LISTEN="+listen)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), demoGreeting) {
			t.Errorf("%s\n%v:\n%s", recipe, err, out)
		}
	}
}

// freePort is an address that nothing listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
