// Package memgroup has the kernel kill a process for want of memory: with certainty, and without the help of the process.
package memgroup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// margin is what a group may still take when its limit is lowered.
const margin = 4 << 20

// block is how much the filler writes at a time.
const block = 64 << 10

// Group is the cgroup that bounds the memory of a process, of version 1 or 2.
type Group struct {
	dir          string
	limit, usage string // files of dir
	adjustment   string // the process's oom_score_adj
}

// Of finds the group of a process by its folder in a proc file system.
func Of(proc string) (Group, error) {
	text, err := os.ReadFile(filepath.Join(proc, "cgroup"))
	if err != nil {
		return Group{}, err
	}
	adjustment, err := os.ReadFile(filepath.Join(proc, "oom_score_adj"))
	if err != nil {
		return Group{}, err
	}
	g := Group{adjustment: strings.TrimSpace(string(adjustment))}
	for line := range strings.Lines(string(text)) { // ID:controllers:path, cgroups(7)
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case fields[1] == "memory":
			g.dir, g.limit, g.usage = filepath.Join("/sys/fs/cgroup/memory", fields[2]), "memory.limit_in_bytes", "memory.usage_in_bytes"
			return g, nil
		case fields[0] == "0":
			g.dir, g.limit, g.usage = filepath.Join("/sys/fs/cgroup", fields[2]), "memory.max", "memory.current"
		}
	}
	if _, err := os.Stat(filepath.Join(g.dir, g.limit)); g.dir == "" || err != nil {
		return Group{}, fmt.Errorf("the process of %s is in no group that limits memory: %w", proc, errors.Join(err, fs.ErrNotExist))
	}
	return g, nil
}

// Filler uses up the memory of a group. Its pages are a file's in memory: the kernel can neither drop them nor free
// them by killing the filler, and so kills the group's largest process.
type Filler struct {
	cmd    *exec.Cmd
	pages  *os.File
	output bytes.Buffer
	done   chan struct{}
}

// Exhaust lowers the limit of the group to little more than is in use, and fills the rest.
// Close is due, after which the pages are free; the limit goes with the group.
func (g Group) Exhaust(ctx context.Context) (*Filler, error) {
	limit, err := g.lowerLimit()
	if err != nil {
		return nil, fmt.Errorf("lower the memory limit of %s: %w", g.dir, err)
	}
	fd, err := unix.MemfdCreate("filler", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := &Filler{pages: os.NewFile(uintptr(fd), "filler"), done: make(chan struct{})}
	// The filler is to be no likelier a victim than the process, so it has the same adjustment.
	const script = `echo "$2" >/proc/self/oom_score_adj; echo $$ >"$1" && exec dd if=/dev/zero of=/dev/fd/3 bs="$3" count="$4"`
	f.cmd = exec.CommandContext(ctx, "sh", "-c", script, "sh", filepath.Join(g.dir, "cgroup.procs"), g.adjustment,
		strconv.Itoa(block), strconv.Itoa(2*limit/block))
	f.cmd.ExtraFiles = []*os.File{f.pages}
	f.cmd.Stdout, f.cmd.Stderr = &f.output, &f.output
	if err := f.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the filler: %w", err), f.pages.Close())
	}
	go func() {
		defer close(f.done)
		_ = f.cmd.Wait() // String shows how it ended
	}()
	return f, nil
}

// lowerLimit returns the new limit in bytes.
func (g Group) lowerLimit() (int, error) {
	for file, value := range map[string]string{"memory.swappiness": "0", "memory.swap.max": "0"} { // v1, v2
		err := g.write(file, value)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	text, err := os.ReadFile(filepath.Join(g.dir, g.usage))
	if err != nil {
		return 0, err
	}
	usage, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, err
	}
	limit := usage + margin
	return limit, g.write(g.limit, strconv.Itoa(limit))
}

// write sets a file of the group that is there: none can be created.
func (g Group) write(file, value string) error {
	f, err := os.OpenFile(filepath.Join(g.dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// String shows how the filler is doing.
func (f *Filler) String() string {
	select {
	case <-f.done:
		return fmt.Sprintf("the filler ended: %v: %s", f.cmd.ProcessState, strings.TrimSpace(f.output.String()))
	default:
		return "the filler still writes"
	}
}

// Close ends the filler and frees its pages.
func (f *Filler) Close() error {
	err := f.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-f.done
	return errors.Join(err, f.pages.Close())
}

// Alive reports whether the process of a folder of a proc file system runs, and is no zombie.
func Alive(proc string) bool {
	f, err := os.Open(filepath.Join(proc, "status"))
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if state, ok := strings.CutPrefix(lines.Text(), "State:"); ok {
			return !strings.Contains(state, "Z")
		}
	}
	return false
}
