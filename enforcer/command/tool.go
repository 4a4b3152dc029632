// Package command runs the programs by which the kernel is read and written: nft, iptables and ipset.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	// Time is how long a tool may run. It is well above LockWait, and above what
	// the tools take for a thousand pods on a slow node.
	Time = 30 * time.Second
	// LockWait is how long iptables is to wait for the lock of the legacy tables, in seconds.
	LockWait = "10"
)

// ErrKilled is the failure of a tool that did not end within Time.
var ErrKilled = errors.New("killed")

// Run runs a tool with lines as its input, and returns its output. A failure is an
// *Error. A tool that does not end within Time is killed.
func Run(ctx context.Context, lines []string, name string, args ...string) (string, error) {
	return Start(ctx, lines, name, args...).Wait()
}

// Running is a tool that runs, or could not be started.
type Running struct {
	cancel         context.CancelFunc
	killed         func() error // and why
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	lines          []string
	err            error
}

// Start starts a tool as Run does, without waiting. The caller must call Wait.
func Start(ctx context.Context, lines []string, name string, args ...string) *Running {
	return startWithin(ctx, Time, lines, name, args...)
}

func startWithin(ctx context.Context, limit time.Duration, lines []string, name string, args ...string) *Running {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: it did not end within %v", ErrKilled, limit))
	r := &Running{lines: lines, cancel: cancel, killed: func() error { return context.Cause(ctx) }, cmd: exec.CommandContext(ctx, name, args...)}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	r.cmd.WaitDelay = time.Second
	if len(lines) > 0 {
		r.cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	}
	r.err = r.cmd.Start()
	return r
}

// Wait waits until the tool ends, and returns its output.
func (r *Running) Wait() (string, error) {
	defer r.cancel()
	if r.err == nil {
		r.err = r.cmd.Wait()
	}
	if r.err == nil {
		return r.stdout.String(), nil
	}
	if cause := r.killed(); cause != nil {
		r.err = cause
	}
	return "", &Error{Tool: r.cmd.Args[0], Says: strings.TrimSpace(r.stderr.String()), Lines: r.lines, Err: r.err}
}
