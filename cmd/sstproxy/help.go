package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// groupAnnotation is the key under which a flag carries the title of its group.
const groupAnnotation = "group"

// printHelp writes a command's help to standard output.
func printHelp(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s.\n\nUsage:\n  %s\n", cmd.Short, useLine(cmd))
	if cmd.HasAvailableSubCommands() {
		printCommands(w, cmd.Commands())
	}
	if cmd.Long != "" {
		fmt.Fprintf(w, "\n%s\n", cmd.Long)
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExample:\n%s\n", cmd.Example)
	}
	printFlags(w, cmd)
}

// printCommands writes a line on each command.
func printCommands(w io.Writer, commands []*cobra.Command) {
	width := 0
	for _, c := range commands {
		width = max(width, len(c.Use))
	}
	fmt.Fprintf(w, "\nCommands:\n")
	for _, c := range commands {
		if c.IsAvailableCommand() {
			fmt.Fprintf(w, "  %-*s %s\n", width, c.Use, c.Short)
		}
	}
}

// useLine is how the command is called.
func useLine(cmd *cobra.Command) string {
	line := cmd.CommandPath()
	if cmd.HasAvailableSubCommands() {
		return line + " COMMAND [FLAG]..."
	}
	_, args, _ := strings.Cut(cmd.Use, " ")
	args, behind, dashes := strings.Cut(args, "-- ")
	if args = strings.TrimSpace(args); args != "" {
		line += " " + args
	}
	if cmd.HasAvailableLocalFlags() {
		line += " [FLAG]..."
	}
	if dashes {
		line += " -- " + behind
	}
	return line
}

// printFlags writes the flags group by group, the ungrouped ones (--help,
// --version) last.
func printFlags(w io.Writer, cmd *cobra.Command) {
	var titles []string
	sets := map[string]*pflag.FlagSet{}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		title := "Other"
		if a := f.Annotations[groupAnnotation]; len(a) > 0 {
			title = a[0]
		}
		if sets[title] == nil {
			sets[title] = pflag.NewFlagSet(title, pflag.ContinueOnError)
			sets[title].SortFlags = false
			titles = append(titles, title)
		}
		sets[title].AddFlag(f)
	})
	for _, title := range titles {
		fmt.Fprintf(w, "\n%s:\n%s", title, sets[title].FlagUsages())
	}
	if len(titles) > 1 {
		fmt.Fprintf(w, "\nEvery flag is also an environment variable: --log-level is %s. The flag wins.\n", envName("log-level"))
	}
}
