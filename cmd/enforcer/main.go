// Command enforcer is tierwall's node agent: it keeps the node's packet
// filter equal to the network policies of the cluster.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tierwall/tierwall/internal/version"
)

func main() {
	root := newRunCommand()
	root.Version = version.Version
	root.AddCommand(newCleanupCommand())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "enforcer:", err)
		os.Exit(1)
	}
}
