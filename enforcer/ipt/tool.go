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

// runTool runs a tool and gives what it printed. The error says what the tool said.
func runTool(ctx context.Context, name string, args ...string) (string, error) {
	return feed(ctx, nil, name, args...)
}

// feed runs a tool with lines as its input. The error names the line that the tool
// refused. A tool that does not end within toolTime is killed.
func feed(ctx context.Context, lines []string, name string, args ...string) (string, error) {
	return feedWithin(ctx, toolTime, lines, name, args...)
}

func feedWithin(ctx context.Context, limit time.Duration, lines []string, name string, args ...string) (string, error) {
	return start(ctx, limit, lines, name, args...).wait()
}

// tool is one that runs, or could not be started.
type tool struct {
	cancel         context.CancelFunc
	killed         func() error // and why
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	lines          []string
	err            error
}

// start starts a tool, so that another can run beside it. It must be waited for.
func start(ctx context.Context, limit time.Duration, lines []string, name string, args ...string) *tool {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("killed: it did not end within %v", limit))
	t := &tool{lines: lines, cancel: cancel, killed: func() error { return context.Cause(ctx) }, cmd: exec.CommandContext(ctx, name, args...)}
	t.cmd.Stdout, t.cmd.Stderr = &t.stdout, &t.stderr
	t.cmd.WaitDelay = time.Second
	if len(lines) > 0 {
		t.cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	}
	t.err = t.cmd.Start()
	return t
}

func (t *tool) wait() (string, error) {
	defer t.cancel()
	if t.err == nil {
		t.err = t.cmd.Wait()
	}
	if t.err == nil {
		return t.stdout.String(), nil
	}
	if cause := t.killed(); cause != nil {
		t.err = cause
	}
	return "", &toolError{Tool: t.cmd.Args[0], Says: strings.TrimSpace(t.stderr.String()), Lines: t.lines, Err: t.err}
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
		names, err := runTool(ctx, "ipset", "list", "-n")
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
