// Command bench measures what compiling costs, by size of the cluster: all of it anew, a single
// change, and the memory of a node agent; and what a request to the webhook costs. It prints tables and takes some minutes.
//
// Times are of the program of one node that has a hundred pods: the medians of single changes, the
// least of compilations. "All anew" is compile.Compile; "first commit" is an engine that is told of everything; the others are single
// commits of it: a pod elsewhere gets other addresses, a pod here ends or starts, a pod elsewhere
// gets another label, and a policy that selects pods here changes. "×least" compares a column
// with its least, so that one sees what grows with the cluster.
//
// Memory is that of a process of its own, which has all of a node agent but its kernel, is given the chart's soft limit,
// and watches an API server that streams whole pods, as protobuf. What it has resident includes the pages of its program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/tierwall/tierwall/test/bench/workload"
)

var (
	pods     = []int{100, 1000, 10_000, 100_000}
	policies = []int{10, 100, 1000, 10_000}
)

func main() {
	webhook := flag.String("webhook", "", "be a webhook of the API server at this address, and say what memory that takes")
	n, m := flag.Int("pods", 0, "how many pods the API server has"), flag.Int("policies", 0, "how many policies")
	only := flag.String("only", "", "measure only the times, the memory, or admission")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *webhook, *only, workload.Town{Pods: *n, Policies: *m}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // the signal handler need not be undone
	}
}

func run(ctx context.Context, webhook, only string, size workload.Town) error {
	switch {
	case webhook != "":
		return beWebhook(ctx, webhook, size)
	case only == "times":
		return times(ctx)
	case only == "memory":
		return memory(ctx)
	case only == "admission":
		return judging(ctx)
	case only != "":
		return fmt.Errorf("-only %s: want times, memory or admission", only)
	}
	return errors.Join(times(ctx), memory(ctx), judging(ctx))
}

// judging measures the webhook: what a request takes, and the memory.
func judging(ctx context.Context) error {
	if err := admissions(ctx); err != nil {
		return err
	}
	t := newTable("webhook, pods", "policies", "in sync after", "live heap", "resident", "resident at most")
	for _, size := range []workload.Town{{Pods: 1000, Policies: 200}, {Pods: 10_000, Policies: 1000}} {
		m, err := runWebhook(ctx, size)
		if err != nil {
			return fmt.Errorf("a webhook of %d pods: %w", size.Pods, err)
		}
		t.add(size.Pods, size.Policies, m.Synced, bytes(m.Heap), bytes(m.Resident), bytes(m.Peak))
	}
	t.print(os.Stdout)
	return nil
}

func times(ctx context.Context) error {
	var sizes []workload.Town
	var results []result
	for _, n := range pods {
		for _, m := range policies {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			size := workload.Town{Pods: n, Policies: m}
			sizes, results = append(sizes, size), append(results, measure(size))
		}
	}
	least := results[0]
	for _, r := range results {
		least.elsewhere, least.here, least.relabelled = min(least.elsewhere, r.elsewhere), min(least.here, r.here), min(least.relabelled, r.relabelled)
	}
	t := newTable("pods", "policies", "nodes", "all anew", "first commit",
		"pod elsewhere", "×least", "pod here", "×least", "relabelled", "×least", "policy", "all anew / pod")
	for i, r := range results {
		t.add(sizes[i].Pods, sizes[i].Policies, sizes[i].Nodes(), r.anew, r.first,
			r.elsewhere, over(r.elsewhere, least.elsewhere), r.here, over(r.here, least.here),
			r.relabelled, over(r.relabelled, least.relabelled), r.policy, over(r.anew, r.elsewhere))
	}
	t.print(os.Stdout)
	return nil
}

func over(a, b time.Duration) ratio { return ratio(a.Seconds() / b.Seconds()) }

func memory(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program, err := buildAgent(ctx, dir)
	if err != nil {
		return err
	}
	t := newTable("pods", "policies", "in sync after", "live heap", "resident", "of its program", "resident at most")
	for _, size := range []workload.Town{{Pods: 100, Policies: 10}, {Pods: 1000, Policies: 100}, {Pods: 10_000, Policies: 1000},
		{Pods: 100_000, Policies: 100}, {Pods: 100_000, Policies: 10_000}} {
		m, err := runAgent(ctx, program, size)
		if err != nil {
			return fmt.Errorf("an agent of %d pods: %w", size.Pods, err)
		}
		t.add(size.Pods, size.Policies, m.Synced, bytes(m.Heap), bytes(m.Resident), bytes(m.File), bytes(m.Peak))
	}
	t.print(os.Stdout)
	return nil
}
