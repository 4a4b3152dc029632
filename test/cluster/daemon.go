package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A daemon is a component that runs on a machine: etcd, kubelet and so on.
type daemon struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	Proc process  `json:"process"` // in the pid namespace of the machine
}

// spawn detaches a command: its shell ends at once, and the command becomes a
// child of the machine's first process.
const spawn = `log=$1; shift; setsid "$@" >>"$log" 2>&1 </dev/null & echo $!`

// start starts the daemon on m, with its output going to its log file.
func (d *daemon) start(ctx context.Context, m *Machine) error {
	args := append([]string{"sh", "-c", spawn, "sh", m.logFile(d.Name)}, d.Args...)
	out, err := m.Exec(ctx, args...)
	if err != nil {
		return fmt.Errorf("start %s: %w", d.Name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		return err
	}
	if d.Proc, err = findProcess(m.proc(), pid); err != nil {
		return fmt.Errorf("%s has ended at once: %w\n%s", d.Name, err, m.logTail(d.Name, 20))
	}
	return nil
}

// running reports whether the daemon's process still runs.
func (d *daemon) running(m *Machine) bool { return m.Init.alive() && d.Proc.aliveIn(m.proc()) }

// signal sends sig to the daemon.
func (d *daemon) signal(ctx context.Context, m *Machine, sig syscall.Signal) error {
	if !d.running(m) {
		return fmt.Errorf("%s on %s does not run", d.Name, m.Name)
	}
	_, err := m.Exec(ctx, "sh", "-c", fmt.Sprintf("kill -%d %d", sig, d.Proc.PID))
	return err
}

func (m *Machine) logFile(daemon string) string {
	return filepath.Join(m.Dir, "log", daemon+".log")
}

// logTail is the end of a daemon's log, for error messages.
func (m *Machine) logTail(daemon string, lines int) string {
	text, err := os.ReadFile(m.logFile(daemon))
	if errors.Is(err, os.ErrNotExist) {
		return "(no log)"
	}
	return tail(string(text), lines)
}
