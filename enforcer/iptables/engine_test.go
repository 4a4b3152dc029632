package iptables

import (
	"slices"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
)

// Random clusters change step by step, and the kernel of each family is told what the
// incremental compiler says: no flow that a step leaves as it is changes for a moment, and
// the kernel ends as if it had been made from nothing.
func TestTheBackendFollowsTheIncrementalCompiler(t *testing.T) {
	watched, changes := 0, 0
	for seed := range uint64(40) {
		size := generate.Small
		if seed%2 == 0 {
			size = generate.Crowded
		}
		start := generate.Cluster(generate.NewRand(seed), size)
		engine := compile.NewEngine("node-0", start.Defaults)
		engine.Commit(start.Update())
		old := engine.Program()
		kernels := map[Family]*kernel{}
		for _, f := range families {
			kernels[f] = newKernel(t, f)
			kernels[f].apply(t, old)
		}
		for _, step := range generate.Steps(generate.NewRand(seed), start, size, 25) {
			c := engine.Commit(step.Update)
			next := engine.Program()
			if !c.Empty() {
				changes++
			}
			flows := slices.DeleteFunc(generate.Flows(generate.NewRand(seed), start, 60), func(f policy.Flow) bool {
				return elsewhere(old, f) || elsewhere(next, f)
			})
			for f, k := range kernels {
				own := slices.DeleteFunc(slices.Clone(flows), func(flow policy.Flow) bool { return !f.has(flow.Source) })
				watched += watch(t, k, old, next, own, func() {
					if f.in(old) != f.in(next) {
						k.apply(t, next)
					} else {
						k.update(t, next, c)
					}
				})
				k.check(t)
			}
			old = next
		}
	}
	t.Logf("%d changes, %d verdicts watched", changes, watched)
	if changes < 200 || watched < 10_000 {
		t.Error("the sequences show too little")
	}
}

// elsewhere reports whether a flow does not pass the forward hook as it is.
func elsewhere(p *policy.Program, f policy.Flow) bool {
	var host policy.Host
	if i := slices.IndexFunc(p.Hosts, func(h policy.Host) bool { return h.Name == "node-0" }); i >= 0 {
		host = p.Hosts[i]
	}
	if slices.Contains(host.Addrs, f.Source) || slices.Contains(host.Addrs, f.Destination) {
		return true
	}
	return slices.ContainsFunc(p.Endpoints, func(e policy.Endpoint) bool {
		from, to := slices.Contains(e.Addrs, f.Source), slices.Contains(e.Addrs, f.Destination)
		return from && to || from && slices.Contains(host.Addrs, f.Source) || to && slices.Contains(host.Addrs, f.Destination)
	})
}
