//go:build netns

package nftables

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/netns"
)

const (
	// forDenied is how long a flow that should not pass is given to pass after all.
	forDenied = 350 * time.Millisecond
	// atOnce is how many flows are tried at the same time.
	atOnce = 64
)

// check tries flows and compares what passes with what the program says.
func check(t *testing.T, l *netns.Lab, p *policy.Program, flows []policy.Flow) (allowed, denied int) {
	t.Helper()
	e := eval.New(p)
	var wait sync.WaitGroup
	tokens := make(chan struct{}, atOnce)
	for _, f := range flows {
		want := e.Decide(f)
		patience := forDenied
		if want.Verdict == policy.Allow {
			patience = forAllowed
			allowed++
		} else {
			denied++
		}
		tokens <- struct{}{}
		wait.Go(func() {
			defer func() { <-tokens }()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			passed, err := l.Probe(ctx, f)
			if err != nil || passed != (want.Verdict == policy.Allow) {
				t.Errorf("%+v: passed: %v (%v), the program says %+v", f, passed, err, want)
			}
		})
	}
	wait.Wait()
	return allowed, denied
}

// labOf is the lab of a cluster, as its endpoints are, with one pod on the first
// node that nobody knows.
func labOf(t *testing.T, p *policy.Program) *netns.Lab {
	l := netns.NewLab(t, p.Hosts)
	for _, e := range p.Endpoints {
		if len(e.Addrs) > 0 {
			l.AddPod(t, e.Node, e.Key(), e.Addrs...)
		}
	}
	l.AddPod(t, p.Hosts[0].Name, "unknown", netip.MustParseAddr("10.0.0.200"), netip.MustParseAddr("fd00:2::200"))
	return l
}

// claimsNode reports whether a pod claims the address of a node, which a lab cannot have.
func claimsNode(p *policy.Program) bool {
	return slices.ContainsFunc(p.Endpoints, func(e policy.Endpoint) bool {
		return slices.ContainsFunc(p.Hosts, func(h policy.Host) bool {
			return slices.ContainsFunc(h.Addrs, func(a netip.Addr) bool { return slices.Contains(e.Addrs, a) })
		})
	})
}

// flows are flows of a cluster between those that are in its lab.
func flowsIn(l *netns.Lab, s *compile.Snapshot, seed uint64, n int) []policy.Flow {
	var out []policy.Flow
	r := generate.NewRand(seed)
	for len(out) < n {
		for _, f := range generate.Flows(r, s, n) {
			from, to := l.ByAddr(f.Source), l.ByAddr(f.Destination)
			if from == nil || to == nil || from == to || f.Protocol == 47 || f.Source == f.Destination {
				continue
			}
			f.ICMPType = 0 // probes are echo requests
			if f.Protocol.HasPorts() && f.Protocol != policy.SCTP && !slices.Contains(netns.Ports, f.DestinationPort) {
				f.DestinationPort = netns.Ports[r.IntN(len(netns.Ports))]
			}
			out = append(out, f)
		}
	}
	for _, h := range l.Nodes { // and those of the pod that nobody knows
		for _, a := range l.Pods["unknown"].Addrs {
			node := h.Addrs[slices.IndexFunc(h.Addrs, func(n netip.Addr) bool { return n.Is4() == a.Is4() })]
			out = append(out,
				policy.Flow{Source: a, Destination: node, Protocol: policy.TCP, DestinationPort: 80},
				policy.Flow{Source: node, Destination: a, Protocol: policy.TCP, DestinationPort: 80})
		}
	}
	return out
}

func TestPacketsPassAsTheProgramSays(t *testing.T) {
	tried := map[bool]int{}
	for seed, clusters := uint64(1), 0; clusters < 4; seed++ {
		size := generate.Size{Nodes: 2, Pods: 10, NetworkPolicies: 6, ClusterNetworkPolicies: 3, TierRoles: 2}
		if seed%2 == 0 {
			size.NetworkPolicies = 20
		}
		s := generate.Cluster(generate.NewRand(seed), size)
		p, _ := compile.Compile(s, "")
		if claimsNode(p) {
			continue
		}
		clusters++
		l := labOf(t, p)
		for name, host := range l.Nodes {
			own, _ := compile.Compile(s, name)
			n := nodeOn(t, host.Space, ruletext.DenyLog{})
			n.Apply(n.Open(), own)
		}
		allowed, denied := check(t, l, p, flowsIn(l, s, seed, 500))
		tried[true] += allowed
		tried[false] += denied
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, p)
		}
	}
	t.Logf("%d flows that pass and %d that do not", tried[true], tried[false])
	if tried[true] < 300 || tried[false] < 500 {
		t.Error("the flows show too little")
	}
}
