// Package memlimit sets the soft memory limit of the Go runtime from the limit of the process's control group.
package memlimit

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// unlimited is more than any limit of memory: version 1 of control groups has a number instead of none.
const unlimited = 1 << 62

// Apply lowers the runtime's soft limit to a share of the control group's limit, unless GOMEMLIMIT is lower already. It
// returns the soft limit in force, in bytes; false where there is none. What is above it is for what the runtime does
// not count: the kernel's memory of the group, and other processes.
func Apply(share float64) (int64, bool) {
	return apply(share, "/")
}

func apply(share float64, root string) (int64, bool) {
	soft := debug.SetMemoryLimit(-1)
	if limit, ok := groupLimit(root); ok {
		soft = min(soft, int64(share*float64(limit)))
		debug.SetMemoryLimit(soft)
	}
	return soft, soft < math.MaxInt64
}

// groupLimit returns the lowest memory limit of the process's control group and those above it, in bytes.
func groupLimit(root string) (int64, bool) {
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0, false
	}
	lowest := int64(unlimited)
	lines := bufio.NewScanner(bytes.NewReader(groups))
	for lines.Scan() {
		parts := strings.SplitN(lines.Text(), ":", 3) // hierarchy, controllers, path: cgroups(7)
		if len(parts) != 3 {
			continue
		}
		switch controllers := strings.Split(parts[1], ","); {
		case parts[0] == "0" && parts[1] == "":
			lowest = min(lowest, lowestLimit(filepath.Join(root, "sys/fs/cgroup"), parts[2], "memory.max"))
		case slices.Contains(controllers, "memory"):
			lowest = min(lowest, lowestLimit(filepath.Join(root, "sys/fs/cgroup/memory"), parts[2], "memory.limit_in_bytes"))
		}
	}
	return lowest, lowest < unlimited
}

// lowestLimit returns the lowest limit of a group and those above it. A container sees its own group as the top one,
// whatever path the kernel shows.
func lowestLimit(mount, group, file string) int64 {
	lowest := int64(unlimited)
	for at := path.Clean("/" + group); ; at = path.Dir(at) {
		text, err := os.ReadFile(filepath.Join(mount, at, file))
		if n, parseErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && parseErr == nil && n > 0 {
			lowest = min(lowest, n)
		}
		if at == "/" {
			return lowest
		}
	}
}
