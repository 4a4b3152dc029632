package ipt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// toolTime is how long a tool may run. It is well above lockWait, and above what
// the tools take for a thousand pods on a slow node.
const toolTime = 30 * time.Second

// lockWait is how long iptables waits for the lock of the legacy tables, in seconds.
const lockWait = "10"

// run runs a tool and gives what it printed. The error says what the tool said.
func run(ctx context.Context, name string, args ...string) (string, error) {
	return feed(ctx, nil, name, args...)
}

// feed runs a tool with lines as its input. The error names the line that the tool
// refused. A tool that does not end within toolTime is killed.
func feed(ctx context.Context, lines []string, name string, args ...string) (string, error) {
	return feedWithin(ctx, toolTime, lines, name, args...)
}

func feedWithin(ctx context.Context, limit time.Duration, lines []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("killed: it did not end within %v", limit))
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	if len(lines) > 0 {
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	}
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", &toolError{Tool: name, Says: strings.TrimSpace(stderr.String()), Lines: lines, Err: err}
	}
	return stdout.String(), nil
}

// toolError is a tool's failure, with the line of its input that it refused.
type toolError struct {
	Tool, Says string
	Lines      []string
	Err        error
}

func (e *toolError) Unwrap() error { return e.Err }

func (e *toolError) Error() string {
	text := fmt.Sprintf("%s: %v", e.Tool, e.Err)
	if e.Says != "" {
		text += ": " + e.Says
	}
	if n := e.line(); n > 0 {
		text += fmt.Sprintf(" (line %d: %s)", n, e.Lines[n-1])
	}
	return text
}

var lineNumber = regexp.MustCompile(`\bline:? (\d+)`)

// line is the number of the input line that the tool complained about, or 0.
func (e *toolError) line() int {
	m := lineNumber.FindStringSubmatch(e.Says)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n > len(e.Lines) {
		return 0
	}
	return n
}

// readTries is how often our sets are read when one of them goes while they are.
const readTries = 5

// readSets gives our sets of both families as ipset save prints them. It takes two
// programs, and reads no element of the sets of others.
func readSets(ctx context.Context) (string, error) {
	for try := 1; ; try++ {
		names, err := run(ctx, "ipset", "list", "-n")
		if err != nil {
			return "", fmt.Errorf("listing the sets: %w", err)
		}
		var lines []string
		for _, name := range strings.Fields(names) {
			if ourSet(name) {
				lines = append(lines, "save "+name)
			}
		}
		if len(lines) == 0 {
			return "", nil
		}
		text, err := feed(ctx, lines, "ipset", "restore")
		if err == nil {
			return text, nil
		}
		var failed *toolError
		if gone := errors.As(err, &failed) && failed.line() > 0; !gone || try == readTries {
			return "", fmt.Errorf("reading the sets: %w", err)
		}
	}
}

// restoreSets makes sets and adds and removes members, line by line.
func restoreSets(ctx context.Context, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := feed(ctx, lines, "ipset", "restore", "-exist")
	return err
}

// How often and how long apart destroying a set is tried: nf_tables frees the
// rules that refer to it a moment after the commit.
const (
	destroyTries    = 8
	destroyPatience = 10 * time.Millisecond
)

// destroySets destroys sets and gives those that the kernel still uses.
func destroySets(ctx context.Context, names []string) []string {
	for try := 0; len(names) > 0; try++ {
		var lines []string
		for _, name := range names {
			lines = append(lines, "destroy "+name)
		}
		_, err := feed(ctx, lines, "ipset", "restore")
		var failed *toolError
		if err == nil {
			return nil
		}
		if !errors.As(err, &failed) || failed.line() == 0 || try == destroyTries {
			return names
		}
		names = names[failed.line()-1:]
		select {
		case <-ctx.Done():
			return names
		case <-time.After(destroyPatience):
		}
	}
	return nil
}
