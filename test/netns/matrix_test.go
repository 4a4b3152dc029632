//go:build netns

package netns

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

var modes = []iptables.Mode{iptables.NFT, iptables.Legacy}

// backend is a Backend on a node.
func (h *Host) backend(t testing.TB, m iptables.Mode) *iptables.Backend {
	t.Helper()
	var b *iptables.Backend
	if err := h.Do(func() (err error) {
		b, err = iptables.New(t.Context(), iptables.Options{Mode: m})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (h *Host) apply(t testing.TB, b *iptables.Backend, p *policy.Program) {
	t.Helper()
	if err := h.Do(func() error { return b.Apply(t.Context(), p) }); err != nil {
		t.Fatal(err)
	}
}

const (
	// forAllowed is how long a flow that should pass may take; it ends as soon as it does.
	forAllowed = time.Minute
	// forDenied is how long a flow that should not pass is given to pass after all.
	forDenied = 350 * time.Millisecond
	// atOnce is how many flows are tried at the same time.
	atOnce = 64
)

// check tries flows and compares what passes with what the API text says of the objects.
func (l *Lab) check(t *testing.T, c *oracle.Cluster, flows []policy.Flow, seen tally) {
	t.Helper()
	var wait sync.WaitGroup
	tokens := make(chan struct{}, atOnce)
	for _, f := range flows {
		passes, patience := oracle.Decide(c, f) == policy.Allow, forDenied
		if passes {
			patience = forAllowed
		}
		seen.note(l.way(f), f, passes)
		tokens <- struct{}{}
		wait.Go(func() {
			defer func() { <-tokens }()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if passed, err := l.Probe(ctx, f); err != nil || passed != passes {
				t.Errorf("%+v (%s): passed: %v (%v), the API text says egress %+v, ingress %+v",
					f, l.way(f), passed, err, oracle.ExplainEgress(c, f), oracle.ExplainIngress(c, f))
			}
		})
	}
	wait.Wait()
}

// ways are the ways that flows take through the nodes, with whether both verdicts are possible.
var ways = map[string]bool{
	"pod to pod on one node": true, "pod to pod on two nodes": true,
	"pod to its own node": true, "pod to another node": true,
	"node to its own pod": false, "node to another's pod": true,
	"pod to the world": true, "world to a pod": true,
	"from a pod that nobody knows": true, "to a pod that nobody knows": true,
}

// way is the way that a flow takes.
func (l *Lab) way(f policy.Flow) string {
	from, to := l.ByAddr(f.Source), l.ByAddr(f.Destination)
	switch {
	case to.Node != nil && to.Node == from:
		return "node to its own pod"
	case from.Name == unknownPod:
		return "from a pod that nobody knows"
	case to.Name == unknownPod:
		return "to a pod that nobody knows"
	case from == l.World:
		return "world to a pod"
	case to == l.World:
		return "pod to the world"
	case from.Node == nil:
		return "node to another's pod"
	case to == from.Node:
		return "pod to its own node"
	case to.Node == nil:
		return "pod to another node"
	case to.Node == from.Node:
		return "pod to pod on one node"
	default:
		return "pod to pod on two nodes"
	}
}

// tally counts flows by kind: way, protocol, IP family and verdict.
type tally map[string]int

func tallied(way string, p policy.Protocol, six, passes bool) string {
	protocol := p.String()
	if p == policy.ICMPv6 {
		protocol = "ICMP"
	}
	return fmt.Sprintf("%s, %s, IPv6: %v, passes: %v", way, protocol, six, passes)
}

func (n tally) note(way string, f policy.Flow, passes bool) {
	n[tallied(way, f.Protocol, f.Source.Is6(), passes)]++
}

// require makes sure that every kind of flow was tried.
func (n tally) require(t *testing.T) {
	t.Helper()
	for way, both := range ways {
		for _, p := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP, policy.ICMP} {
			for _, six := range []bool{false, true} {
				if n[tallied(way, p, six, true)] == 0 || both && n[tallied(way, p, six, false)] == 0 {
					t.Errorf("no flow was tried: %s", tallied(way, p, six, n[tallied(way, p, six, true)] > 0))
				}
			}
		}
	}
}

// labOf is the lab of a cluster, as its endpoints are, with one pod on the first
// node that nobody knows.
func labOf(t *testing.T, p *policy.Program) *Lab {
	l := NewLab(t, p.Hosts)
	for _, e := range p.Endpoints {
		l.AddPod(t, e.Node, e.Key(), e.Addrs...)
	}
	l.AddPod(t, p.Hosts[0].Name, unknownPod, netip.MustParseAddr("10.0.0.200"), netip.MustParseAddr("fd00:2::200"))
	return l
}

const unknownPod = "unknown"

// flows are flows of a cluster between those that are in its lab, and as many between them
// and the nodes, the world, and the pod that nobody knows.
func (l *Lab) flows(s *compile.Snapshot, seed uint64, n int) []policy.Flow {
	var out []policy.Flow
	r := generate.NewRand(seed)
	for len(out) < n {
		for _, f := range generate.Flows(r, s, n) {
			f.ICMPType = 0
			if r.IntN(2) == 0 {
				l.redirect(r, &f)
			}
			from, to := l.ByAddr(f.Source), l.ByAddr(f.Destination)
			if from == nil || to == nil || from == to || from.Node == nil && to.Node == nil || f.Protocol == gre {
				continue
			}
			if f.Protocol.HasPorts() && f.Protocol != policy.SCTP && !slices.Contains(Ports, f.DestinationPort) {
				f.DestinationPort = Ports[r.IntN(len(Ports))]
			}
			out = append(out, f)
		}
	}
	return out
}

const gre = policy.Protocol(47)

// redirect puts one end of a flow elsewhere than to a pod that is known.
func (l *Lab) redirect(r *rand.Rand, f *policy.Flow) {
	var hosts []*Host
	for _, name := range slices.Sorted(maps.Keys(l.Nodes)) {
		hosts = append(hosts, l.Nodes[name], l.Nodes[name])
	}
	hosts = append(hosts, l.World, l.Pods[unknownPod])
	a := family(hosts[r.IntN(len(hosts))].Addrs, f.Source)
	if r.IntN(2) == 0 {
		f.Source = a
	} else {
		f.Destination = a
	}
}

func TestPacketsPassAsTheAPITextSays(t *testing.T) {
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			seen := tally{}
			for seed := range uint64(clusters) {
				s := generate.Cluster(generate.NewRand(seed), generate.Size{Nodes: 2, Pods: 10, NetworkPolicies: 6, ClusterNetworkPolicies: 3, TierRoles: 2})
				p, _ := compile.Compile(s, "")
				l := labOf(t, p)
				for name, n := range l.Nodes {
					own, _ := compile.Compile(s, name)
					n.apply(t, n.backend(t, m), own)
				}
				l.check(t, generate.Objects(generate.NewRand(seed), s), l.flows(s, seed, flowsPerCluster), seen)
				if t.Failed() {
					t.Fatalf("seed %d:\n%s", seed, p)
				}
			}
			t.Logf("%d flows of %d kinds in %d clusters", clusters*flowsPerCluster, len(seen), clusters)
			seen.require(t)
		})
	}
}

const clusters, flowsPerCluster = 8, 600
