package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"sstproxy/proxy"
)

// profileError is what ended a named profile.
type profileError struct {
	profile string
	err     error
}

func (e *profileError) Error() string { return e.profile + ": " + e.err.Error() }

func (e *profileError) Unwrap() error { return e.err }

// severalError are the errors of profiles of which more than one failed.
type severalError []*profileError

func (e severalError) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "; ")
}

// named says whose an error is; nil stays nil.
func (p *profile) named(err error) error {
	if err == nil || p.name == "" {
		return err
	}
	return &profileError{p.name, err}
}

// who is an account as its owner is asked for the password.
func (p *profile) who(user string) string {
	if p.name == "" {
		return user
	}
	return user + " (" + p.name + ")"
}

// plans finds what is wrong with each profile, and with all of them together.
func (a *app) plans(profiles []*profile) ([]*plan, error) {
	var plans []*plan
	for _, p := range profiles {
		plan, err := a.plan(p)
		if err != nil {
			return nil, p.located(err)
		}
		plans = append(plans, plan)
	}
	if len(plans) == 1 {
		return plans, nil
	}
	for _, p := range plans {
		if s, ok := p.view.(*screen); ok {
			s.w, s.shared = &labelled{w: s.w, label: p.name + ": "}, true
		}
	}
	return plans, errors.Join(a.checkPasswords(profiles), conflicts(plans))
}

// checkPasswords refuses to send one server the password of another, and to
// read standard input twice.
func (a *app) checkPasswords(profiles []*profile) error {
	password, _ := a.env(envPrefix + "PASSWORD")
	reader := ""
	for _, p := range profiles {
		file := p.options.account.passwordFile
		if file == "" && password != "" {
			return fmt.Errorf("%sPASSWORD: several servers would get it: give profile %s a password-file", envPrefix, p.name)
		}
		if file != "-" && p.options.local.proxyPasswordFile != "-" {
			continue
		}
		if reader != "" {
			return fmt.Errorf("profiles %s and %s both want a password from standard input", reader, p.name)
		}
		reader = p.name
	}
	return nil
}

// conflicts finds profiles that want the same place for themselves.
func conflicts(plans []*plan) error {
	var failed []error
	for i, p := range plans {
		for _, q := range plans[:i] {
			if where := sharedListener(p.listening(), q.listening()); where != "" {
				failed = append(failed, fmt.Errorf("profiles %s and %s both listen on %s: give each a place of its own", q.name, p.name, where))
			}
			if file := p.options.record.pcap; file != "" && filepath.Clean(file) == filepath.Clean(q.options.record.pcap) {
				failed = append(failed, fmt.Errorf("profiles %s and %s both write to --pcap %s", q.name, p.name, file))
			}
		}
	}
	return errors.Join(failed...)
}

// listening is all that the profile will listen on, on this machine.
func (p *plan) listening() []proxy.Endpoint {
	all := slices.Concat(p.endpoints, p.dns)
	forwards, _ := p.options.forwards.parse() // has been checked
	for _, f := range forwards {
		if !f.remote {
			all = append(all, f.endpoint)
		}
	}
	return all
}

// sharedListener returns the first endpoint that can't be opened beside one of
// the others; empty if all can.
func sharedListener(endpoints, others []proxy.Endpoint) string {
	for _, e := range endpoints {
		if slices.ContainsFunc(others, func(o proxy.Endpoint) bool { return collide(e, o) }) {
			return e.String()
		}
	}
	return ""
}

func collide(a, b proxy.Endpoint) bool {
	if a.Network != b.Network {
		return false
	}
	if a.Network == "unix" {
		return filepath.Clean(a.Address) == filepath.Clean(b.Address)
	}
	hostA, portA, errA := net.SplitHostPort(a.Address)
	hostB, portB, errB := net.SplitHostPort(b.Address)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	return strings.EqualFold(hostA, hostB) || isWildcard(hostA) || isWildcard(hostB)
}

// isWildcard tells whether a host stands for every address of this machine.
func isWildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// runAll runs all clients until ctx ends. One that ends by itself is logged and
// leaves the others alone; its error comes back when all have ended.
func runAll(ctx context.Context, plans []*plan, clients []*client) error {
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { // ends with the client
			if errs[i] = c.run(ctx); errs[i] != nil {
				c.log.Error("profile failed", causeAttrs(errs[i])...)
			}
		})
	}
	wg.Wait()
	var failed severalError
	for i, err := range errs {
		if err != nil {
			failed = append(failed, &profileError{plans[i].name, err})
		}
	}
	switch len(failed) {
	case 0:
		return nil
	case 1:
		return failed[0]
	}
	return failed
}

// explainSeveral has the code that all failures have in common, or that of any
// failure.
func explainSeveral(failed severalError) report {
	var all report
	var names []string
	for i, e := range failed {
		r := explain(e.err)
		names = append(names, e.profile)
		all.facts = append(all.facts, e.profile+": "+r.what)
		all.facts = append(all.facts, r.facts...)
		switch {
		case i == 0:
			all.hint, all.code = e.profile+": "+r.hint, r.code
		case all.code != r.code:
			all.code = exitFailed
		}
	}
	all.what = fmt.Sprintf("profiles %s failed", strings.Join(names, ", "))
	return all
}

// faults are the texts of an error that may be several.
func faults(err error) []string {
	var lines []string
	for _, e := range leaves(err) {
		lines = append(lines, e.Error())
	}
	return lines
}

// leaves are the errors that have been joined to one.
func leaves(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, leaves(e)...)
	}
	return all
}

// labelled puts a label before each line that is written, and leaves out empty
// ones. Every write must end a line.
type labelled struct {
	w     io.Writer
	label string
}

func (l *labelled) Write(b []byte) (int, error) {
	var out []byte
	for line := range bytes.Lines(b) {
		if len(bytes.TrimSpace(line)) > 0 {
			out = append(append(out, l.label...), line...)
		}
	}
	if len(out) == 0 {
		return len(b), nil
	}
	_, err := l.w.Write(out)
	return len(b), err
}

// completeProfile offers the profiles of the configuration file to the shell.
func (a *app) completeProfile(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	path, _ := cmd.Flags().GetString("config")
	if path == "" {
		path = a.findConfig()
	}
	file, err := loadConfig(cmd.Context(), path)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := slices.DeleteFunc(file.names(), func(name string) bool { return slices.Contains(args, name) })
	return names, cobra.ShellCompDirectiveNoFileComp
}
