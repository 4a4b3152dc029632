// Command tierwall judges, compares and explains network policies, in a folder
// of manifests or on a live cluster. Named kubectl-tierwall it is a plugin of kubectl.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/tierwall/tierwall/cli"
)

// gcPercent lets a program that ends soon collect garbage less often. GOGC has precedence.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := cli.Run(ctx, os.Args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(status)
}
