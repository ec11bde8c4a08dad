package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// process is a child of the bench.
type process struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr bytes.Buffer
	lines  chan string // of a logging child's standard error
}

// start runs a program and waits for nothing.
func start(path string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(path, args...)}
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdout = bufio.NewReader(out)
	return p, p.cmd.Start()
}

// startLogging runs a program whose log lines matter.
func startLogging(path string, env []string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(path, args...), lines: make(chan string, 64)}
	p.cmd.Env = append(os.Environ(), env...)
	log, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the child
		defer close(p.lines)
		for s := bufio.NewScanner(log); s.Scan(); {
			select {
			case p.lines <- s.Text():
			default: // nobody reads now
			}
		}
	}()
	return p, nil
}

// clientStats is what the program tells of itself in a log line.
type clientStats struct {
	Mallocs uint64 // heap allocations so far
	In, Out uint64 // IP packets so far
	Resent  uint64 // TCP segments retransmitted so far
}

func (s clientStats) packets() uint64 { return s.In + s.Out }

// clientStats asks the program for what it knows of itself.
func (p *process) clientStats() (clientStats, error) {
	for len(p.lines) > 0 {
		<-p.lines
	}
	if err := p.cmd.Process.Signal(statsSignal); err != nil {
		return clientStats{}, err
	}
	timeout := time.After(5 * time.Second)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				return clientStats{}, errors.New("sstproxy has ended")
			}
			if s, ok := parseState(line); ok {
				return s, nil
			}
		case <-timeout:
			return clientStats{}, errors.New("sstproxy does not tell its state")
		}
	}
}

// stateLine is what the program logs of itself on SIGUSR1.
var stateLine = regexp.MustCompile(`msg=state .*packets_in=([0-9]+) packets_out=([0-9]+) .*retransmits=([0-9]+) .*mallocs=([0-9]+)`)

func parseState(line string) (s clientStats, ok bool) {
	m := stateLine.FindStringSubmatch(line)
	if m == nil {
		return s, false
	}
	for i, v := range []*uint64{&s.In, &s.Out, &s.Resent, &s.Mallocs} {
		var err error
		if *v, err = strconv.ParseUint(m[i+1], 10, 64); err != nil {
			return clientStats{}, false
		}
	}
	return s, true
}

// ready decodes the line of JSON that a child prints once it serves.
func (p *process) ready(v any) error {
	line, err := p.stdout.ReadBytes('\n')
	if err != nil {
		p.cmd.Wait()
		return fmt.Errorf("%s: %w\n%s", p.cmd, err, p.stderr.Bytes())
	}
	go io.Copy(io.Discard, p.stdout) // ends with the child
	return json.Unmarshal(line, v)
}

// stop ends the child at once; in order it would first wait for the transfers
// of the last measurement.
func (p *process) stop() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// cpu returns the CPU time that a child has used; 0 where /proc is missing.
func (p *process) cpu() time.Duration { return cpuOf(p.cmd.Process.Pid) }

func cpuOf(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return parseStat(b)
}

// parseStat reads user and system time, fields 14 and 15 of /proc/PID/stat, in
// ticks of 10 ms (proc(5)). Field 2 is a name that may hold anything.
func parseStat(b []byte) time.Duration {
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// rss returns the resident memory of a child in KiB; 0 where /proc is missing.
func (p *process) rss() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	return parseRSS(b)
}

var vmRSS = regexp.MustCompile(`(?m)^VmRSS:\s+([0-9]+) kB$`)

// parseRSS reads VmRSS of /proc/PID/status, in KiB (proc(5)).
func parseRSS(b []byte) float64 {
	m := vmRSS.FindSubmatch(b)
	if m == nil {
		return 0
	}
	kib, _ := strconv.ParseFloat(string(m[1]), 64)
	return kib
}
