package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tierwall/tierwall/test/cluster"
)

// tiers are the shop's, each with the port that it serves.
var tiers = []struct{ name, port string }{{"frontend", "8080"}, {"backend", "8080"}, {"data", "5432"}}

// namespaces are where the shop is deployed.
var namespaces = []string{"prod", "test"}

// workload is one tier of the shop in one namespace.
type workload struct {
	namespace, tier, port string
	pod                   string
	addrs                 []string // IPv4 and IPv6
}

func (w workload) String() string { return w.namespace + "/" + w.tier }

// targets are what a probe tries to reach the workload.
func (w workload) targets() []string {
	var out []string
	for _, a := range w.addrs {
		out = append(out, "tcp:"+net.JoinHostPort(a, w.port))
	}
	return out
}

// findShop asks the API server for the pods of the shop and their addresses.
func findShop(ctx context.Context, sh *shell) ([]workload, error) {
	var out []workload
	for _, ns := range namespaces {
		for _, t := range tiers {
			text, err := sh.run(ctx, "kubectl", "-n", ns, "get", "pods", "-l", "app="+t.name,
				"--field-selector=status.phase=Running", "-o", "jsonpath={.items[0].metadata.name} {.items[0].status.podIPs[*].ip}")
			if err != nil {
				return nil, err
			}
			fields := strings.Fields(text)
			out = append(out, workload{namespace: ns, tier: t.name, port: t.port, pod: fields[0], addrs: fields[1:]})
		}
	}
	return out, nil
}

// attempt is what the probe prints of one connection.
type attempt struct {
	Target  string
	Sent    int64
	Reached bool
}

// reachability is who reached whom: by source, by target, whether the
// connection came about.
type reachability map[string]map[string]bool

// measure makes a TCP connection from inside each pod to each other, and from
// outside the cluster to each, over IPv4 and IPv6.
func measure(ctx context.Context, sh *shell, c *cluster.Cluster, shop []workload) (reachability, error) {
	var targets []string
	for _, w := range shop {
		targets = append(targets, w.targets()...)
	}
	out := make([]map[string]bool, len(shop)+1)
	var work errgroup.Group
	for i, w := range shop {
		work.Go(func() (err error) {
			args := append([]string{"-n", w.namespace, "exec", w.pod, "--", "/probe", "reach", "-timeout", "700ms"}, targets...)
			text, err := sh.run(ctx, append([]string{"kubectl"}, args...)...)
			out[i] = reached(strings.NewReader(text))
			return err
		})
	}
	work.Go(func() error {
		program, err := cluster.ProbeProgram(ctx)
		if err != nil {
			return err
		}
		text, err := c.ControlPlane().Exec(ctx, append([]string{program, "reach", "-timeout", "700ms"}, targets...)...)
		out[len(shop)] = reached(strings.NewReader(text))
		return err
	})
	if err := work.Wait(); err != nil {
		return nil, err
	}
	all := reachability{"outside": out[len(shop)]}
	for i, w := range shop {
		all[w.String()] = out[i]
	}
	return all, nil
}

func reached(r io.Reader) map[string]bool {
	out := map[string]bool{}
	for a := range attempts(r) {
		out[a.Target] = a.Reached
	}
	return out
}

// attempts reads the lines that a probe prints.
func attempts(r io.Reader) func(yield func(attempt) bool) {
	return func(yield func(attempt) bool) {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			var a attempt
			if json.Unmarshal(lines.Bytes(), &a) == nil && a.Target != "" && !yield(a) {
				return
			}
		}
	}
}

// printTable shows who reaches whom, and how many of the pairs do.
func printTable(shop []workload, r reachability) {
	fmt.Printf("\n   %-16s", "from \\ to")
	for _, to := range shop {
		fmt.Printf("%-15s", to)
	}
	open, pairs := 0, 0
	sources := []string{"outside"}
	for _, w := range shop {
		sources = append(sources, w.String())
	}
	for _, from := range sources {
		fmt.Printf("\n   %-16s", from)
		for _, to := range shop {
			if from == to.String() {
				fmt.Printf("%-15s", "")
				continue
			}
			mark, isOpen := cell(r[from], to)
			fmt.Print(mark)
			pairs++
			if isOpen {
				open++
			}
		}
	}
	fmt.Printf("\n   %s\n", faint(fmt.Sprintf("%d of %d pairs reach each other, over IPv4 and IPv6 alike unless marked 4 or 6", open, pairs)))
}

// cell is the mark of a pair, fifteen characters wide.
func cell(from map[string]bool, to workload) (string, bool) {
	var families []string
	for i, t := range to.targets() {
		if from[t] {
			families = append(families, []string{"4", "6"}[i%2])
		}
	}
	switch len(families) {
	case 0:
		return faint(fmt.Sprintf("%-15s", "·")), false
	case len(to.addrs):
		return green(fmt.Sprintf("%-15s", "reaches")), true
	default:
		return fmt.Sprintf("%-15s", strings.Join(families, "")), true
	}
}

// firstReached reads a probe's lines until one of its connections came about,
// and says when its first packet was sent.
func firstReached(r io.Reader) (time.Time, bool) {
	for a := range attempts(r) {
		if a.Reached {
			return time.Unix(0, a.Sent), true
		}
	}
	return time.Time{}, false
}
