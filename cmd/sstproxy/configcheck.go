package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) configCommand() *cobra.Command {
	config := &cobra.Command{
		Use:   "config",
		Short: "Look after the configuration file",
		Args:  cobra.ArbitraryArgs,
		RunE:  noCommand,
	}
	config.AddCommand(&cobra.Command{
		Use:   "check [FILE]",
		Short: "Say what is wrong in the configuration file, with line numbers",
		Long: `Looks at every profile of FILE, or of the file that connect would take, as
connect does before it opens or dials anything. Flags that a profile leaves open
may come from the environment.

Exit codes: 0 all profiles can be tried, 2 something is wrong.`,
		Example: "  sstproxy config check vpn.toml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, fmt.Errorf("unexpected argument %q", args[1]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkConfig(cmd.Context(), args); err != nil {
				return usageUnlessStopped(cmd, err)
			}
			return nil
		},
	})
	return config
}

// checkConfig checks the file named by the arguments, or else the default one.
func (a *app) checkConfig(ctx context.Context, args []string) error {
	path, _ := a.env(envName("config"))
	if len(args) > 0 {
		path = args[0]
	} else if path == "" {
		path = a.findConfig()
	}
	if path == "" {
		return fmt.Errorf("there is no configuration file (%s)", strings.Join(a.configPlaces(), ", "))
	}
	file, err := loadConfig(ctx, path)
	if err != nil {
		return err
	}
	log, _, err := a.output(&logOptions{}, "")
	if err != nil {
		return err
	}
	warnWritable(log, path)
	return a.checkProfiles(file, log)
}

// checkProfiles returns the faults of all profiles, and prints what connect
// could do with them if there are none.
func (a *app) checkProfiles(file *configFile, log *slog.Logger) error {
	sections := file.profiles
	if len(sections) == 0 {
		sections = []*section{{}}
	}
	var notes []string
	var plans []*plan
	var failed []error
	for _, s := range sections {
		plan, note, err := a.checkProfile(file, s)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		warnReadable(log, plan.options.account.passwordFile, plan.options.local.proxyPasswordFile)
		plans, notes = append(plans, plan), append(notes, note...)
	}
	if len(failed) > 0 {
		return inOrder(errors.Join(failed...))
	}
	fmt.Fprintf(a.stdout, "%s: %s\n", file.path, count(file.names()))
	for _, note := range append(notes, faults(conflicts(plans))...) {
		fmt.Fprintf(a.stdout, "note: %s\n", note)
	}
	return nil
}

func count(names []string) string {
	if len(names) == 0 {
		return "defaults, and no profile"
	}
	return fmt.Sprintf("%d good: %s", len(names), strings.Join(names, ", "))
}

// checkProfile finds what is wrong with one profile. That it names no user, or
// is no profile but the defaults alone, is nothing wrong: the command line may
// say the rest.
func (a *app) checkProfile(file *configFile, s *section) (plan *plan, notes []string, err error) {
	p, keys := newProfile(file, s)
	err = errors.Join(p.read(keys, s), a.environment(keys))
	if p.server == "" {
		p.server = "localhost" // its absence has been said
	}
	if user := &p.options.account.user; *user == "" {
		*user = "nobody"
		if s.name != "" {
			notes = append(notes, fmt.Sprintf("profile %s has no user, so connect needs --user NAME", s.name))
		}
	}
	plan, bad := a.plan(p)
	if bad == nil {
		bad = errors.Join(exists("--password-file", p.options.account.passwordFile),
			exists("--proxy-password-file", p.options.local.proxyPasswordFile))
	}
	for _, e := range leaves(bad) {
		err = errors.Join(err, p.located(e))
	}
	return plan, notes, err
}

// exists looks whether the file that a flag names is there.
func exists(flag, path string) error {
	if path == "" || path == "-" || strings.HasPrefix(path, "/dev/fd/") {
		return nil
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%s %s: %w", flag, path, withoutPath(err))
	}
	return nil
}

// inOrder sorts the faults of a file by their line, each once: those of the
// defaults are found in every profile.
func inOrder(err error) error {
	lineOf := func(err error) int {
		if at, ok := errors.AsType[*configError](err); ok {
			return at.line
		}
		return 0
	}
	all := leaves(err)
	slices.SortStableFunc(all, func(a, b error) int { return cmp.Or(lineOf(a)-lineOf(b), strings.Compare(a.Error(), b.Error())) })
	return errors.Join(slices.CompactFunc(all, func(a, b error) bool { return a.Error() == b.Error() })...)
}

// warnWritable warns of a configuration file that others can write to: they
// decide which server gets the password.
func warnWritable(log *slog.Logger, path string) {
	if runtime.GOOS == "windows" {
		return // access control lists instead of modes
	}
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o022 != 0 {
		log.Warn("others on this machine can change the configuration", "file", path, "hint", "chmod go-w "+path)
	}
}
