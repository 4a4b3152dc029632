// Command conformance runs the upstream Kubernetes e2e tests of NetworkPolicy
// on the lab, with tierwall installed by its chart and the default action
// Allow, once in each mode of kube-proxy. It prints passed and failed, and
// exits with status 1 unless all passed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/tierwall/tierwall/test/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	passed, err := conform(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
	}
	if err != nil || !passed {
		os.Exit(1)
	}
}

// conform says whether all tests passed in all modes.
func conform(ctx context.Context) (bool, error) {
	var r run
	modes := flag.String("modes", cluster.ProxyIPTables+","+cluster.ProxyNFTables, "modes of kube-proxy, one run each")
	flag.StringVar(&r.chart, "chart", "charts/tierwall", "chart to install; empty for a cluster without tierwall")
	flag.StringVar(&r.out, "o", "out/conformance", "directory for logs and JUnit reports")
	flag.StringVar(&r.focus, "focus", "Netpol", "regular expression of the tests to run")
	// The kernel of the lab may have no SCTP sockets.
	flag.StringVar(&r.skip, "skip", "SCTPConnectivity|using SCTP", "regular expression of the tests to leave out")
	flag.IntVar(&r.procs, "procs", 3, "tests that run at the same time")
	flag.Parse()

	if err := cluster.Build(ctx, os.Stderr, true); err != nil {
		return false, err
	}
	passed := true
	for _, mode := range strings.Split(*modes, ",") {
		result, err := r.mode(ctx, mode)
		if err != nil {
			return false, fmt.Errorf("kube-proxy in mode %s: %w", mode, err)
		}
		fmt.Printf("kube-proxy %s: %s\n", mode, result)
		passed = passed && result.ok()
	}
	return passed, nil
}
