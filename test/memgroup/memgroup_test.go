//go:build netns

package memgroup

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// victimSize makes this program a process that holds so many bytes and never asks for more.
const victimSize = "TIERWALL_MEMGROUP_VICTIM"

func TestMain(m *testing.M) {
	if size, err := strconv.Atoi(os.Getenv(victimSize)); err == nil {
		hold(size)
	}
	os.Exit(m.Run())
}

func hold(size int) {
	held := make([]byte, size)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // for ever
	fmt.Println(held[0])
	os.Exit(0)
}

// The process asks for no memory itself, as an enforcer between two changes.
func TestExhaustKillsAProcessThatRests(t *testing.T) {
	for _, size := range []int{16 << 20, 100 << 20} {
		t.Run(fmt.Sprintf("%d MiB", size>>20), func(t *testing.T) {
			victim := startVictim(t, makeGroup(t), size)
			group, err := Of(filepath.Join("/proc", strconv.Itoa(victim.Process.Pid)))
			if err != nil {
				t.Fatal(err)
			}
			filler, err := group.Exhaust(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			err = victim.Wait()
			t.Logf("victim: %v; %s", err, filler)
			if status := victim.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
				t.Errorf("the process ended with %v, want SIGKILL", victim.ProcessState)
			}
			if err := filler.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// makeGroup makes a group of its own below this process's.
func makeGroup(t *testing.T) string {
	t.Helper()
	own, err := Of("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(own.dir, "memgroup-test-")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, own.limit)); err != nil { // v2: the controller is not delegated to children
		_ = os.Remove(dir)
		if dir, err = os.MkdirTemp("/sys/fs/cgroup", "memgroup-test-"); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if err := os.Remove(dir); err == nil {
				return
			} else if time.Now().After(deadline) {
				t.Error(err)
				return
			}
		}
	})
	return dir
}

func startVictim(t *testing.T, group string, size int) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `echo $$ >"$1" && exec "$2"`, "sh", filepath.Join(group, "cgroup.procs"), self)
	cmd.Env = append(os.Environ(), victimSize+"="+strconv.Itoa(size))
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the process says %q, %v", line, err)
	}
	return cmd
}
