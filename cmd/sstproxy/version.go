package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build says which program this is, from what the Go toolchain stamped into it.
type build struct {
	version, revision, modified string
}

// version reads the build information of the running program.
func version() build {
	b := build{version: "(devel)"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.revision = s.Value
		case "vcs.modified":
			b.modified = s.Value
		}
	}
	return b
}

// short is the version alone.
func (b build) short() string { return b.version }

// print writes everything known about the build, one fact a line.
func (b build) print(w io.Writer) {
	fmt.Fprintf(w, "%s %s\n", name, b.version)
	if b.revision != "" {
		fmt.Fprintf(w, "revision %s (modified: %s)\n", b.revision, b.modified)
	}
	fmt.Fprintf(w, "built with %s for %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program and what built it",
		Args:  arguments(),
		RunE: func(*cobra.Command, []string) error {
			version().print(a.stdout)
			return nil
		},
	}
}
