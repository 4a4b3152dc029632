// Command enforcer is tierwall's node agent: it keeps the node's packet
// filter equal to the network policies of the cluster.
package main

import (
	"fmt"
	"os"

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/tierwall/tierwall/internal/version"
)

func main() {
	root := newRunCommand()
	root.Version = version.Version
	root.AddCommand(newCleanupCommand(), newUninstallCommand(), newSelftestCommand())
	if err := root.ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "enforcer:", err)
		os.Exit(1)
	}
}
