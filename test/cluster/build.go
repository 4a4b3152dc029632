package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tierwall/tierwall/images"
)

// binaries tells where each program is.
type binaries map[string]string

// Build builds the components that are not in the cache yet, and the lab's
// own images, and reports progress to log. With conformance it builds the
// upstream tests too. A build that is there already costs nothing.
func Build(ctx context.Context, log io.Writer, conformance bool) error {
	wanted := components
	if conformance {
		wanted = slices.Concat(components, conformanceComponents)
	}
	programs, err := build(ctx, log, wanted)
	if err != nil {
		return err
	}
	_, err = labImages(ctx, log, programs)
	return err
}

// Program is the path of a program of a component, such as kubectl, helm or
// e2e.test. It must have been built: see [Build].
func Program(name string) (string, error) {
	for _, c := range slices.Concat(components, conformanceComponents) {
		if _, ok := c.Packages[name]; !ok {
			continue
		}
		dir, err := componentDir(c)
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("program %s is not built: %w", name, err)
		}
		return path, nil
	}
	return "", fmt.Errorf("no component has a program %q", name)
}

func componentDir(c component) (string, error) {
	root, err := repositoryRoot()
	if err != nil {
		return "", err
	}
	return c.dir(filepath.Join(root, "test/cluster/components", c.Module))
}

// build builds what is missing of the wanted components.
func build(ctx context.Context, log io.Writer, wanted []component) (binaries, error) {
	all := binaries{}
	var missing []component
	for _, c := range wanted {
		dir, err := componentDir(c)
		if err != nil {
			return nil, err
		}
		for name := range c.Packages {
			all[name] = filepath.Join(dir, name)
		}
		if _, err := os.Stat(dir); err != nil {
			missing = append(missing, c)
		}
	}
	start := time.Now()
	for i, c := range missing {
		names := strings.Join(slices.Sorted(maps.Keys(c.Packages)), ", ")
		label := fmt.Sprintf("[%d/%d] %s %s", i+1, len(missing), names, c.Version)
		err := withProgress(log, label, func() error { return c.build(ctx) })
		if err != nil {
			return nil, fmt.Errorf("build component %s: %w", c.Name, err)
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(log, "built %d components in %d s\n", len(missing), int(time.Since(start).Seconds()))
	}
	return all, nil
}

// build builds the component beside its place in the cache, and moves it
// there when it is whole.
func (c component) build(ctx context.Context) error {
	dir, err := componentDir(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".building-"+c.Name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := c.compile(ctx, temp); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	err = os.Rename(temp, dir)
	if errors.Is(err, os.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil // built by another process in the meantime
	}
	return err
}

// compile writes the component's programs to dir.
func (c component) compile(ctx context.Context, dir string) error {
	root, err := repositoryRoot()
	if err != nil {
		return err
	}
	args := []string{"build"}
	out := dir + "/"
	if c.Test {
		args = []string{"test", "-c"}
	}
	if len(c.Packages) == 1 {
		for name := range c.Packages {
			out = filepath.Join(dir, name)
		}
	}
	args = slices.Concat(args, c.flags(), []string{"-o", out}, slices.Sorted(maps.Values(c.Packages)))
	return images.Go(ctx, filepath.Join(root, "test/cluster/components", c.Module), args...)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
