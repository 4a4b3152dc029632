package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tierwall/tierwall/test/cluster"
)

// shell runs kubectl and helm against the lab, and shows what it runs.
type shell struct {
	env []string
}

// newShell puts the lab's own kubectl and helm first in the path.
func newShell(c *cluster.Cluster) (*shell, error) {
	path := os.Getenv("PATH")
	for _, program := range []string{"kubectl", "helm"} {
		file, err := cluster.Program(program)
		if err != nil {
			return nil, err
		}
		path = filepath.Dir(file) + ":" + path
	}
	return &shell{env: append(os.Environ(), "PATH="+path, "KUBECONFIG="+c.Kubeconfig())}, nil
}

// command prepares a program that the shell's path finds.
func (s *shell) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	for _, dir := range filepath.SplitList(pathOf(s.env)) {
		if file := filepath.Join(dir, name); isFile(file) {
			name = file
			break
		}
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = s.env
	return cmd
}

// run runs a program quietly and returns what it printed.
func (s *shell) run(ctx context.Context, args ...string) (string, error) {
	out, err := s.command(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// show prints a command, runs it, and prints what it says. The second result
// is when it returned.
func (s *shell) show(ctx context.Context, args ...string) (error, time.Time) {
	fmt.Printf("\n  %s %s\n", bold("$"), bold(strings.Join(args, " ")))
	cmd := s.command(ctx, args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	returned := time.Now()
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		for _, part := range wrap(line, 108) {
			fmt.Println("  " + part)
		}
	}
	return err, returned
}

// must shows a command that has to succeed.
func (s *shell) must(ctx context.Context, args ...string) error {
	if err, _ := s.show(ctx, args...); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// refused shows a command that has to fail with each of the words in its output.
func (s *shell) refused(ctx context.Context, args ...string) error {
	if err, _ := s.show(ctx, args...); err == nil {
		return fmt.Errorf("%s: went through, and should have been refused", strings.Join(args, " "))
	}
	return nil
}

func pathOf(env []string) string {
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	return path
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
