// Command worst searches for the policies that cost most for what is written in them: rules, elements, sets and lookups
// of both backends, memory of the agent, and memory of the effect that the webhook computes. It goes by hill climbing over
// recipes for NetworkPolicies and ClusterNetworkPolicies, prints the worst that it found, and can write them as manifests.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"text/tabwriter"
	"time"

	"sigs.k8s.io/yaml"
)

func main() {
	duration := flag.Duration("for", 4*time.Minute, "how long to search, in all")
	limit := flag.Int("bytes", 30_000, "the size of the policies, as JSON; the API server takes up to 1.5 MB for one")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "the seed of the search")
	dir := flag.String("o", "", "a folder to write the worst policies to, as manifests and recipes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *duration, *limit, *seed, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "worst:", err)
		os.Exit(1) //nolint:gocritic // the signal handler need not be undone
	}
}

func run(ctx context.Context, duration time.Duration, limit int, seed uint64, dir string) error {
	fmt.Fprintf(os.Stderr, "searching for %v with seed %d, policies of %d bytes\n", duration, seed, limit)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "goal\tworst\tbytes\twritten\tiptables rules\telements\tsets\tlookups\tnftables rules\telements\tlookups\teffect MB\tms\trows\t")
	for i, g := range goals {
		part, cancel := context.WithTimeout(ctx, duration/time.Duration(len(goals)))
		c := climb{goal: g, rand: rand.New(rand.NewPCG(seed, uint64(i))), limit: limit, progress: func(f found) {
			fmt.Fprintf(os.Stderr, "%s: %.3g after %d tries\n", g.name, f.value, f.tries)
		}}
		err := c.run(part, 1<<30)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		if len(c.worst) == 0 {
			continue
		}
		if err := report(ctx, table, g, c.worst[0], limit); err != nil {
			return err
		}
		if err := save(dir, i, c.worst, limit); err != nil {
			return err
		}
	}
	return table.Flush()
}

// report adds a line to the table.
func report(ctx context.Context, table *tabwriter.Writer, g goal, f found, limit int) error {
	c, err := measurePolicies(ctx, f.Recipe.make(limit), true)
	if err != nil {
		return err
	}
	fmt.Fprintf(table, "%s\t%.3g\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f\t%d\t%d\t\n", g.name, f.value, c.Bytes, c.Written,
		c.IPTables.Rules, c.IPTables.Elements, c.IPTables.Sets, c.IPTables.Lookups,
		c.NFTables.Rules, c.NFTables.Elements, c.NFTables.Lookups, float64(c.EffectBytes)/1e6, c.EffectTime.Milliseconds(), c.Rows)
	return nil
}

// save writes what was found, as manifests and recipes.
func save(dir string, goal int, worst []found, limit int) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i, f := range worst {
		name := filepath.Join(dir, fmt.Sprintf("worst-%d-%02d", goal, i))
		recipe, err := json.MarshalIndent(f.Recipe, "", "  ")
		if err != nil {
			return err
		}
		manifests, err := f.Recipe.make(limit).manifests()
		if err != nil {
			return err
		}
		for path, text := range map[string][]byte{name + ".json": recipe, name + ".yaml": manifests} {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// manifests are the policies as kubectl apply reads them.
func (o Policies) manifests() ([]byte, error) {
	var objects []any
	for _, p := range o.Namespaced {
		objects = append(objects, p)
	}
	for _, p := range o.Cluster {
		objects = append(objects, p)
	}
	var out []byte
	for _, object := range objects {
		text, err := yaml.Marshal(object)
		if err != nil {
			return nil, err
		}
		out = append(append(out, "---\n"...), text...)
	}
	return out, nil
}
