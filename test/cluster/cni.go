package cluster

import (
	"fmt"
	"os"
	"path/filepath"
)

// debianPlugins is where the package containernetworking-plugins has them.
const debianPlugins = "/usr/lib/cni"

// linkPlugins gives a node a directory of plugins of its own, so that what is installed there by a
// pod does not reach the host.
func linkPlugins(dir string) error {
	plugins, err := os.ReadDir(debianPlugins)
	if err != nil {
		return fmt.Errorf("find the CNI plugins: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range plugins {
		if err := os.Symlink(filepath.Join(debianPlugins, p.Name()), filepath.Join(dir, p.Name())); err != nil {
			return err
		}
	}
	return nil
}

// cniConfig joins pods to the node with the ptp plugin, one address of each
// family, and has portmap serve host ports.
func cniConfig(at place) string {
	return fmt.Sprintf(`{
  "cniVersion": "0.4.0",
  "name": "lab",
  "plugins": [
    {
      "type": "ptp",
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/lab/ipam",
        "ranges": [[{"subnet": %q}], [{"subnet": %q}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, at.pod4, at.pod6)
}
