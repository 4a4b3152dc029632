// Command hooks is what the chart's hooks run: they take a release out of a cluster, and ask one
// whether it does its work. It is a program of its own so that the node agent, which is on every
// node, need not know all kinds of Kubernetes.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/tierwall/tierwall/internal/version"
)

func main() {
	root := &cobra.Command{Use: "tierwall-hooks", Short: "What the chart's hooks run", Version: version.Version,
		SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(newUninstallCommand(), newSelftestCommand())
	if err := root.ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "tierwall-hooks:", err)
		os.Exit(1)
	}
}
