//go:build cluster

package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/memgroup"
)

// starve has the kernel kill an enforcer because the memory of its container is used up.
func starve(t *testing.T, node *cluster.Node, pid string) {
	t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(node.Init.PID), "root/proc", pid)
	group, err := memgroup.Of(proc)
	must(t, err)
	filler, err := group.Exhaust(t.Context())
	must(t, err)
	defer func() { must(t, filler.Close()) }()
	eventually(t, time.Minute, "the kernel kills the enforcer on "+node.Name, func() error {
		if memgroup.Alive(proc) {
			return fmt.Errorf("process %s lives; %s", pid, filler)
		}
		return nil
	})
}
