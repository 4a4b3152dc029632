package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

func architecture() string { return runtime.GOARCH }

// Go runs a go command in dir (empty: the working directory) that builds static programs. It ends with ctx,
// with all its children. The error contains the end of what it wrote.
func Go(ctx context.Context, dir string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), errors.Join(err, ctx.Err()), tail(text.String()))
	}
	return nil
}

// tail is the last lines of a compiler's output.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// BuildProgram builds a main package of this module as a static program that
// knows its version.
func BuildProgram(ctx context.Context, pkg, version, out string) error {
	const variable = module + "/internal/version.Version"
	return Go(ctx, "", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X "+variable+"="+version, "-o", out, pkg)
}
