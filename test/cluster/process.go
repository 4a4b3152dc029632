package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A process is known by its id and the time of its start, so that one that
// got the same id later is never mistaken for it.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, /proc/PID/stat field 22
}

// hostProc is where the host's processes are seen.
const hostProc = "/proc"

// findProcess reads the identity of the process that has this id now, in the
// pid namespace that proc shows.
func findProcess(proc string, pid int) (process, error) {
	start, state, err := readStat(proc, pid)
	if err != nil {
		return process{}, err
	}
	if state == 'Z' {
		return process{}, fmt.Errorf("process %d has ended", pid)
	}
	return process{PID: pid, Start: start}, nil
}

// readStat reads the start time and the state letter of a process; see
// proc_pid_stat(5).
func readStat(proc string, pid int) (start uint64, state byte, err error) {
	text, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", proc, pid))
	if err != nil {
		return 0, 0, err
	}
	// The second field, the name, may itself contain spaces and brackets.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("%s/%d/stat: %d fields", proc, pid, len(fields))
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return start, fields[0][0], err
}

func (p process) alive() bool { return p.aliveIn(hostProc) }

func (p process) aliveIn(proc string) bool {
	now, err := findProcess(proc, p.PID)
	return err == nil && now == p
}

// kill ends the process with SIGKILL and waits until it, and for the first
// process of a pid namespace everything in it, is gone.
func (p process) kill(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return nil // gone
	}
	defer unix.Close(fd)
	if !p.alive() { // after the open, so that fd is this very process
		p.reap()
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	for ctx.Err() == nil {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, int(time.Second/time.Millisecond/10))
		if n > 0 && err == nil {
			p.reap()
			return nil
		}
	}
	return fmt.Errorf("wait for the end of process %d: %w", p.PID, ctx.Err())
}

// reap takes the exit status if the process is a child of ours.
func (p process) reap() {
	_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG, nil)
}

// keepFilesHere sees to it that the files which this process inherited are
// not inherited in turn: a lab that lives on must not hold its starter's locks
// and pipes.
func keepFilesHere() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
