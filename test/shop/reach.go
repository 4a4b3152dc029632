// Package shop is the demonstration's shop as tests and the demo see it: its
// pods, and who reaches whom, measured with real connections from inside them.
package shop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tierwall/tierwall/test/cluster"
)

// Tiers are the shop's, each with the port that it serves.
var Tiers = []struct{ Name, Port string }{{"frontend", "8080"}, {"backend", "8080"}, {"data", "5432"}}

// Namespaces are where the shop is deployed.
var Namespaces = []string{"prod", "test"}

// Workload is one tier of the shop in one namespace.
type Workload struct {
	Namespace, Tier, Port string
	Pod                   string
	Addrs                 []string // IPv4 and IPv6
}

func (w Workload) String() string { return w.Namespace + "/" + w.Tier }

// Targets are what a probe tries to reach the workload.
func (w Workload) Targets() []string {
	var out []string
	for _, a := range w.Addrs {
		out = append(out, "tcp:"+net.JoinHostPort(a, w.Port))
	}
	return out
}

// Find asks the API server for the pods of the shop and their addresses.
func Find(ctx context.Context, sh *Shell) ([]Workload, error) {
	var out []Workload
	for _, ns := range Namespaces {
		for _, t := range Tiers {
			text, err := sh.Run(ctx, "kubectl", "-n", ns, "get", "pods", "-l", "app="+t.Name,
				"--field-selector=status.phase=Running", "-o", "jsonpath={.items[0].metadata.name} {.items[0].status.podIPs[*].ip}")
			if err != nil {
				return nil, err
			}
			fields := strings.Fields(text)
			out = append(out, Workload{Namespace: ns, Tier: t.Name, Port: t.Port, Pod: fields[0], Addrs: fields[1:]})
		}
	}
	return out, nil
}

// Attempt is what the probe prints of one connection.
type Attempt struct {
	Target  string
	Sent    int64
	Reached bool
	Error   string
}

// Reachability is who reached whom: by source, by target, whether the
// connection came about.
type Reachability map[string]map[string]bool

// Measure makes a TCP connection from inside each pod to each other, and from
// outside the cluster, with the program probe, to each, over IPv4 and IPv6.
func Measure(ctx context.Context, sh *Shell, c *cluster.Cluster, probe string, workloads []Workload) (Reachability, error) {
	var targets []string
	for _, w := range workloads {
		targets = append(targets, w.Targets()...)
	}
	out := make([]map[string]bool, len(workloads)+1)
	var work errgroup.Group
	for i, w := range workloads {
		work.Go(func() (err error) {
			args := append([]string{"-n", w.Namespace, "exec", w.Pod, "--", "/probe", "reach", "-timeout", "700ms"}, targets...)
			text, err := sh.Run(ctx, append([]string{"kubectl"}, args...)...)
			out[i] = reached(strings.NewReader(text))
			return err
		})
	}
	work.Go(func() error {
		text, err := c.ControlPlane().Exec(ctx, append([]string{probe, "reach", "-timeout", "700ms"}, targets...)...)
		out[len(workloads)] = reached(strings.NewReader(text))
		return err
	})
	if err := work.Wait(); err != nil {
		return nil, err
	}
	all := Reachability{"outside": out[len(workloads)]}
	for i, w := range workloads {
		all[w.String()] = out[i]
	}
	return all, nil
}

// AwaitOpen waits until everyone in the shop reaches everyone, for ten seconds at
// most. A pod that is ready may not have its IPv6 address for another one to two:
// duplicate address detection (RFC 4862, section 5.4) is not part of readiness.
func AwaitOpen(ctx context.Context, sh *Shell, c *cluster.Cluster, probe string) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		workloads, err := Find(ctx, sh)
		if err != nil {
			return err
		}
		r, err := Measure(ctx, sh, c, probe, workloads)
		if err != nil {
			return err
		}
		closed := r.closed()
		if len(closed) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing is isolated yet, and still there is no connection from %s", strings.Join(closed, ", "))
		}
	}
}

// closed are the pairs that did not reach each other.
func (r Reachability) closed() []string {
	var out []string
	for from, targets := range r {
		for target, reached := range targets {
			if !reached {
				out = append(out, from+" to "+target)
			}
		}
	}
	slices.Sort(out)
	return out
}

func reached(r io.Reader) map[string]bool {
	out := map[string]bool{}
	for a := range Attempts(r) {
		out[a.Target] = a.Reached
	}
	return out
}

// Attempts reads the lines that a probe prints.
func Attempts(r io.Reader) func(yield func(Attempt) bool) {
	return func(yield func(Attempt) bool) {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			var a Attempt
			if json.Unmarshal(lines.Bytes(), &a) == nil && a.Target != "" && !yield(a) {
				return
			}
		}
	}
}

// FirstReached reads a probe's lines until one of its connections came about,
// and says when its first packet was sent.
func FirstReached(r io.Reader) (time.Time, bool) {
	for a := range Attempts(r) {
		if a.Reached {
			return time.Unix(0, a.Sent), true
		}
	}
	return time.Time{}, false
}
