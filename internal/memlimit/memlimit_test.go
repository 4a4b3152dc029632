package memlimit

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

// writeFiles makes a root folder with these files.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestGroupLimit(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64 // zero is none
	}{
		"a container with a namespace of its own": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, 1 << 30},
		"a container that sees the host's path":   {map[string]string{"proc/self/cgroup": "0::/kubepods/pod1/c1\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, 1 << 30},
		"the pod's limit is lower": {map[string]string{"proc/self/cgroup": "0::/kubepods/pod1/c1\n",
			"sys/fs/cgroup/kubepods/pod1/memory.max": "1000\n", "sys/fs/cgroup/kubepods/pod1/c1/memory.max": "2000\n"}, 1000},
		"no limit": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 0},
		"version 1": {map[string]string{"proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "4096\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 4096},
		"version 1 without a limit": {map[string]string{"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"no control groups":         {nil, 0},
		"rubbish":                   {map[string]string{"proc/self/cgroup": "rubbish\n0::/../..\n", "sys/fs/cgroup/memory.max": "-1\n"}, 0},
	} {
		got, ok := groupLimit(writeFiles(t, c.files))
		if ok != (c.want > 0) || ok && got != c.want {
			t.Errorf("%s: %d, %v, want %d", name, got, ok, c.want)
		}
	}
}

func TestTheSoftLimitIsAShareOfTheGroupsUnlessItIsLowerAlready(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	limited := writeFiles(t, map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n"})
	unlimited := writeFiles(t, nil)
	for name, c := range map[string]struct {
		root       string
		goMemLimit int64
		want       int64
	}{
		"by the group alone":   {limited, math.MaxInt64, 1 << 29},
		"GOMEMLIMIT is lower":  {limited, 1 << 28, 1 << 28},
		"GOMEMLIMIT is higher": {limited, 1 << 30, 1 << 29},
		"without a group":      {unlimited, 1 << 28, 1 << 28},
		"without any limit":    {unlimited, math.MaxInt64, math.MaxInt64},
	} {
		debug.SetMemoryLimit(c.goMemLimit)
		got, ok := apply(0.5, c.root)
		if inForce := debug.SetMemoryLimit(-1); got != c.want || inForce != c.want || ok != (c.want < math.MaxInt64) {
			t.Errorf("%s: %d (%v), in force %d, want %d", name, got, ok, inForce, c.want)
		}
	}
}
