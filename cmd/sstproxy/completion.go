package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "Print a completion script for bash, zsh, fish or powershell",
		Example:   "  source <(sstproxy completion bash)",
		ValidArgs: shells,
		Args:      arguments("SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(shells, args[0]) {
				return usage(cmd, fmt.Errorf("unknown shell %q, want one of %s", args[0], strings.Join(shells, ", ")))
			}
			return a.complete(cmd.Root(), args[0])
		},
	}
}

// complete writes the completion script of one shell to standard output.
func (a *app) complete(root *cobra.Command, shell string) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(a.stdout, true)
	case "zsh":
		return root.GenZshCompletion(a.stdout)
	case "fish":
		return root.GenFishCompletion(a.stdout, true)
	default:
		return root.GenPowerShellCompletionWithDesc(a.stdout)
	}
}
