// Command conformance runs upstream tests on the lab, with tierwall installed by
// its chart and the default action Allow, once in each mode of kube-proxy:
//
//   - netpol: the Kubernetes e2e tests of NetworkPolicy;
//   - cnp: the conformance suite of ClusterNetworkPolicy, of the module
//     sigs.k8s.io/network-policy-api, with all its features.
//
// It prints passed and failed, and exits with status 1 unless all passed.
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

// conform reports whether all tests passed in all modes.
func conform(ctx context.Context) (bool, error) {
	var r run
	var e2e netpol
	modes := flag.String("modes", cluster.ProxyIPTables+","+cluster.ProxyNFTables, "modes of kube-proxy, one run each")
	suites := flag.String("suites", "netpol,cnp", "suites to run")
	flag.StringVar(&r.chart, "chart", "charts/tierwall", "chart to install; empty for a cluster without tierwall")
	flag.StringVar(&r.out, "o", "out/conformance", "directory for logs and reports")
	flag.StringVar(&e2e.focus, "focus", "Netpol", "netpol: regular expression of the tests to run")
	flag.StringVar(&e2e.skip, "skip", "", "netpol: regular expression of the tests to leave out")
	flag.IntVar(&e2e.procs, "procs", 3, "netpol: tests that run at the same time")
	flag.Parse()

	known := map[string]suite{"netpol": e2e, "cnp": cnp{}}
	for _, name := range strings.Split(*suites, ",") {
		s, ok := known[name]
		if !ok {
			return false, fmt.Errorf("no suite %q: want netpol or cnp", name)
		}
		r.suites = append(r.suites, named{name, s})
	}
	if err := cluster.Build(ctx, os.Stderr, true); err != nil {
		return false, err
	}
	passed := true
	for _, mode := range strings.Split(*modes, ",") {
		ok, err := r.mode(ctx, mode)
		if err != nil {
			return false, fmt.Errorf("kube-proxy in mode %s: %w", mode, err)
		}
		passed = passed && ok
	}
	return passed, nil
}
