//go:build cluster

package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tierwall/tierwall/test/cluster"
)

// memoryGroup is the cgroup that bounds the memory of a container, of version 1 or 2.
type memoryGroup struct{ limit, usage string }

// memoryGroupOf finds the group of a process of a node.
func memoryGroupOf(t *testing.T, node *cluster.Node, pid string) memoryGroup {
	t.Helper()
	text, err := os.ReadFile(nodeProc(node, pid, "cgroup"))
	must(t, err)
	var found memoryGroup
	for line := range strings.Lines(string(text)) { // ID:controllers:path, cgroups(7)
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case fields[1] == "memory":
			dir := filepath.Join("/sys/fs/cgroup/memory", fields[2])
			return memoryGroup{filepath.Join(dir, "memory.limit_in_bytes"), filepath.Join(dir, "memory.usage_in_bytes")}
		case fields[0] == "0":
			dir := filepath.Join("/sys/fs/cgroup", fields[2])
			found = memoryGroup{filepath.Join(dir, "memory.max"), filepath.Join(dir, "memory.current")}
		}
	}
	return found
}

// nodeProc is a file about a process of a node, seen from the host.
func nodeProc(node *cluster.Node, pid, file string) string {
	return filepath.Join("/proc", strconv.Itoa(node.Init.PID), "root/proc", pid, file)
}

// starve leaves the enforcer with no more memory than it has and gives it work, until the kernel kills it.
// The container's group, with its limit, goes with it.
func starve(t *testing.T, node *cluster.Node, pid string) {
	t.Helper()
	group := memoryGroupOf(t, node, pid)
	was, err := os.ReadFile(group.limit)
	must(t, err)
	defer func() { _ = os.WriteFile(group.limit, was, 0) }() // where it lives on
	w := &work{metrics: net.JoinHostPort(node.IPv4.String(), "9466")}
	defer w.end()
	eventually(t, time.Minute, "the kernel kills the enforcer on "+node.Name, func() error {
		_ = group.squeeze() // refused when there is nothing left to take
		w.more()
		if alive(node, pid) {
			return fmt.Errorf("process %s lives", pid)
		}
		return nil
	})
}

// work is requests that an enforcer has in memory for as long as they have not come to their end.
type work struct {
	metrics  string
	mu       sync.Mutex
	requests []net.Conn
}

// more begins some requests.
func (w *work) more() {
	var begun sync.WaitGroup
	for range 20 {
		begun.Go(w.begin)
	}
	begun.Wait()
}

func (w *work) begin() {
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	c, err := tls.DialWithDialer(dialer, "tcp", w.metrics, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // self-signed, in the lab
	if err != nil {
		return // it has no more memory
	}
	_ = c.SetDeadline(time.Now().Add(dialer.Timeout))
	_, _ = fmt.Fprintf(c, "GET /metrics HTTP/1.1\r\nX: %s", strings.Repeat("x", 60_000))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, c)
}

func (w *work) end() {
	for _, c := range w.requests {
		c.Close()
	}
}

// squeeze takes what memory the group can do without.
func (g memoryGroup) squeeze() error {
	for {
		text, err := os.ReadFile(g.usage)
		if err != nil {
			return err
		}
		usage, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return err
		}
		if err := os.WriteFile(g.limit, []byte(strconv.Itoa(usage-1<<20)), 0); err != nil {
			return err
		}
	}
}

// alive says whether a process of a node is still there, and not a zombie.
func alive(node *cluster.Node, pid string) bool {
	f, err := os.Open(nodeProc(node, pid, "status"))
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
