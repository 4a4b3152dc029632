package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tierwall/tierwall/test/shop"
)

// shell is the lab's shell, and can show what it runs.
type shell struct{ *shop.Shell }

// show prints a command, runs it, and prints what it says. It returns that, and
// when the command returned.
func (s shell) show(ctx context.Context, args ...string) (said string, returned time.Time, err error) {
	fmt.Printf("\n  %s %s\n", bold("$"), bold(strings.Join(args, " ")))
	cmd := s.Command(ctx, args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	returned = time.Now()
	for _, line := range shorten(out.String()) {
		for _, part := range wrap(line, 108) {
			fmt.Println("  " + part)
		}
	}
	return out.String(), returned, err
}

// shorten leaves out what a person does not need to read: Helm's notes, the
// waits of a rollout, and the names in a long list of created objects. Why a request was
// denied begins a line.
func shorten(out string) []string {
	out, _, _ = strings.Cut(out, "NOTES:")
	out = strings.ReplaceAll(out, "denied the request: ", "denied the request:\n")
	var lines []string
	created := 0
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if strings.HasPrefix(line, "Waiting for ") {
			continue
		}
		if strings.HasSuffix(line, " created") {
			created++
		}
		lines = append(lines, line)
	}
	if created > 8 && created == len(lines) {
		return []string{fmt.Sprintf("%d objects created", created)}
	}
	return lines
}

// must shows a command that has to succeed.
func (s shell) must(ctx context.Context, args ...string) error {
	if _, _, err := s.show(ctx, args...); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// refused shows a command that has to fail, with this word in what it says.
func (s shell) refused(ctx context.Context, word string, args ...string) error {
	said, _, err := s.show(ctx, args...)
	if err == nil {
		return fmt.Errorf("%s: went through, and should have been refused", strings.Join(args, " "))
	}
	if !strings.Contains(said, word) {
		return fmt.Errorf("%s: failed without a word of %q", strings.Join(args, " "), word)
	}
	return nil
}
