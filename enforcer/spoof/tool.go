package spoof

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// toolTime is how long a tool may run.
const toolTime = 30 * time.Second

// run runs a tool with lines as its input, and gives what it printed. The error says what the tool said.
func run(ctx context.Context, lines []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, toolTime, fmt.Errorf("killed: it did not end within %v", toolTime))
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, time.Second
	if len(lines) > 0 {
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	}
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// words are those of a text, sorted: the order in which tools print members means nothing.
func words(text string) string {
	fields := strings.Fields(text)
	slices.Sort(fields)
	return strings.Join(fields, " ")
}

// mentions says whether each of some phrases is in a text so many times at least.
func mentions(text string, times int, phrases ...string) bool {
	return !slices.ContainsFunc(phrases, func(p string) bool { return strings.Count(text, p) < times })
}

// names says whether all interfaces are in a text, in which they are parted from all else by
// spaces, quotes and commas.
func names(text string, interfaces []string) bool {
	in := map[string]bool{}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \n\",", r) }) {
		in[word] = true
	}
	return !slices.ContainsFunc(interfaces, func(name string) bool { return !in[name] })
}
