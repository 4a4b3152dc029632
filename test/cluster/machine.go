package cluster

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

//go:embed machine.sh
var machineScript string

// machinePath is PATH inside a machine. The first directory holds the links
// to the chosen variant of iptables.
const machinePath = "/run/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// bindPaths are the directories of which every machine has its own.
var bindPaths = []string{
	"/etc/cni/net.d",
	"/opt/cni/bin",
	"/var/lib/cni",
	"/var/lib/containerd",
	"/var/lib/kubelet",
	"/var/log/containers",
	"/var/log/pods",
}

// A Machine is a set of Linux namespaces (pid, mount, uts, ipc, network) that
// ends when its first process does. The control plane and the nodes are
// machines.
type Machine struct {
	Name string  `json:"name"`
	Init process `json:"init"` // in the pid namespace of the host
	Dir  string  `json:"dir"`  // directory for the machine's files
}

// startMachine starts a machine. record is called with it before anything is
// changed on the host, so that a crash leaves no machine that nobody knows.
func startMachine(ctx context.Context, name, dir, iptables string, record func(*Machine) error) (*Machine, error) {
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o755); err != nil {
		return nil, err
	}
	args := append([]string{"-c", machineScript, "machine", name, dir, iptables}, bindPaths...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Env = machineEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
	}
	m := &Machine{Name: name, Dir: dir}
	err := m.handshake(ctx, cmd, func() error { return record(m) })
	if err != nil {
		return nil, fmt.Errorf("start machine %s: %w", name, err)
	}
	return m, nil
}

// handshake starts the first process, lets it go on once it is recorded, and
// waits until it says that the machine is ready.
func (m *Machine) handshake(ctx context.Context, cmd *exec.Cmd, record func() error) error {
	errlog, err := os.Create(filepath.Join(m.Dir, "log", "machine.log"))
	if err != nil {
		return err
	}
	defer errlog.Close()
	cmd.Stderr = errlog
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	defer stdout.Close()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Release() }()
	if m.Init, err = findProcess(hostProc, cmd.Process.Pid); err != nil {
		return err
	}
	if err := record(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { stdout.Close() })()
	if _, err := stdin.Write([]byte("go\n")); err != nil {
		return err
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		text, _ := os.ReadFile(errlog.Name())
		return fmt.Errorf("preparing its namespaces: %w: %s", err, bytes.TrimSpace(text))
	}
	return nil
}

// proc is where the machine's own processes are seen from the host.
func (m *Machine) proc() string { return fmt.Sprintf("/proc/%d/root/proc", m.Init.PID) }

func machineEnv() []string {
	return []string{"PATH=" + machinePath, "HOME=/root", "LANG=C.UTF-8"}
}

// Command is a command that will run inside the machine, with all its
// namespaces. The caller sets its streams.
func (m *Machine) Command(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"-t", strconv.Itoa(m.Init.PID), "-m", "-u", "-i", "-n", "-p", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = machineEnv()
	cmd.Dir = "/"
	return cmd
}

// Exec runs a command inside the machine and returns what it wrote to its
// standard output. Its standard error is part of the error.
func (m *Machine) Exec(ctx context.Context, args ...string) (string, error) {
	return m.pipe(ctx, "", args...)
}

// pipe is Exec with text on standard input.
func (m *Machine) pipe(ctx context.Context, input string, args ...string) (string, error) {
	if !m.Init.alive() {
		return "", fmt.Errorf("machine %s does not run", m.Name)
	}
	cmd := m.Command(ctx, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := output(cmd)
	if err != nil {
		return out, fmt.Errorf("on %s: %s: %w", m.Name, strings.Join(args, " "), err)
	}
	return out, nil
}

// output runs cmd and returns its standard output, and its standard error as
// part of the error.
func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), err
}
