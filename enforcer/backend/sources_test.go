//go:build netns

package backend_test

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tierwall/tierwall/enforcer/backend"
	"github.com/tierwall/tierwall/enforcer/spoof"
	"github.com/tierwall/tierwall/test/netns"
)

// Whatever enforces policies, nftables guards sources where it can, and iptables where it cannot.
func TestSourcesAreGuardedByNFTablesWhereItCan(t *testing.T) {
	node := netns.NewSpace(t)
	guard := func(name string) (k spoof.Kernel) {
		t.Helper()
		if err := node.Do(func() error {
			c, err := backend.Drivers.Open(t.Context(), backend.Options{Name: name, Log: slog.New(slog.DiscardHandler)})
			k = c.Sources
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return k
	}
	for name := range writers {
		if k, ok := guard(name).(spoof.NFTables); !ok {
			t.Errorf("beside %s sources are guarded by %T", name, k)
		}
	}
	if out := node.Run(t, "nft", "list", "tables"); out != "" {
		t.Errorf("choosing made %s", out)
	}
	withoutNFT(t)
	if k, ok := guard("iptables-legacy").(spoof.IPTables); !ok || k.Mode != "legacy" {
		t.Errorf("without nft sources are guarded by %+v", k)
	}
}

// withoutNFT has the tools of iptables found, and nft not.
func withoutNFT(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"ipset", "iptables-legacy", "iptables-legacy-save", "iptables-legacy-restore", "ip6tables-legacy", "ip6tables-legacy-save", "ip6tables-legacy-restore"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}
