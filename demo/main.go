// Command demo shows tierwall at work: it boots a real cluster of two nodes on
// this machine, installs tierwall with Helm, and lets a shop of three tiers be
// labelled, guarded and isolated.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, "demo: boot a cluster, install tierwall, and show a shop of three tiers being isolated\n\n"+
			"Run it as root from the top of the repository: make demo. It leaves the cluster up;\nmake demo-down removes every trace.\n")
	}
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		fmt.Fprintln(os.Stderr, "demo: make demo-down removes what is up")
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := begin(ctx)
	if s != nil {
		defer os.RemoveAll(s.scratch)
	}
	if err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{
		s.deployShop, s.install, s.isolate, s.mistakes, s.soundChange, s.forgeries, s.chains,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	s.farewell()
	return nil
}
