package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// hierarchies are the mount points of the machine's cgroup trees: several
// with cgroup v1, one with v2.
func hierarchies() ([]string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 2 && strings.HasPrefix(fields[2], "cgroup") && strings.HasPrefix(fields[1], "/sys/fs/cgroup") {
			found = append(found, fields[1])
		}
	}
	slices.Sort(found)
	return slices.Compact(found), lines.Err()
}

// makeCgroups makes the cgroup under which kubelet puts the node's pods.
func makeCgroups(name string) error {
	trees, err := hierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		if err := makeCgroup(tree, name); err != nil {
			return fmt.Errorf("cgroup %s in %s: %w", name, tree, err)
		}
	}
	return nil
}

func makeCgroup(tree, name string) error {
	group := filepath.Join(tree, name)
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// v1: a new cpuset is empty, and lets no process in.
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(tree, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(group, file), value, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if tree == "/sys/fs/cgroup" { // v2
		return delegateControllers(tree, group)
	}
	return nil
}

// delegateControllers makes every controller of a v2 tree available below the
// group.
func delegateControllers(tree, group string) error {
	have, err := os.ReadFile(filepath.Join(tree, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, controller := range strings.Fields(string(have)) {
		for _, dir := range []string{tree, group} {
			file := filepath.Join(dir, "cgroup.subtree_control")
			if err := os.WriteFile(file, []byte("+"+controller), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeCgroups removes the node's cgroups, with those of its pods. Processes
// that were killed may need a moment to leave them.
func removeCgroups(ctx context.Context, name string) error {
	trees, err := hierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		for {
			err := removeCgroup(filepath.Join(tree, name))
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("remove cgroup %s: %w", name, err)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

func removeCgroup(group string) error {
	var dirs []string
	err := filepath.WalkDir(group, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	return nil
}
