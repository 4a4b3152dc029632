// Package netns makes network namespaces for tests: a node with its pods, and
// real packets between them.
package netns

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Space is a network namespace that ends with its test. It has no name in the
// file system: it lives as long as a file of the test process refers to it, so
// that not even a test that is killed leaves it behind.
type Space struct{ file *os.File }

// NewSpace makes a network namespace with its loopback interface up.
func NewSpace(t testing.TB) *Space {
	t.Helper()
	s := &Space{}
	err := thread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace (this needs root): %w", err)
		}
		file, err := os.Open(fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid()))
		s.file = file
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.file.Close() })
	s.Run(t, "ip", "link", "set", "lo", "up")
	return s
}

// Do calls a function in the namespace, with the programs that it starts and
// the sockets that it opens.
func (s *Space) Do(f func() error) error {
	return thread(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return f()
	})
}

// Run runs a program in the namespace and gives its output; its failure ends the test.
func (s *Space) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := s.Try(t.Context(), "", name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try runs a program in the namespace, with input, and gives its output.
func (s *Space) Try(ctx context.Context, input, name string, args ...string) (string, error) {
	var out string
	err := s.Do(func() error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Stdin = strings.NewReader(input)
		b, err := cmd.CombinedOutput()
		out = string(b)
		if err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
		}
		return nil
	})
	return out, err
}

// Path is a file by which programs that this process starts find the namespace.
func (s *Space) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd()) }

// write writes a file of /proc/sys as the namespace sees it.
func (s *Space) write(t testing.TB, path, value string) {
	t.Helper()
	if err := s.Do(func() error { return os.WriteFile(path, []byte(value), 0o644) }); err != nil {
		t.Fatal(err)
	}
}

// thread calls a function on a thread of its own, which ends with it: a thread
// whose namespace was changed is never used for anything else.
func thread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}
