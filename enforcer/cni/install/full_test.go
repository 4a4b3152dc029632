//go:build netns

package install

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A full disk leaves the node's network as it is, and what could not be written is written once there is room.
func TestFullDiskLeavesTheChainAsItIs(t *testing.T) {
	n := newNode(t, nil)
	must(t, unix.Mount("tmpfs", n.ConfDir, "tmpfs", 0, "size=16k"))
	t.Cleanup(func() { must(t, unix.Unmount(n.ConfDir, 0)) })
	n.write(t, "10-lab.conflist", lab)
	stuffing := filepath.Join(n.ConfDir, "stuffing")
	if err := os.WriteFile(stuffing, make([]byte, 64<<10), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	for range 3 {
		if _, err := n.Install(settings); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("installing: %v", err)
		}
		if text, err := os.ReadFile(filepath.Join(n.ConfDir, "10-lab.conflist")); err != nil || string(text) != lab {
			t.Errorf("the chain is now %s (%v)", text, err)
		}
	}
	n.onlyKnownFiles(t, "10-lab.conflist", "stuffing")
	must(t, os.Remove(stuffing))
	_, err := n.Install(settings)
	must(t, err)
	must(t, n.CheckInstalled())
}
